"""Advice in refusals: who follows it gets an array that is taken, with every value where it belongs."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pytest
from tests.graphs import GraphBuilder, model

import delegraph as dg
from delegraph import advice
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization

UINT8 = Quantization.per_tensor(0.5, 128)
INT8 = Quantization.per_tensor(0.25, -3)
REALS = np.array([-70, -1.5, 0, 0.3, 63.5, 1e9], np.float32)


def _followed(x: Array, what_to_do: str) -> Array:
    """The result of the expression in an advice."""
    found = re.search(r"numpy\..*", what_to_do)
    assert found is not None, what_to_do
    return np.asarray(eval(found[0], {"numpy": np, "x": x}))


# --- types


@pytest.mark.parametrize(("dtype", "quantization"), [(DType.UINT8, UINT8), (DType.INT8, INT8)], ids=["uint8", "int8"])
@pytest.mark.parametrize("found", [np.float32, np.float64, np.float16])
def test_real_values_are_quantized(dtype: DType, quantization: Quantization, found: npt.DTypeLike) -> None:
    """The oracle is the definition, real = scale * (q - zero point), saturated at the type's ends."""
    reals = np.clip(REALS, -8000, 8000).astype(found)
    got = _followed(reals, advice.to_dtype(reals, dtype, quantization))
    limits = np.iinfo(dtype.numpy)
    back = float(quantization.scale) * (got.astype(np.float64) - quantization.zero_point)
    low, high = (float(quantization.scale) * (end - quantization.zero_point) for end in (limits.min, limits.max))
    assert got.dtype == dtype.numpy
    assert np.abs(back - np.clip(reals.astype(np.float64), low, high)).max() <= float(quantization.scale) / 2


@pytest.mark.parametrize("found", [np.int8, np.int16, np.uint16, np.bool_])
def test_integers_that_may_be_quantized_otherwise_are_not_to_be_converted(found: npt.DTypeLike) -> None:
    what_to_do = advice.to_dtype(np.zeros(3, found), DType.UINT8, UINT8)
    assert what_to_do == "quantize real values with numpy.clip(numpy.round(x / 0.5) + 128, 0, 255).astype(numpy.uint8)"


def test_a_scale_for_each_channel_has_no_one_line() -> None:
    per_channel = Quantization.per_channel([0.5, 0.25], 0)
    what_to_do = advice.to_dtype(REALS, DType.INT8, per_channel)
    assert what_to_do == "quantize real values with the tensor's scale and zero point of each channel"


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array([1, 255]), DType.UINT8),
        (np.array([1.0, 2.0]), DType.INT32),
        (np.array([0.1, np.inf, np.nan]), DType.FLOAT32),
        (np.array([1, 200], np.uint8), DType.FLOAT32),
        (np.array([0, 1]), DType.BOOL),
        (np.array([1.5], ">f4"), DType.FLOAT32),
        (np.array([7, -3], ">i2"), DType.INT16),
        (np.array([1, 2.5]), DType.COMPLEX64),
    ],
    ids=lambda v: str(getattr(v, "dtype", v)),
)
def test_what_fits_is_converted(array: Array, dtype: DType) -> None:
    what_to_do = advice.to_dtype(array, dtype, None)
    assert what_to_do == f"convert it with .astype(numpy.{dtype.numpy})"
    np.testing.assert_allclose(array.astype(dtype.numpy), array, rtol=1e-7)


@pytest.mark.parametrize(
    ("array", "dtype", "what_to_do"),
    [
        (np.array([1, 256]), DType.UINT8, "its values, from 1 to 256, don't fit"),
        (np.array([-1.5, 2.0]), DType.UINT8, "its values, from -1.5 to 2.0, don't fit"),
        (np.array([np.nan]), DType.INT32, "its values, from nan to nan, don't fit"),
        (np.array([1e300]), DType.FLOAT32, "its values, from 1e+300 to 1e+300, don't fit"),
        (np.array([0.5, 1]), DType.INT32, "round it: numpy.rint(x).astype(numpy.int32)"),
        (np.array([0.5, 1]), DType.BOOL, "say which values are true, for example x > 0"),
        (np.array([1j]), DType.FLOAT32, ""),
        (np.array(["1"]), DType.FLOAT32, ""),
        (np.array([1.5]), DType.BFLOAT16, "pass the bits of its values, as numpy.uint16"),
    ],
    ids=lambda v: str(v)[:30],
)
def test_what_would_be_lost_is_not_converted(array: Array, dtype: DType, what_to_do: str) -> None:
    assert advice.to_dtype(array, dtype, None) == what_to_do


