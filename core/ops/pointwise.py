"""Kernels of ops that treat each element alone: formulas on floats, and tables over the small integer types.

Imports core.graph and core.ops. A function of an
8-bit or 16-bit integer is computed once for every value of the type, when the kernel is prepared, and then looked up;
so its arithmetic may be as slow and as faithful as it needs to be. Source of the lookup tables with which LiteRT itself
approximates functions: LUTPopulate, LUTLookup (kernels/internal/common.h).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization, Shape
from delegraph.core.ops import registry
from delegraph.core.ops.broadcasting import BLOCK_ELEMENTS, elementwise, per_tensor
from delegraph.core.ops.cases import integers, reals
from delegraph.core.ops.expression import Expression, evaluate
from delegraph.core.ops.fixed_point import round_half_away
from delegraph.core.ops.opdef import Bound, Case, Form, Kernel, Node, OpDef, Operand, Result

Function = Callable[[Array], Array]


def same_shape(node: Node) -> Sequence[Shape | None]:
    """``OpDef.shapes`` of an op whose one output is of its first input's shape."""
    return [node.input(0).shape]


# --- formulas -----------------------------------------------------------------------------------------------------


def formula(
    expression: Expression, attributes: Callable[[Node], Mapping[str, Any]] | None = None
) -> Callable[[Node], Kernel]:
    """``prepare`` of a form that computes an expression of operands that broadcast, with attributes of the node.

    float16 and bfloat16 are computed in float32 and rounded once at the end.
    """

    def prepare(node: Node) -> Kernel:
        values = attributes(node) if attributes is not None else {}

        def compute(*operands: Array) -> Array:
            wide = [widen(x, spec.dtype) for x, spec in zip(operands, node.inputs, strict=True) if spec is not None]
            return narrow(evaluate(expression, wide, values), node.outputs[0].dtype)

        return elementwise(node, compute)

    return prepare


