"""``delegraph ops``, and the peaks in ``delegraph devices --json``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from delegraph.cli import main
from delegraph.core.ops import registry

CAPTURE = pytest.CaptureFixture[str]


def _call(capsys: CAPTURE, *arguments: str) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def _json(capsys: CAPTURE, *arguments: str) -> Any:
    return json.loads(_call(capsys, *arguments, "--json"))


def test_an_op_with_its_limits(capsys: CAPTURE) -> None:
    (row,) = _json(capsys, "ops", "conv_2d", "--device", "nnapi:phone-dsp")
    assert (row["op"], row["device"]) == ("CONV_2D", "nnapi:phone-dsp")
    assert row["types"] == {"uint8": "deviates", "int8": "deviates"}
    (stride,) = [limit for limit in row["limits"] if limit["constraint"] == "stride"]
    assert stride["sentence"] == "strides are at most 3" and stride["limit"] == "3" and stride["advice"]
    assert stride["types"] == ["uint8", "int8"]


def test_a_family_as_a_table(capsys: CAPTURE) -> None:
    lines = _call(capsys, "ops", "GELU", "--device", "nnapi").splitlines()
    assert lines[0].split() == ["operator", "device", "types", "limits"]
    assert any(line.split()[:4] == ["GELU", "nnapi:ethos-u55-128", "uint8,", "int8"] for line in lines), lines
    assert any("nnapi:sample-all" in line and "NNAPI has nothing that GELU could become" in line for line in lines)


def test_ops_of_a_device(capsys: CAPTURE) -> None:
    text = _call(capsys, "ops", "--device", "nnapi:sample-minimal")
    assert [line.split()[0] for line in text.splitlines() if not line.startswith(" ")] == [
        "operator", "ADD", "CONCATENATION", "CONV_2D",
    ]  # fmt: skip


def test_a_device_that_is_asked(capsys: CAPTURE) -> None:
    (row,) = _json(capsys, "ops", "RELU", "--device", "reference")
    assert {"float32", "int8", "uint8"} <= set(row["types"]) and set(row["types"].values()) == {"yes"}
    (host,) = _json(capsys, "ops", "WHILE", "--device", "reference")
    assert host["types"] == {} and host["missing"] == "core runs it itself"


def test_all_ops(capsys: CAPTURE) -> None:
    text = _call(capsys, "ops")
    for op in registry.all_ops():
        if not op.is_custom:
            assert f"\n{op.name} " in text
    assert "nnapi:coral-usb" in text


def test_unknown_names(capsys: CAPTURE) -> None:
    assert main(["ops", "CONV2D"]) == 5
    assert capsys.readouterr().err == (
        "error: operator: expected the name of an operator, found 'CONV2D'\n  tip: did you mean 'CONV_2D'?\n"
    )
    assert main(["ops", "--device", "acme"]) == 5


def test_peaks_of_devices(capsys: CAPTURE) -> None:
    rows = {row["id"]: row for row in _json(capsys, "devices", "--no-calibrate")}
    coral = rows["nnapi:coral-usb"]
    assert coral["machine"] == "coral-usb"
    assert coral["peaks"] == {
        "source": "devices.yaml",
        "ops_per_s": {"int8": 4.0e12, "uint8": 4.0e12},
        "memory_bytes_per_s": 16.0e9,
        "launch_ns": 270000,
    }
    assert rows["reference"]["peaks"] is None


def test_peaks_of_real_devices_are_measured(capsys: CAPTURE) -> None:
    (reference,) = _json(capsys, "devices", "reference")
    assert reference["peaks"]["source"] == "measured"
    assert reference["peaks"]["ops_per_s"]["float32"] > 1e6
    assert reference["peaks"]["memory_bytes_per_s"] > 1e6
