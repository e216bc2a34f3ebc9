"""What a model takes as inputs: nothing is cast, rounded or wrapped around; and where arrays may lie in memory."""

from __future__ import annotations

import array
import gc
import re
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
        (DType.INT8, [1.7, 2.2], r"int8 values, found 1\.7; round it$"),
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
        (DType.FLOAT32, [1e300, 0], r"float32 values in \[-3\.4028e\+38, 3\.4028e\+38\], found 1e\+300"),
        (DType.FLOAT32, [0, -(10**40)], r"float32 values in .* found -1000000"),
        (DType.FLOAT16, [1, 70000], r"float16 values in \[-65504, 65504\], found 70000"),
        (DType.COMPLEX64, [1, 1e300j], r"complex64 values in .* found 1e\+300j"),
        (DType.FLOAT32, list(np.zeros((2, 1))), r"float32, found float64; convert"),
        (DType.FLOAT32, [[np.zeros(3, np.uint8)], [1, 2, 3]], r"float32, found uint8; convert"),
        pytest.param(
            DType.UINT8, memoryview(array.array("d", [1, 2])), r"uint8, found float64; convert", id="memoryview"
        ),
        (DType.UINT8, array.array("i", [1, 2]), r"uint8, found int32; convert"),
        (DType.INT8, {"t0": np.zeros(2)}, r"one value per input, found a dict; pass what is in it by name: m\(\*\*inp"),
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
        (DType.FLOAT32, [float("inf"), 3.4028235e38]),
        (DType.FLOAT32, [np.float64(0.5), np.int64(2)]),
        (DType.FLOAT32, list(np.ones(2, np.float32))),
        (DType.FLOAT32, [np.array(0.5), 2]),
        (DType.FLOAT32, array.array("f", [1, 2])),
        (DType.UINT8, bytearray(b"\x01\xff")),
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


def test_a_list_in_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(dg.InvalidArgument, match="expected float32 values, found list"):
        passes_on(DType.FLOAT32)(endless)


def test_numbers_too_long_to_show_are_not_shown() -> None:
    with pytest.raises(dg.InvalidArgument, match=r"int8 values in \[-128, 127\], found a whole number of 16610 bits"):
        passes_on(DType.INT8)([1, 10**5000])
    with pytest.raises(dg.InvalidArgument, match=r"float32 values, found list"):
        passes_on(DType.FLOAT32)([1, 10**5000])


class _Foreign:
    """An array of another library."""

    def __init__(self, value: Array) -> None:
        self.value = value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if self.value.size == 3:
            raise RuntimeError("call .detach() first")
        return self.value


def test_arrays_of_other_libraries_are_arrays() -> None:
    takes = passes_on(DType.FLOAT32)
    assert takes(_Foreign(np.array([1, 2], np.float32))).tolist() == [1, 2]
    with pytest.raises(dg.InvalidArgument, match="expected float32, found float64"):
        takes(_Foreign(np.zeros(2)))
    with pytest.raises(dg.InvalidArgument, match="expected float32, found float64"):
        takes([_Foreign(np.zeros(2))])
    with pytest.raises(dg.InvalidArgument, match=r"found _Foreign that NumPy can't read; call \.detach\(\) first"):
        takes(_Foreign(np.zeros(3)))


# --- text


@pytest.mark.parametrize(
    "value",
    [
        ["grün", b"b"],
        [b"gr\xc3\xbcn", "b"],
        np.array(["grün", "b"]),
        np.array(["grün", b"b"], object),
        [np.str_("grün"), np.bytes_(b"b")],
    ],
    ids=lambda v: type(v).__name__,
)
def test_text_becomes_bytes_in_utf_8(value: Any) -> None:
    assert passes_on(DType.STRING)(value).tolist() == [b"gr\xc3\xbcn", b"b"]


def test_text_compares_with_a_models_own() -> None:
    g = GraphBuilder()
    x = g.input([2], DType.STRING)
    g.outputs = [g.op("EQUAL", [x, g.constant(np.array([b"a", b"c"], object))], [2], DType.BOOL)]
    m = dg.compile(model(g))
    assert m(["a", "b"]).tolist() == m([b"a", b"b"]).tolist() == [True, False]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ([1, 2], "text (str, or bytes in UTF-8), found 1"),
        (np.zeros(2), "text (str, or bytes in UTF-8), found 0.0"),
        (["a", None], "text (str, or bytes in UTF-8), found None"),
        (["a", ["b"]], "text (str, or bytes in UTF-8), found list"),
        (["a", "\udc80"], "text that UTF-8 can say, found '\\udc80'"),
        ("ab", "shape [2], found []"),
        ({"t0": ["a", "b"]}, "one value per input, found a dict"),
    ],
    ids=lambda v: str(v)[:20].encode("ascii", "replace").decode(),
)
def test_what_is_no_text_is_refused(value: Any, found: str) -> None:
    with pytest.raises(dg.InvalidArgument, match=re.escape(found)):
        passes_on(DType.STRING)(value)


# --- names


def test_a_dict_is_not_spilled_into_the_message() -> None:
    g = GraphBuilder()
    g.outputs = [g.input([2]), g.input([2])]
    with pytest.raises(dg.InvalidArgument, match="inputs: expected one value per input, found a dict; pass") as caught:
        dg.compile(model(g))({"t0": np.zeros((1, 9, 9)), "t1": np.zeros(2)})
    assert "\n" not in str(caught.value)


def test_a_signature_speaks_of_its_own_names() -> None:
    g = GraphBuilder()
    a, b = g.input([2]), g.input([3], DType.INT8)
    g.outputs = [a, b]
    call = dg.compile(model(g, signatures={"both": (0, {"x": a, "y": b}, {"z": a})})).signature("both")
    x, y = np.zeros(2, np.float32), np.zeros(3, np.int8)
    assert call(x=x, y=y)["z"].tolist() == [0, 0]
    for kwargs, found in (
        ({"x": x}, r"inputs: expected 2 inputs, found no value for 'y'; the signature takes x: float32[2], y: int8[3]"),
        ({"x": x, "t1": y}, "inputs: expected one of 'x', 'y', found 't1'"),
        ({"x": x, "y": y[:1]}, "input 'y': expected shape [3], found [1]"),
        ({"x": x.astype(float), "y": y}, "input 'x': expected float32, found float64"),
        ({"x": x, "y": [1, 2, 3.5]}, "input 'y': expected int8 values, found 3.5"),
    ):
        with pytest.raises(dg.InvalidArgument, match=re.escape(found)):
            call(**kwargs)


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
