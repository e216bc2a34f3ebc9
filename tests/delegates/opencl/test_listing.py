"""What is listed where pyopencl, drivers or devices are missing or broken."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.delegates.opencl.harness import TRAITS
from tests.support import require

from delegraph.core.abi.values import DelegateError, ErrorCode
from delegraph.delegates.opencl import OpenClDelegate, probe
from delegraph.delegates.opencl.probe import Found, Inventory
from delegraph.delegates.opencl.traits import Traits


class Child:
    """A child process that says what it is told to: for each run its lines, and how it ended."""

    def __init__(self, *runs: tuple[list[object], str]) -> None:
        self.runs = list(runs)
        self.arguments: list[Sequence[str]] = []

    def __call__(self, arguments: Sequence[str]) -> tuple[str, str]:
        self.arguments.append(arguments)
        lines, failure = self.runs.pop(0)
        return "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), failure


@pytest.fixture(autouse=True)
def pyopencl_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as the probe can tell."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def _start(index: int, traits: Traits = TRAITS) -> dict[str, object]:
    return {"start": index, "traits": traits.as_dict()}


def _end(index: int, problem: str = "") -> dict[str, object]:
    return {"end": index, "problem": problem}


def test_without_pyopencl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (info,) = OpenClDelegate(lambda: probe.probe(Child())).devices()
    assert (info.id, info.available) == ("opencl", False)
    assert "pyopencl" in info.reason and info.remedy == "pip install 'delegraph[opencl]'"


def test_without_a_driver() -> None:
    child = Child(([{"none": "clGetPlatformIDs failed: PLATFORM_NOT_FOUND_KHR"}], ""))
    (info,) = OpenClDelegate(lambda: probe.probe(child)).devices()
    assert (info.id, info.reason) == ("opencl", "no OpenCL driver is installed")
    assert "apt-get install pocl-opencl-icd" in info.remedy


def test_without_a_driver_for_real(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    require("opencl")
    monkeypatch.setenv("OCL_ICD_VENDORS", str(tmp_path))
    found = probe.probe()
    assert not found.devices and found.reason == probe.NO_DRIVER


def test_a_driver_that_can_build_nothing_is_listed_with_its_message() -> None:
    child = Child(([_start(0), _end(0, "unknown target CPU 'generic'"), "noise", _start(1), _end(1)], ""))
    broken, good = OpenClDelegate(lambda: probe.probe(child)).devices()
    assert (broken.id, broken.available, good.id, good.available) == ("opencl:0", False, "opencl:1", True)
    assert "unknown target CPU 'generic'" in broken.reason and broken.remedy


def test_a_device_with_small_work_groups_is_listed_as_unusable() -> None:
    sizes = (63, 64)
    found = Inventory(tuple(Found(replace(TRAITS, max_group=size)) for size in sizes))
    small, large = OpenClDelegate(lambda: found).devices()
    assert "found 63 at most" in small.reason and small.remedy
    assert (small.available, large.available) == (False, True)


def test_a_driver_that_crashes_does_not_hide_the_others() -> None:
    child = Child(
        ([_start(0), _end(0), _start(1)], "the driver crashed (signal 11)"),
        ([_start(2), _end(2)], ""),
    )
    infos = OpenClDelegate(lambda: probe.probe(child)).devices()
    assert [info.available for info in infos] == [True, False, True]
    assert "signal 11" in infos[1].reason
    assert child.arguments == [[], ["0", "1"]]


def test_a_loader_that_crashes() -> None:
    (info,) = OpenClDelegate(lambda: probe.probe(Child(([], "the driver crashed (signal 6)")))).devices()
    assert not info.available and "signal 6" in info.reason


def test_a_child_that_really_crashes_or_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    monkeypatch.setattr(probe, "_CHILD", script)
    start = json.dumps(_start(0))
    script.write_text(f"import os, signal\nprint({start!r}, flush=True)\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    printed, failure = probe.run_child([])
    assert start in printed and "signal 11" in failure
    monkeypatch.setattr(probe, "TIMEOUT_S", 1.0)
    script.write_text(f"import threading\nprint({start!r}, flush=True)\nthreading.Event().wait()\n")
    printed, failure = probe.run_child([])
    assert start in printed and "no answer within 1 s" in failure
    monkeypatch.setattr(sys, "executable", os.fspath(tmp_path / "nothing"))
    assert "could not be started" in probe.run_child([])[1]


def test_listing_never_raises() -> None:
    def broken() -> Inventory:
        raise RuntimeError("surprise")

    (info,) = OpenClDelegate(broken).devices()
    assert not info.available and "surprise" in info.reason


def test_unusable_and_unknown_devices_can_not_be_opened() -> None:
    delegate = OpenClDelegate(lambda: Inventory((Found(TRAITS, "it is broken"),)))
    for device_id, message in (("opencl:0", "it is broken"), ("opencl:7", "no such OpenCL device")):
        with pytest.raises(DelegateError, match=message) as caught:
            delegate.open(device_id, {})
        assert caught.value.code is ErrorCode.INVALID


def test_a_device_that_has_gone_since() -> None:
    require("opencl")
    delegate = OpenClDelegate(lambda: Inventory((Found(replace(TRAITS, platform=99)),)))
    with pytest.raises(DelegateError, match="no longer where it was found") as caught:
        delegate.open("opencl:0", {})
    assert caught.value.code is ErrorCode.DEVICE_LOST


def test_fingerprint_names_driver_and_device() -> None:
    require("opencl")
    info = next(info for info in OpenClDelegate().devices() if info.available)
    assert set(info.fingerprint) == {"platform", "device", "driver", "version"}
    assert all(info.fingerprint.values())
    assert info.may_hang and info.memory_domain == info.id and info.launch_ns > 0


def test_what_changes_the_fingerprint_digest() -> None:
    same = replace(TRAITS, platform=3, device=1, max_buffer_bytes=5)
    assert same.fingerprint_digest == TRAITS.fingerprint_digest
    for changed in (
        replace(TRAITS, driver="1.1"),
        replace(TRAITS, name="Acme GPU 2"),
        replace(TRAITS, platform_version="2"),
        replace(TRAITS, version="OpenCL 3.0"),
        replace(TRAITS, rounded_division=False),
    ):
        assert changed.fingerprint_digest != TRAITS.fingerprint_digest