def widen(x: Array, dtype: DType) -> Array:
    """float16 and bfloat16 as float32, exactly; other types as they are."""
    if dtype is DType.FLOAT16:
        return x.astype(np.float32)
    if dtype is DType.BFLOAT16:
        return (x.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return x


def narrow(y: Array, dtype: DType) -> Array:
    """float32 as float16 or bfloat16, to nearest even; other types as they are.

    Source: float_to_bfloat16_rtne (Eigen): a NaN becomes the quiet NaN of its sign.
    """
    if dtype is DType.FLOAT16:
        return y.astype(np.float16)
    if dtype is DType.BFLOAT16:
        bits = np.ascontiguousarray(y, np.float32).view(np.uint32)
        rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        nan = (bits >> np.uint32(16)) & np.uint32(0x8000) | np.uint32(0x7FC0)
        return np.where(y != y, nan, rounded).astype(np.uint16)
    return y


# --- tables -------------------------------------------------------------------------------------------------------


def all_values(dtype: DType) -> Array:
    """Every value of an integer type of 8 or 16 bits as int64, in the order of its bit patterns."""
    unsigned = np.dtype(f"u{dtype.numpy.itemsize}")
    return np.arange(1 << dtype.bits, dtype=unsigned).view(dtype.numpy).astype(np.int64)


def tabulate(node: Node, function: Function, least: int | None = None) -> Array:
    """The node's results for every value of its input's type, in the order of bit patterns.

    function: int64 values → results within the output's type. least: what the values below count as.
    """
    values = all_values(node.input(0).dtype)
    with np.errstate(all="ignore"):
        results = function(values if least is None else np.maximum(values, least))
    return results.astype(node.outputs[0].dtype.numpy)


def look_up(table: Array, x: Array) -> Array:
    """``table`` at the bit patterns of ``x``, an array of an integer type of 8 or 16 bits."""
    flat = np.ascontiguousarray(x).reshape(-1).view(f"u{x.itemsize}")
    out = np.empty(x.shape, table.dtype)
    into = out.reshape(-1)
    for start in range(0, flat.size, BLOCK_ELEMENTS):
        part = slice(start, start + BLOCK_ELEMENTS)
        np.take(table, flat[part], out=into[part], mode="clip")
    return out


def reference_table(node: Node) -> Array:
    """What the op of a node with one 8-bit operand gives for every value of it, in the order of bit patterns: the bits
    of its results, uint8 [256].

    Made by the op's reference form itself, so right for every op. Raises InvalidModel where that can't be prepared.
    """
    x, op = node.input(0), registry.find(node.op.name)
    inputs = (replace(x, shape=(256,), value=None), *node.inputs[1:])
    small = replace(node, inputs=inputs, outputs=(replace(node.outputs[0], shape=(256,)),))
    form = None if op is None else op.form(small)
    assert form is not None
    with np.errstate(all="ignore"):
        (results,) = form.prepare(small)(all_values(x.dtype).astype(x.dtype.numpy))
    return np.ascontiguousarray(results).view(np.uint8)


def by_table(function_of: Callable[[Node], Function]) -> Callable[[Node], Kernel]:
    """``prepare`` of a form on one operand of 8 or 16 bits.

    function_of: Node → a function of int64 values that gives results within the output's type.
    """

    def prepare(node: Node) -> Kernel:
        table = tabulate(node, function_of(node))
        return lambda x: (look_up(table, x),)

    return prepare


def limits(dtype: DType) -> tuple[int, int]:
    """The least and the greatest value of an integer type."""
    info = np.iinfo(dtype.numpy)
    return int(info.min), int(info.max)


def c_int32(x: Any) -> Any:
    """Floats to int32 as x86 converts them, held as int64: toward zero, what does not fit and NaN give -2^31.

    C leaves that case open; tables of functions that leave the range of int32 show what the compiler made of it.
    """
    fits = np.abs(x) < 2.0**31
    if fits.all():
        return x.astype(np.int64)
    return np.where(fits, np.where(fits, x, 0), -(2.0**31)).astype(np.int64)


def approximated(f: Function) -> Callable[[Node], Kernel]:
    """``prepare`` of the forms for which LiteRT makes a lookup table of a float32 function of the real value."""
    return by_table(lambda node: approximation(node, f))


def approximation(node: Node, f: Function) -> Function:
    """int64 values of the input's type → the quantized ``f``. Source: LUTPopulate, LUTLookup.

    Of 8 bits every value has its entry, saturated; of 16 bits there are 512 points, shifted to halve the error in
    between, and linear interpolation. f: float32 array → float32 array.
    """
    dtype, x_q, y_q = node.outputs[0].dtype, per_tensor(node, 0), per_tensor(node, None)
    low, high = limits(dtype)
    if dtype is DType.INT16:
        table = _int16_points(x_q, y_q, f)
        return lambda x: interpolate(table, x)

    def quantize(x: Array) -> Array:
        y = f(x_q.scale * (x - x_q.zero_point).astype(np.float32))
        rounded = round_half_away(y * (np.float32(1) / y_q.scale))
        saturated: Array = np.clip(rounded + np.float32(y_q.zero_point), low, high)
        return saturated.astype(np.int64)

    return quantize


def interpolate(points: Array, x: Array) -> Array:
    """The value at int16 values ``x`` of a table of 513 points; all held as int64. Source: LUTLookup."""
    index = 256 + (x >> 7)
    base: Array = points[index]
    slope: Array = (points[index + 1] - base).astype(np.int16).astype(np.int64)
    y: Array = base + ((slope * (x & 0x7F) + 64) >> 7)
    return y


def _int16_points(x_q: Quantization, y_q: Quantization, f: Function) -> Array:
    """The 513 points of an int16 table, as int64. Source: LUTPopulateInt16."""
    low, high = np.float32(-32768), np.float32(32767)
    x_low = x_q.scale * (low - np.float32(x_q.zero_point))
    x_high = x_q.scale * (high - np.float32(x_q.zero_point))
    y_low = y_q.scale * (low - np.float32(y_q.zero_point))
    y_high = y_q.scale * (high - np.float32(y_q.zero_point))
    step = (x_high - x_low) / np.float32(512)
    inverse = np.float32(65536) / (y_high - y_low)
    i = np.arange(513, dtype=np.float32)
    here = f(x_low + i[:512] * step) * inverse
    middle = f(x_low + i[:512] * step + step / np.float32(2)) * inverse
    after = f(x_low + i[1:] * step) * inverse
    interpolated = round_half_away((after + round_half_away(here)) / np.float32(2))
    bias = round_half_away((interpolated - round_half_away(middle)) / np.float32(2))
    last = round_half_away(f(np.atleast_1d(x_high)) * inverse)
    points = np.concatenate([round_half_away(here) - bias, last])
    saturated = c_int32(np.where(points != points, points, np.clip(points, low, high)))
    table: Array = saturated.astype(np.int16).astype(np.int64)
    return table


def through_float64(f: Function) -> Function:
    """A NumPy function on float32 values, computed in float64 and rounded once: what C's ``expf``, ``tanhf`` and their
    like give in a table, but where one is a last bit off just at a half (glibc 2.36: one entry in about 10^5)."""
    return lambda x: f(x.astype(np.float64)).astype(np.float32)


# --- declarations -------------------------------------------------------------------------------------------------


def unary_op(name: str, forms: Sequence[Form], bound: Bound, cases: Any, **fields: Any) -> OpDef:
    """The OpDef of an op on one operand whose output has its shape. fields: of OpDef."""
    return OpDef(
        name=name,
        inputs=("input",),
        outputs=("output",),
        shapes=same_shape,
        forms=tuple(forms),
        bound=bound,
        cases=cases,
        **fields,
    )


# --- cases --------------------------------------------------------------------------------------------------------

SHAPES: tuple[tuple[int, ...], ...] = ((), (1,), (7,), (2, 3), (0, 3), (2, 1, 3, 4), (1, 2, 3, 1, 2, 2))
SPECIAL = np.array([0.0, -0.0, 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, 3.5, np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-40])


def float_cases(
    rng: np.random.Generator,
    low: float,
    high: float,
    dtypes: Sequence[DType] = (DType.FLOAT32,),
    **fields: Any,
) -> Iterator[Case]:
    """One operand of each float type: every kind of shape, the special values, a wide range. fields: of Case."""
    for dtype in dtypes:
        for shape in SHAPES:
            x = reals(rng, shape, low, high).astype(dtype.numpy)
            name = f"{dtype}_{'x'.join(map(str, shape)) or 'scalar'}"
            yield Case(name, (Operand(x),), (Result(dtype),), **fields)
        with np.errstate(over="ignore", invalid="ignore"):
            special = SPECIAL.astype(dtype.numpy)
        yield Case(f"{dtype}_special", (Operand(special),), (Result(dtype),), **fields)
        wide = reals(rng, (600,), low, high).astype(dtype.numpy)
        yield Case(f"{dtype}_many", (Operand(wide),), (Result(dtype),), **fields)


def integer_cases(rng: np.random.Generator, *dtypes: DType) -> Iterator[Case]:
    """Integers that stand for themselves."""
    for dtype in dtypes:
        for shape in ((), (0,), (300,), (2, 3, 4)):
            name = f"{dtype}_{'x'.join(map(str, shape)) or 'scalar'}"
            yield Case(name, (Operand(integers(rng, dtype, shape)),), (Result(dtype),))


def quantizations(rng: np.random.Generator, dtype: DType, n: int) -> Iterator[tuple[Quantization, Quantization]]:
    """Pairs for input and output: equal, far apart, zero points at the ends of the type, and ``n`` at random."""
    low, high = limits(dtype)
    symmetric = dtype is DType.INT16
    pairs = [
        (0.05, low, 0.05, low),
        (0.01, high, 2.0, low),
        (1.5, 0, 0.004, high),
        (0.1, low, 1e-6, 0),
        (1e-6, 0, 0.1, 0),
    ]
    for s, z, t, w in pairs:
        yield (
            Quantization.per_tensor(s, 0 if symmetric else z),
            Quantization.per_tensor(t, 0 if symmetric else w),
        )
    for _ in range(n):
        scale, ratio = 10.0 ** rng.uniform(-3, 0), 10.0 ** rng.uniform(-1.5, 1.5)
        z, w = (0, 0) if symmetric else (int(v) for v in integers(rng, dtype, (2,)))
        yield Quantization.per_tensor(scale, z), Quantization.per_tensor(scale * ratio, w)


def quantized_cases(
    rng: np.random.Generator,
    dtypes: Sequence[DType],
    output: tuple[float, float] | None = None,
    non_negative: bool = False,
    **fields: Any,
) -> Iterator[Case]:
    """Every value of the type (of 16 bits a good part) under several quantizations.

    output: decimal exponents between which output scales lie, where the function's range asks for it.
    non_negative: only values from the zero point up. fields: of Case.
    """
    for dtype in dtypes:
        for i, (x_q, y_q) in enumerate(quantizations(rng, dtype, 6)):
            if output is not None and i >= 5:
                y_q = Quantization.per_tensor(10.0 ** rng.uniform(*output), y_q.zero_point)
            x = np.sort(all_values(dtype)) if dtype is not DType.INT16 else integers(rng, dtype, (1500,))
            if non_negative:
                x = np.maximum(x, x_q.zero_point)
            yield Case(f"{dtype}_{i}", (Operand(x.astype(dtype.numpy), x_q),), (Result(dtype, y_q),), **fields)
