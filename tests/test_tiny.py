"""The main road in seconds: build a tiny model with our own writer, run it, look at the record. Run this first."""

from __future__ import annotations

import numpy as np
import pytest

import delegraph as dg
from delegraph.core.graph.dtype import DType
from delegraph.core.model.writer import write
from delegraph.core.ops.cases import case_model
from delegraph.core.ops.families.convolution import CONV_2D
from delegraph.core.ops.opdef import Case, Operand, Result

X = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
W = np.ones((1, 2, 2, 1), np.float32)
CASE = Case(
    "sum_of_four",
    (Operand(X), Operand(W, constant=True), Operand(np.array([0.5], np.float32), constant=True)),
    (Result(DType.FLOAT32),),
    {"padding": 1, "stride_h": 1, "stride_w": 1},
)
EXPECTED = [[8.5, 12.5], [20.5, 24.5]]


@pytest.fixture
def data() -> bytes:
    return write(case_model(CONV_2D, CASE, [(1, 2, 2, 1)]))


def test_run_from_bytes(data: bytes) -> None:
    model = dg.compile(data)
    assert model(X)[0, :, :, 0].tolist() == EXPECTED
    assert model(input_0=X)[0, :, :, 0].tolist() == EXPECTED


def test_run_from_a_file(data: bytes, tmp_path: object) -> None:
    path = tmp_path / "model.tflite"  # type: ignore[operator]
    path.write_bytes(data)
    assert dg.compile(path, devices="reference")(X)[0, :, :, 0].tolist() == EXPECTED


def test_placement_says_where_and_why(data: bytes) -> None:
    (row,) = dg.compile(data).placement.rows
    assert row.name == "CONV_2D"
    assert row.device == "cpu" or (row.device == "reference" and "cpu" in row.refusals)


def test_errors_are_typed_and_say_what_was_found(data: bytes) -> None:
    model = dg.compile(data)
    with pytest.raises(dg.InvalidArgument, match=r"input 'input_0': expected float32, found float64"):
        model(X.astype(np.float64))
    with pytest.raises(dg.InvalidArgument, match=r"expected shape \[1, 3, 3, 1\], found \[3, 3\]"):
        model(X[0, :, :, 0])
    with pytest.raises(dg.InvalidModel):
        dg.compile(data[: len(data) // 2])
    with pytest.raises(dg.InvalidArgument, match="devices: expected one of"):
        dg.compile(data, devices="gpu")
