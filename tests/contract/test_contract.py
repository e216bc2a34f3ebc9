"""The suite over every delegate here: those that come with delegraph, the skeleton, the examples in Python and in C."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from tests.delegates.native.compiler import library

from delegraph import registry
from delegraph.core.abi.values import DeviceInfo
from delegraph.testing.contract import Finding, all_checks, examine
from delegraph.testing.contract.runner import Task, run_task

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "tests" / "delegates" / "example_delegate.py"

SPAWNS = frozenset(check.id for check in all_checks() if check.spawns)


KNOWN: dict[tuple[str, str], str] = {}
"""(delegate, check) → what breaks the rule today. Whoever mends it takes the line out: the tests ask for that."""


@cache
def available() -> list[DeviceInfo]:
    return [info for delegate in registry.built_in() for info in delegate.devices() if info.available]


def known(delegate: str) -> set[str]:
    return {check for name, check in KNOWN if name == delegate}


def failed(findings: Iterator[Finding] | list[Finding]) -> dict[str, str]:
    return {finding.check: finding.found for finding in findings if finding.outcome == "failed"}


@pytest.mark.parametrize("device", [info.id for info in available()])
def test_devices_of_our_own(device: str) -> None:
    """In this process. Another process is asked for one device of each delegate only: that takes seconds."""
    delegate = registry.delegate_of(device)
    is_first = next(info.id for info in delegate.devices() if info.available) == device
    checks = [check for check in all_checks() if is_first or check.id not in SPAWNS]
    found = failed(
        [
            run_task(delegate, Task(check, device if check.needs_device else ""), delegate.name)
            for check in checks
            if is_first or check.needs_device
        ]
    )
    assert set(found) == known(delegate.name), found


def test_the_skeleton() -> None:
    found = list(examine("null"))
    assert failed(found) == {}
    assert {finding.outcome for finding in found} == {"passed", "skipped"}


def test_the_example_in_python() -> None:
    found = failed(examine(str(EXAMPLE)))
    assert set(found) == known("example"), found


def test_the_example_in_a_process_of_its_own() -> None:
    found = failed(examine(str(EXAMPLE), isolate=True))
    assert set(found) == known("example, isolated"), found


def test_the_example_in_c(tmp_path: Path) -> None:
    found = failed(examine(str(library(tmp_path)), device="acme:0"))
    assert set(found) == known("acme"), found
