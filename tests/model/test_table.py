"""Table and Model as values."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pytest
from tests.model.samples import changed, sample

from delegraph.core.errors import InvalidArgument
from delegraph.core.model import Model, Table


def test_absent_fields_read_as_the_schema_s_default() -> None:
    options = Table("Conv2DOptions", stride_w=2)
    assert (options.stride_w, options.dilation_w_factor, options.padding) == (2, 1, 0)
    assert Table("Tensor").shape is None and Table("Tensor").is_variable is False
    assert options.fields == {"stride_w": 2}
    assert options == Table("Conv2DOptions", dilation_w_factor=1, stride_w=2)


def test_a_table_is_immutable() -> None:
    table = Table("Tensor", shape=[1])
    with pytest.raises(AttributeError, match="Tensor is immutable; use replace"):
        table.shape = [2]
    with pytest.raises(ValueError, match="read-only"):
        table.shape[0] = 2
    mine = np.array([1], np.int32)
    assert Table("Tensor", shape=mine).shape.flags.writeable is False
    assert mine.flags.writeable, "the caller's own array stays as it was"


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(AttributeError, match="Tensor has no field 'size'; it has shape, type"):
        Table("Tensor", size=1)
    with pytest.raises(AttributeError, match="Tensor has no field 'size'"):
        _ = Table("Tensor").size


def test_vectors_take_the_schema_s_type() -> None:
    assert Table("Tensor", shape=np.array([1, 2])).shape.dtype == np.int32
    assert Table("Buffer", data=b"\1\2").data.tolist() == [1, 2]
    assert Table("QuantizationParameters", scale=[0.5]).scale.dtype == np.float32


@pytest.mark.parametrize(
    ("type_name", "field", "value", "message"),
    [
        ("Tensor", "shape", [2**31], "Tensor.shape: expected int32 elements, found int64 [2147483648]"),
        ("Tensor", "shape", [1.5], "Tensor.shape: expected int32 elements, found float64 [1.5]"),
        ("Tensor", "shape", [[1]], "Tensor.shape: expected a vector, found shape (1, 1)"),
        ("Tensor", "is_variable", 1, "Tensor.is_variable: expected bool, found 1"),
        ("Model", "version", 2**32, "Model.version: expected uint32, found 4294967296"),
        ("Model", "version", -1, "Model.version: expected uint32, found -1"),
        ("Model", "version", True, "Model.version: expected uint32, found True"),
        ("Model", "description", b"x", "Model.description: expected a string, found b'x'"),
        ("LeakyReluOptions", "alpha", "1", "LeakyReluOptions.alpha: expected float32, found '1'"),
        ("Model", "subgraphs", [Table("Tensor")], "Model.subgraphs: expected a table SubGraph, found Tensor()"),
        ("Operator", "builtin_options", Table("Buffer"), "expected a table BuiltinOptions, found Buffer()"),
        ("Tensor", "quantization", 3, "expected a table QuantizationParameters, found 3"),
    ],
)
def test_values_that_a_field_cannot_hold_are_refused(type_name: str, field: str, value: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(message)):
        Table(type_name, **{field: value})


def test_equality_is_to_the_bit() -> None:
    assert Table("LeakyReluOptions", alpha=-0.0) != Table("LeakyReluOptions", alpha=0.0)
    nan = float("nan")
    assert Table("LeakyReluOptions", alpha=nan) == Table("LeakyReluOptions", alpha=nan)
    assert Table("Tensor", shape=[]) != Table("Tensor")
    assert Table("PadOptions") != Table("TransposeOptions")
    assert sample() == sample() and sample() != changed(sample().root, "version", 4)
    assert Model(sample().root) != Model(changed(sample().root, "version", 4))


def test_tables_can_be_copied_and_pickled() -> None:
    root = sample().root
    assert pickle.loads(pickle.dumps(root)) == root
    assert copy.deepcopy(root) == root


def test_repr_shows_what_differs_from_the_default() -> None:
    assert repr(Table("Tensor", shape=[1, 2], name="x")) == "Tensor(shape=[1, 2], name='x')"
    assert repr(Table("Buffer", data=bytes(99))) == "Buffer(data=<99 x uint8>)"
    assert repr(sample()) == "Model('model', 2 subgraphs, 5 buffers)"


def test_names_of_operators() -> None:
    model = sample()
    names = [model.op_name(op) for op in model.subgraphs[0].operators]
    assert names == ["CONV_2D", "IF", "Twice", "DILATE"]
    newer = Model(changed(model.root, "operator_codes[0].builtin_code", 300))
    assert newer.op_name(newer.subgraphs[0].operators[0]) == "BUILTIN_300"
    nameless = Model(changed(model.root, "operator_codes[2].custom_code", None))
    assert nameless.op_name(nameless.subgraphs[0].operators[2]) == "CUSTOM"


def test_buffer_data() -> None:
    model = sample()
    assert model.buffer_data(0) is None
    data = model.buffer_data(2)
    assert data is not None and data.view(np.int32).tolist() == [0, 1, 2]
    assert Model(Table("Model")).buffers == () and Model(Table("Model")).buffer_data(0) is None
