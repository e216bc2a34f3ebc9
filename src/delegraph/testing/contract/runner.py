"""Checks a delegate in this process: right for delegates that don't crash, and for tests. Imports check, subject."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from delegraph.core.abi.protocols import Delegate
from delegraph.core.abi.values import DeviceInfo
from delegraph.core.errors import InvalidArgument
from delegraph.testing.contract.check import Check, all_checks
from delegraph.testing.contract.finding import Broken, Finding, Outcome, Skipped
from delegraph.testing.contract.subject import Subject


@dataclass(frozen=True, slots=True)
class Task:
    """One check on one device, "" for the delegate as a whole."""

    check: Check
    device: str


def selected(only: Sequence[str] | None) -> tuple[Check, ...]:
    """The checks of these ids, or of these subjects ("artifact" for all of "artifact.*"); all for None.

    Raises:
        InvalidArgument: there is no such check.
    """
    if only is None:
        return all_checks()
    for name in only:
        if not any(_is_called(check, name) for check in all_checks()):
            ids = ", ".join(check.id for check in all_checks())
            raise InvalidArgument("check", f"one of {ids}", repr(name), "list them: docs/writing-a-delegate.md")
    return tuple(check for check in all_checks() if any(_is_called(check, name) for name in only))


def _is_called(check: Check, name: str) -> bool:
    return name in (check.id, check.id.partition(".")[0])


def tasks(delegate: Delegate, checks: Sequence[Check], device: str | None = None) -> list[Task]:
    """The checks of the delegate, then those of each of its available devices, or of the one that is named.

    Raises:
        InvalidArgument: the delegate has no such device.
    """
    try:
        listed = [info for info in delegate.devices() if isinstance(info, DeviceInfo)]
    except Exception:  # devices.never_raises says so
        listed = []
    if device is not None and device not in {info.id for info in listed}:
        known = ", ".join(info.id for info in listed) or "none"
        raise InvalidArgument("device", f"a device of {delegate.name} ({known})", repr(device))
    chosen = [info.id for info in listed if info.id == device or (device is None and info.available)]
    found = [Task(check, "") for check in checks if not check.needs_device]
    found += [Task(check, id) for id in dict.fromkeys(chosen) for check in checks if check.needs_device]
    if not chosen:
        found += [Task(check, "") for check in checks if check.needs_device]
    return found


def run_task(delegate: Delegate, task: Task, name: str = "", *, is_isolated: bool = False) -> Finding:
    """Makes one check. name, is_isolated: see Subject."""
    start = time.monotonic()
    outcome, found, detail = _outcome(delegate, task, name, is_isolated)
    seconds = time.monotonic() - start
    return Finding(task.check.id, task.device, outcome, task.check.sentence, found, detail, seconds)


def _outcome(delegate: Delegate, task: Task, name: str, is_isolated: bool) -> tuple[Outcome, str, str]:
    if task.check.needs_device and not task.device:
        return "skipped", "the delegate has no available device", ""
    if task.check.spawns and not name:
        return "skipped", "it needs a delegate that another process can find by name", ""
    info = None
    if task.device:
        info = next(info for info in delegate.devices() if info.id == task.device)
    subject = Subject(delegate, info, name, is_isolated)
    try:
        task.check.function(subject)
        subject.close_all()
    except Skipped as exc:
        return "skipped", str(exc), ""
    except Broken as exc:
        return "failed", str(exc), ""
    except Exception as exc:
        return "failed", f"it raised {type(exc).__name__}: {exc}{_where(exc)}", traceback.format_exc()
    finally:
        with contextlib.suppress(Exception):  # closing has checks of its own; here it must not hide the outcome
            subject.close_all()
    return "passed", "", ""


def _where(exc: Exception) -> str:
    """The last line of the delegate's own that the exception came through."""
    frames = [f for f in traceback.extract_tb(exc.__traceback__) if "delegraph/testing/contract" not in f.filename]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def run(
    delegate: Delegate, *, device: str | None = None, only: Sequence[str] | None = None, name: str = ""
) -> Iterator[Finding]:
    """Makes the checks one after the other. name: how another process finds the delegate (``naming.find``)."""
    for task in tasks(delegate, selected(only), device):
        yield run_task(delegate, task, name)
