"""What a model takes as inputs: nothing is cast, rounded or wrapped around; and where arrays may lie in memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.graphs import GraphBuilder, model
from tests.support import require
from tests.support_devices import EchoDelegate, registered

import delegraph as dg
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array


def passes_on(dtype: DType, shape: tuple[int, ...] = (2,)) -> dg.CompiledModel:
    """A model that returns its input."""
    g = GraphBuilder()
    g.outputs = [g.input(shape, dtype)]
    return dg.compile(model(g))


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.UINT8, DType.BOOL, DType.INT4])
def test_numpy_takes_the_type_of_an_input_as_its_own(dtype: DType) -> None:
    model = passes_on(dtype)
    (info,) = model.inputs
    zeros = np.zeros(info.shape, info.dtype)
    np.testing.assert_array_equal(model(zeros), zeros)


@pytest.mark.parametrize(
    ("dtype", "value", "found"),
    [
        (DType.INT8, [1.7, 2.2], r"int8 values, found 1\.7; round it, or quantize it as the tensor is"),
        (DType.INT8, [1, 2.0], r"int8 values, found 2\.0; round it"),
        (DType.INT8, [[1], [2.5]], r"int8 values, found 2\.5; round it"),
        (DType.INT8, (np.float32(1), 2), r"int8 values, found np\.float32\(1\.0\)"),
        (DType.INT32, [1, float("nan")], r"int32 values, found nan"),
        (DType.INT8, [127, 128], r"int8 values in \[-128, 127\], found 128"),
        (DType.INT8, [-129, 0], r"int8 values in \[-128, 127\], found -129"),
        (DType.UINT8, [-1, 0], r"uint8 values in \[0, 255\], found -1"),
        (DType.INT4, [7, 8], r"int4 values in \[-8, 7\], found 8"),
        (DType.INT64, [1 << 63, 0], r"int64 values in \[-9223372036854775808, 9223372036854775807\], found 92233720"),
        (DType.UINT64, [1 << 64, 0], r"uint64 values in \[0, 18446744073709551615\], found 18446744073709551616"),
        (DType.BOOL, [0.0, 1.0], r"bool values, found 0\.0"),
        (DType.BOOL, [0, 2], r"bool values in \[0, 1\], found 2"),
        (DType.INT8, ["1", "2"], r"int8 values, found list"),
        (DType.FLOAT32, ["1", "2"], r"float32 values, found list"),
        (DType.FLOAT32, [None, None], r"float32 values, found list"),
        (DType.FLOAT32, [1j, 0], r"float32 values, found list"),
        (DType.FLOAT32, [[1], [2, 3]], r"float32 values, found list"),
        (DType.INT8, None, r"int8 values, found None$"),
        (DType.FLOAT32, np.zeros(2), r"float32, found float64; convert it with \.astype\(numpy\.float32\)"),
        (DType.INT8, np.zeros(2, np.int64), r"int8, found int64; convert it with \.astype\(numpy\.int8\)"),
        (DType.FLOAT32, [1, 2, 3], r"shape \[2\], found \[3\]"),
    ],
    ids=lambda v: repr(v)[:30],
)
def test_what_a_tensor_can_not_hold_is_refused(dtype: DType, value: Any, found: str) -> None:
    with pytest.raises(dg.InvalidArgument, match=f"input 't0': expected {found}"):
        passes_on(dtype)(value)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (DType.FLOAT32, [1, 2]),
        (DType.FLOAT32, [1.5, 2]),
        (DType.FLOAT32, [1 << 70, True]),
        (DType.INT8, [-128, 127]),
        (DType.INT8, [True, 3]),
        (DType.INT8, (np.int64(5), 6)),
        (DType.UINT64, [(1 << 64) - 1, 1]),
        (DType.INT4, [-8, 7]),
        (DType.BOOL, [0, 1]),
        (DType.BOOL, [True, False]),
        (DType.COMPLEX64, [1, 2j]),
    ],
    ids=lambda v: repr(v)[:30],
)
def test_what_it_can_hold_is_taken(dtype: DType, value: Any) -> None:
    found = passes_on(dtype)(value)
    assert found.dtype == dtype.numpy
    assert found.tolist() == [dtype.numpy.type(v).item() for v in value]


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.INT8, DType.BOOL])
def test_a_list_without_values_has_no_wrong_ones(dtype: DType) -> None:
    assert passes_on(dtype, (0,))([]).shape == (0,)


# --- where arrays lie


def _shifted(value: Array, by: int) -> Array:
    """The same values ``by`` bytes behind a multiple of 64."""
    raw = np.zeros(value.nbytes + 128, np.uint8)
    start = -raw.ctypes.data % 64 + by
    view = raw[start : start + value.nbytes].view(value.dtype).reshape(value.shape)
    view[...] = value
    assert view.ctypes.data % 64 == by
    return view


def _read_only(value: Array) -> Array:
    copy = value.copy()
    copy.flags.writeable = False
    return copy


def _every_other(value: Array) -> Array:
    raw = np.zeros((*value.shape[:-1], 2 * value.shape[-1]), value.dtype)
    raw[..., ::2] = value
    return raw[..., ::2]


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "1 byte off": lambda v: _shifted(v, 1),
    "2 bytes off": lambda v: _shifted(v, 2),
    "4 bytes off": lambda v: _shifted(v, 4),
    "60 bytes off": lambda v: _shifted(v, 60),
    "read only": _read_only,
    "read only, 1 byte off": lambda v: _read_only(_shifted(v, 1)),
    "every other": _every_other,
    "backwards": lambda v: np.ascontiguousarray(v[::-1])[::-1],
    "columns first": np.asfortranarray,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("device", ["cpu", "opencl:0", "reference"])
def test_an_input_may_lie_anywhere(device: str, layout: str) -> None:
    """Also without alignment for its own type. The oracle is NumPy."""
    if device.startswith("opencl"):
        require("opencl")
    g = GraphBuilder()
    x, n = g.input([3, 37]), g.input([3, 37], DType.INT32)
    g.outputs = [g.op("MUL", [g.op("ADD", [x, x], [3, 37]), x], [3, 37]), g.op("ADD", [n, n], [3, 37], DType.INT32)]
    rng = np.random.default_rng(3)
    a = rng.integers(-1000, 1000, (3, 37)).astype(np.float32)
    b = rng.integers(-(1 << 29), 1 << 29, (3, 37)).astype(np.int32)
    place = LAYOUTS[layout]
    given = place(a), place(b)
    compiled = dg.compile(model(g), devices=[device])
    assert device in compiled.receipt().devices
    for _ in range(2):
        y, m = compiled(*given)
        np.testing.assert_array_equal(y, (a + a) * a)
        np.testing.assert_array_equal(m, b + b)
    np.testing.assert_array_equal(given[0], a)


@pytest.fixture(params=["cpu", "reference", "echo:it", "acme:1"])
def trusted(request: pytest.FixtureRequest) -> Iterator[str]:
    """Devices that run on the caller's thread, bound to the caller's arrays; the last one is a library in C."""
    if request.param.startswith("acme"):
        from tests.delegates.native.compiler import library

        from delegraph.core.abi.native.loader import NativeDelegate

        with registered(NativeDelegate(library(request.getfixturevalue("tmp_path")))):
            yield request.param
    else:
        with registered(EchoDelegate("it", lambda node: True)):
            yield request.param


def test_after_a_run_nothing_keeps_the_callers_arrays(trusted: str) -> None:
    g = GraphBuilder()
    x = g.input([64])
    g.outputs = [g.op("ADD", [x, x], [64])]
    compiled = dg.compile(model(g), devices=[trusted], fallback="error")
    given = _shifted(np.ones(64, np.float32), 0)  # as aligned as any device may want it
    made = compiled(given)
    held = weakref.ref(given), weakref.ref(made)
    assert made.tolist() == [2.0] * 64
    del given, made
    gc.collect()
    assert [ref() for ref in held] == [None, None]
    assert compiled(np.full(64, 3, np.float32)).tolist() == [6.0] * 64