# --- shapes


@pytest.mark.parametrize(
    ("found", "wanted", "axes"),
    [
        ((1, 3, 5, 7), (1, 5, 7, 3), (0, 2, 3, 1)),
        ((1, 3, 5, 5), (1, 5, 5, 3), (0, 2, 3, 1)),  # of several orders, the one that keeps rows and columns apart
        ((3, 5, 7), (1, 5, 7, 3), (1, 2, 0)),
        ((1, 5, 7, 3), (1, 3, 5, 7), (0, 3, 1, 2)),
        ((2, 3, 5, 7), (-1, 5, 7, 3), (0, 2, 3, 1)),
        ((3, 2), (2, 3), (1, 0)),
    ],
)
def test_axes_in_another_order_are_transposed(
    found: tuple[int, ...], wanted: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    x = np.arange(np.prod(found)).reshape(found)
    what_to_do = advice.to_shape(found, wanted)
    assert "numpy.transpose" in what_to_do
    got = _followed(x, what_to_do)
    assert all(w in (-1, n) for w, n in zip(wanted, got.shape, strict=True))
    assert (got == x.transpose(axes).reshape(got.shape)).all()


@pytest.mark.parametrize(
    ("found", "wanted"),
    [((5, 7, 3), (1, 5, 7, 3)), ((1, 1, 4), (1, 4)), ((4,), (-1, 4)), ((640, 1), (1, 640)), ((), (1, 1)), ((1,), ())],
    ids=str,
)
def test_missing_and_spare_dimensions_of_one_are_reshaped(found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    x = np.arange(np.prod(found)).reshape(found)
    what_to_do = advice.to_shape(found, wanted)
    assert what_to_do.startswith("only dimensions of size 1 differ: numpy.reshape(x, ")
    got = _followed(x, what_to_do)
    assert got.ravel().tolist() == x.ravel().tolist() and len(got.shape) == len(wanted)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ((12,), (3, 4)),  # as many values, but who knows in which order
        ((2, 6), (3, 4)),
        ((1, 224, 224, 3), (1, 128, 128, 3)),
        ((2, 5, 7, 3), (1, 5, 7, 3)),
        ((0, 3), (1, 3)),
        ((6,), (-1, -1, 3)),
        ((5,), (-1, 3)),
        ((5,), (-1, 0)),
    ],
    ids=str,
)
def test_what_would_scramble_values_is_not_advised(found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    assert advice.to_shape(found, wanted) == ""


def test_a_refused_input_comes_with_advice() -> None:
    g = GraphBuilder()
    g.outputs = [g.input([1, 5, 7, 3], DType.UINT8, quantization=UINT8)]
    m = dg.compile(model(g))
    image = np.zeros((1, 5, 7, 3), np.float32)
    quantize = re.escape("numpy.clip(numpy.round(x / 0.5) + 128, 0, 255).astype(numpy.uint8)")
    with pytest.raises(
        dg.InvalidArgument, match=f"expected uint8, found float32; quantize real values with {quantize}"
    ):
        m(image)
    with pytest.raises(dg.InvalidArgument, match=r"found 0\.0; quantize real values with .*numpy\.array\(x\) / 0\.5"):
        m(image.tolist())
    with pytest.raises(dg.InvalidArgument, match=r"numpy\.transpose\(x, \(0, 2, 3, 1\)\)"):
        m(np.zeros((1, 3, 5, 7), np.uint8))
