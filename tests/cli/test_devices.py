"""Devices by name: those that can't be used say why, names that nothing has get help, and so do broken files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Call, Given, MakeModel

import delegraph as dg
from delegraph import registry
from delegraph.core import devices
from delegraph.core.abi.values import DeviceInfo
from delegraph.core.graph.dtype import DType
from delegraph.delegates.cpu import llvm
from delegraph.delegates.opencl import OpenClDelegate, probe


@pytest.fixture
def model(passing: MakeModel) -> Path:
    return passing(Given(DType.FLOAT32, (1, 4)))


# --- devices that can't be used


def test_a_cpu_that_can_not_be_used_is_told_by_default(
    delegraph: Call, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "llvmlite is not installed; pip install 'delegraph[cpu]'"
    assert "was not used" not in delegraph("run", model, "--random", "--devices", "reference").err
    monkeypatch.setattr(llvm, "is_present", lambda: False)
    for arguments in (("run", model, "--random"), ("demo", "--count", 1)):
        result = delegraph(*arguments)
        assert result.code == 0 and f"note: cpu was not used: {why}\n" in result.err
    assert delegraph("run", model, "--random", "--json").json["unused_devices"] == {"cpu": why}
    assert "was not used" not in delegraph("run", model, "--random", "--devices", "reference").err


@pytest.fixture
def no_opencl(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without pyopencl."""
    without = OpenClDelegate(lambda: probe.Inventory((), probe.NOT_INSTALLED, probe.INSTALL))
    monkeypatch.setitem(registry._built, "opencl", without)


@pytest.mark.usefixtures("no_opencl")
def test_a_family_that_can_not_be_used_speaks_for_its_devices(delegraph: Call, model: Path) -> None:
    why = "pyopencl is not installed"
    result = delegraph("run", model, "--random", "--devices", "opencl:0")
    assert result.code == 0 and why in result.err and "pip install 'delegraph[opencl]'" in result.err
    refused = delegraph("run", model, "--random", "--devices", "opencl:0", "--fallback", "error")
    assert refused.code == 6 and why in refused.err
    assert why in delegraph("devices", "opencl:0").out
    asked = delegraph("ops", "CONV_2D", "--device", "opencl:0")
    assert asked.code == 5 and why in asked.err and "pip install" in asked.err
    assert [info.id for info in registry.resolve("opencl:0", floor=False)] == ["opencl"]
    with pytest.raises(dg.InvalidArgument, match="expected a device that can be used, found none: .*pyopencl.*; pip"):
        dg.device("opencl:0")


# --- names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "foo",
            "expected one of cpu, opencl, nnapi, reference, or a device of one of them, found 'foo'; see: delegraph",
        ),
        ("CPU", "found 'CPU'; did you mean 'cpu'?"),
        ("GPU", "found 'GPU'; did you mean 'opencl'?"),
        ("npu", "found 'npu'; did you mean 'nnapi'?"),
        ("coral-usb", "found 'coral-usb'; did you mean 'nnapi:coral-usb'?"),
        ("nnapi:coral", "expected one of nnapi:sample-all, "),
        ("nnapi:coral", "found 'nnapi:coral'; did you mean 'nnapi:coral-usb'?"),
        ("auto", "found 'auto'; choosing devices by themselves is to come: name those that may compete"),
        (3, "found 3; see: delegraph devices"),
    ],
)
def test_names_that_nothing_has(name: Any, message: str) -> None:
    with pytest.raises(dg.InvalidArgument) as failed:
        registry.resolve([name])
    assert message in str(failed.value)


def test_each_command_helps_with_names(delegraph: Call, model: Path) -> None:
    for arguments in (("devices", "CPU"), ("ops", "--device", "CPU"), ("run", model, "--random", "--devices", "CPU")):
        result = delegraph(*arguments)
        assert result.code == 5 and "  tip: did you mean 'cpu'? see: delegraph devices" in result.err


def test_an_unusable_device_beside_usable_ones_is_no_error(delegraph: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A family of which one device works can be asked."""

    def both() -> Sequence[DeviceInfo]:
        (cpu,) = registry.resolve("cpu", floor=False)
        return (
            dataclasses.replace(cpu, available=False, reason="gone", remedy="mend it"),
            *registry.resolve("reference"),
        )

    monkeypatch.setattr(registry, "devices", lambda: list(both()))
    result = delegraph("ops", "ADD")
    assert result.code == 0 and "note: cpu can't be asked: gone; mend it" in result.err


# --- files of devices


@pytest.fixture
def _no_file() -> Iterator[None]:
    yield
    devices.use(None)


@pytest.mark.usefixtures("_no_file")
@pytest.mark.parametrize("command", ["devices", "ops ADD", "run MODEL --random", "explain MODEL"])
def test_a_file_that_can_not_be_read_is_an_error(delegraph: Call, model: Path, tmp_path: Path, command: str) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("version: 1\nprofiles:\n  mine: {inherit: coral-us}\n")
    arguments = [str(model) if word == "MODEL" else word for word in command.split()]
    for path, message, tip in (
        (tmp_path / "missing.yaml", "missing.yaml: expected a file, found none of that name\n", "name another file"),
        (broken, "broken.yaml:3: profiles.mine.inherit: expected the name of an entry", "did you mean 'coral-usb'?"),
    ):
        result = delegraph(*arguments, "--devices-file", path)
        assert (result.code, result.out) == (5, "")
        assert message in result.err and f"\n  tip: {tip}\n" in result.err
    assert any(info.id == "nnapi:coral-usb" for info in dg.devices())  # the file is not kept
