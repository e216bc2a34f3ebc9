"""MAXIMUM, MINIMUM, POW, FLOOR_DIV, FLOOR_MOD, ATAN2, BITWISE_XOR, RIGHT_SHIFT and ADD_N.

Source: tflite/kernels/{maximum_minimum,pow,floor_div,floor_mod,atan2,bitwise_xor,right_shift,add_n}.cc;
kernels/internal/reference/{maximum_minimum,floor_div,floor_mod}.h, reference_ops.h (Pow), optimized/optimized_ops.h
(BroadcastPow4D, AddN).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.broadcasting import (
    binary_shapes,
    elementwise,
    shape_pairs,
    some_pairs,
)
from delegraph.core.ops.cases import integers, reals
from delegraph.core.ops.expression import Expression, arg, call, evaluate
from delegraph.core.ops.opdef import Bound, Case, Kernel, Node, OpDef, Operand, Result, forms
from delegraph.core.ops.pointwise import c_int32, narrow, widen

_T = "{T}, {T} -> {T}"


# --- maximum, minimum ---------------------------------------------------------------------------------------------


def _extremum(node: Node) -> Kernel:
    """The first operand if it is the greater (less), else the second: so a NaN on the right stays, one on the left
    goes."""
    is_maximum, dtype = node.op.name == "MAXIMUM", node.input(0).dtype
    extremum, wins = (np.maximum, np.greater) if is_maximum else (np.minimum, np.less)
    if dtype.is_integer:
        return elementwise(node, extremum)
    if dtype is not DType.FLOAT32:
        return elementwise(node, lambda a, b: np.where(wins(widen(a, dtype), widen(b, dtype)), a, b))

    def float_extremum(a: Array, b: Array) -> Any:  # several times faster than a choice
        lost = np.isnan(a)
        y = extremum(a, b)
        return np.where(lost, b, y) if lost.any() else y

    return elementwise(node, float_extremum)


# --- pow ----------------------------------------------------------------------------------------------------------

POW_FORMULA = call("pow", arg(0), arg(1))


def _pow(node: Node) -> Kernel:
    """Powers as C's ``pow`` gives them, except of one exponent that broadcasts, which is rounded to an integer if it
    is within 1e-5 of one above 0, and then multiplied out. Source: BroadcastPow4D, IntegerExponentPow."""
    x, y = node.input(0), node.input(1)
    is_float = x.dtype is DType.FLOAT32
    general = elementwise(node, _float_power if is_float else _integer_power)
    multiplies = x.shape != y.shape and y.n_elements == 1

    def run(base: Array, exponent: Array) -> Sequence[Array]:
        if not is_float:
            node.require(bool(np.all(exponent >= 0)), "exponents that are not negative", "a negative one")
        if multiplies:
            value = exponent.reshape(-1)[0]
            near = np.rint(value)
            if 1 <= near < 2**31 and abs(value - near) < np.float32(1e-5):
                times = int(near)
                return elementwise(node, lambda a, _: _repeated_product(a, times))(base, exponent)
        return general(base, exponent)

    return run


def _repeated_product(x: Array, times: int) -> Array:
    """x^times by squaring; float32 stays finite at each step, integers wrap."""
    largest = np.finfo(np.float32).max

    def product(a: Array, b: Array) -> Array:
        y = np.multiply(a, b)
        return np.clip(y, -largest, largest) if y.dtype == np.float32 else y

    y = x
    for bit in bin(times)[3:]:
        y = product(y, y)
        if bit == "1":
            y = product(x, y)
    return y


def _float_power(a: Array, b: Array) -> Array:
    """In float64 and rounded once, as C's ``powf`` nearly always is."""
    return np.asarray(evaluate(POW_FORMULA, (a.astype(np.float64), b.astype(np.float64))), np.float32)


def _integer_power(a: Array, b: Array) -> Array:
    """C's ``pow`` in double, converted to int32: -2^31 for what does not fit.

    By squaring, which is exact below 2^53.
    """
    square, left = a.astype(np.float64), b.astype(np.int64)
    y = np.ones(np.broadcast_shapes(a.shape, b.shape))
    while left.any():
        y = np.where(left & 1, y * square, y)
        square, left = square * square, left >> 1
    return np.asarray(c_int32(y))


# --- divisions ----------------------------------------------------------------------------------------------------


def _floor_div(node: Node) -> Kernel:
    if node.input(0).dtype.is_float:
        divide = elementwise(node, lambda a, b: np.floor(a.astype(np.float64) / b))
    else:
        divide = elementwise(node, np.floor_divide)
    return _with_divisor(node, divide)


def _with_divisor(node: Node, divide: Kernel) -> Kernel:
    def run(a: Array, b: Array) -> Sequence[Array]:
        node.require(bool(np.all(b != 0)), "divisors that are not zero", "a zero")
        return divide(a, b)

    return run


def _floor_mod(node: Node) -> Kernel:
    """The remainder with the divisor's sign; only integers refuse a divisor of zero."""
    if not node.input(0).dtype.is_float:
        return _with_divisor(node, elementwise(node, np.remainder))

    def modulo(a: Array, b: Array) -> Any:
        rest = np.fmod(a, b)
        return np.where((rest != 0) & ((b < 0) != (rest < 0)), rest + b, rest)

    return elementwise(node, modulo)


# --- the others ---------------------------------------------------------------------------------------------------


def _atan2(node: Node) -> Kernel:
    dtype = node.input(0).dtype

    def angle(y: Array, x: Array) -> Array:
        y, x = widen(y, dtype), widen(x, dtype)
        return narrow(np.arctan2(y.astype(np.float64), x).astype(y.dtype), dtype)

    return elementwise(node, angle)


def _atan2_shapes(node: Node) -> Sequence[Shape | None]:
    """NOTE: LiteRT compares the ranks alone and reads past the end of the smaller operand."""
    y, x = node.input(0).shape, node.input(1).shape
    node.expect(y == x, "inputs[1]", f"the shape {y}", x)
    return [y]


def _right_shift(node: Node) -> Kernel:
    """Arithmetic, by at least 0 and at most all bits but one."""
    most = node.input(0).dtype.bits - 1
    return elementwise(node, lambda a, b: np.right_shift(a, np.clip(b, 0, most)))


def _add_n(node: Node) -> Kernel:
    """From left to right, float32 staying finite at each step.

    NOTE: LiteRT with several threads adds up a part of the operands in each, which rounds differently.
    """
    largest = np.finfo(np.float32).max

    def total(first: Array, *others: Array) -> Array:
        y = first
        for x in others:
            y = np.add(y, x)
            if y.dtype == np.float32:
                y = np.clip(y, -largest, largest)
        return y

    return elementwise(node, total)


def _add_n_shapes(node: Node) -> Sequence[Shape | None]:
    node.expect(len(node.inputs) >= 2, "inputs", "at least 2 tensors", len(node.inputs))
    first = node.input(0)
    for slot in range(1, len(node.inputs)):
        x = node.input(slot)
        node.expect(x.shape == first.shape, f"inputs[{slot}]", f"the shape {first.shape}", x.shape)
        node.expect(x.dtype is first.dtype, f"inputs[{slot}]", str(first.dtype), x.dtype)
    return [first.shape]


def _add_n_magnitude(node: Node, inputs: Sequence[Any]) -> Sequence[Any]:
    return [sum(np.abs(x) for x in inputs)]


# --- cases --------------------------------------------------------------------------------------------------------

Values = Callable[[np.random.Generator, DType, Shape, int], Array]
"""``values(rng, dtype, shape, slot)``: an operand."""


def _values(rng: np.random.Generator, dtype: DType, shape: Shape, slot: int) -> Array:
    if dtype.is_float:
        return np.asarray(reals(rng, shape), dtype.numpy)
    low, high = (-7, 7) if rng.random() < 0.5 else (None, None)
    if dtype.numpy.kind == "u" and low is not None:
        low = 0
    return integers(rng, dtype, shape, low, high)


def _divisors(rng: np.random.Generator, dtype: DType, shape: Shape, slot: int) -> Array:
    """As ``_values``, without zeros on the right."""
    x = _values(rng, dtype, shape, slot)
    return np.where((x == 0) & (slot == 1), 3, x).astype(x.dtype)


def _quotients(rng: np.random.Generator, dtype: DType, shape: Shape, slot: int) -> Array:
    """As ``_divisors``, without the least integer, which LiteRT can't divide by -1: it crashes, or the result depends
    on how the compiler converts a double that does not fit."""
    x = _divisors(rng, dtype, shape, slot)
    return x if dtype.is_float else np.maximum(x, np.iinfo(x.dtype).min + 1)


def _powers(rng: np.random.Generator, dtype: DType, shape: Shape, slot: int) -> Array:
    if dtype is DType.FLOAT32:
        x = reals(rng, shape)
        return np.abs(x) if slot == 0 and rng.random() < 0.5 else x
    return integers(rng, dtype, shape, *((0, int(rng.integers(1, 40))) if slot else (-9, 9)))


def _cases(rng: np.random.Generator, name: str, types: Sequence[DType], values: Values) -> Iterator[Case]:
    for dtype in types:
        for label, a, b in shape_pairs(rng) if dtype is types[0] else some_pairs(rng, 6):
            if name == "ATAN2" and len(a) == len(b):  # of another shape, LiteRT would read past the end
                b = a
            operands = (Operand(values(rng, dtype, a, 0)), Operand(values(rng, dtype, b, 1)))
            yield Case(f"{dtype}_{label}", operands, (Result(dtype),))
        if dtype.is_float:
            ends = np.finfo(dtype.numpy)
            special = np.array([0, -0.0, 1, -1, 2, 0.5, ends.min, ends.tiny, np.inf, -np.inf, np.nan], dtype.numpy)
            if name == "FLOOR_DIV":
                special = special[2:]
            x, y = (np.ascontiguousarray(v) for v in np.broadcast_arrays(special[:, None], special))
            yield Case(f"{dtype}_special", (Operand(x), Operand(y)), (Result(dtype),))
    yield from _extra_cases(rng, name)


def _extra_cases(rng: np.random.Generator, name: str) -> Iterator[Case]:
    if name == "POW":
        base = np.array([0.5, -1.5, 3, 1e20, -1e20, 0, np.inf, np.nan, 1e-30], np.float32)
        for exponent in (0, 1, 2, 3, 7, -2, 0.5, 2.000004, 1.99998, 40, 1e10, np.nan, np.inf):
            operands = (Operand(base), Operand(np.array([[exponent]], np.float32)))
            yield Case(f"float32_exponent_{exponent}", operands, (Result(DType.FLOAT32),))
        whole = np.array([0, 1, -1, 2, -2, 46341, 2**31 - 1], np.int32)
        for exponent in (0, 1, 2, 5, 31, 32, 1000001, -1):
            for shape in ((), (7,)):
                operands = (Operand(whole), Operand(np.full(shape, exponent, np.int32)))
                yield Case(f"int32_exponent_{exponent}_{shape}", operands, (Result(DType.INT32),))
    if name in ("FLOOR_DIV", "FLOOR_MOD"):
        for dtype in (DType.FLOAT32, DType.INT32, DType.INT8):
            operands = (Operand(np.ones(3, dtype.numpy)), Operand(np.array([1, 0, 2], dtype.numpy)))
            yield Case(f"{dtype}_by_zero", operands, (Result(dtype),))


def _add_n_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in (DType.FLOAT32, DType.INT32):
        for i, shape in enumerate([(), (5,), (2, 3, 4), (0, 3), (1,) * 9, (7, 1)]):
            n = [2, 3, 5, 8][i % 4]
            operands = tuple(Operand(_values(rng, dtype, shape, k)) for k in range(n))
            yield Case(f"{dtype}_{n}_of_{shape}", operands, (Result(dtype),))
    special = np.array([3e38, np.inf, -np.inf, np.nan, 1], np.float32)
    yield Case("special", tuple(Operand(special) for _ in range(3)), (Result(DType.FLOAT32),))
    for label, shapes in (("one", [(3,)]), ("misfit", [(3,), (1,)]), ("ranks", [(3,), (1, 3)])):
        operands = tuple(Operand(reals(rng, shape)) for shape in shapes)
        yield Case(label, operands, (Result(DType.FLOAT32),))


# --- declarations -------------------------------------------------------------------------------------------------


def _binary(
    name: str,
    options: str | None,
    hi: int,
    types: str,
    prepare: Callable[[Node], Kernel],
    *,
    values: Values = _values,
    tried: str = "",
    shapes: Callable[[Node], Sequence[Shape | None]] = binary_shapes,
    bound: Bound | None = bounds.exact,
    expression: Expression | None = None,
) -> OpDef:
    """An op on two operands of one of ``types``. tried: types of the cases, where not all can be tried."""
    cased = [DType.parse(t) for t in (tried or types).split("|")]
    return OpDef(
        name=name,
        inputs=("a", "b"),
        outputs=("output",),
        options=options,
        versions=(1, hi),
        shapes=shapes,
        forms=forms(_T, prepare, T=types.split("|")),
        bound=bound,
        expression=expression,
        cases=lambda rng: _cases(rng, name, cased, values),
    )


# bfloat16 and LiteRT's Python interface do not go together: those forms have no cases.
_ORDERED = "float32|int8|uint8|int16|int32|int64|float16"

MAXIMUM, MINIMUM = (
    _binary(
        name,
        "MaximumMinimumOptions",
        4,
        f"{_ORDERED}|bfloat16",
        _extremum,
        tried=_ORDERED,
        expression=call(name.lower(), arg(0), arg(1)),
    )
    for name in ("MAXIMUM", "MINIMUM")
)
POW = _binary(
    "POW",
    "PowOptions",
    1,
    "float32|int32",
    _pow,
    values=_powers,
    bound=bounds.ulps(2),
    expression=POW_FORMULA,
)
FLOOR_DIV = _binary("FLOOR_DIV", "FloorDivOptions", 3, "float32|int32|int16|int8", _floor_div, values=_quotients)
FLOOR_MOD = _binary("FLOOR_MOD", "FloorModOptions", 2, "float32|int32|int64|int16|int8", _floor_mod, values=_quotients)
ATAN2 = _binary(
    "ATAN2",
    "ATan2Options",
    1,
    "float32|float64|float16|bfloat16",
    _atan2,
    tried="float32|float64|float16",
    shapes=_atan2_shapes,
    bound=bounds.ulps(2),
)
_WHOLE = "int8|uint8|int16|uint16|int32|uint32"
BITWISE_XOR = _binary("BITWISE_XOR", "BitwiseXorOptions", 1, _WHOLE, lambda node: elementwise(node, np.bitwise_xor))
RIGHT_SHIFT = _binary("RIGHT_SHIFT", "RightShiftOptions", 1, _WHOLE, _right_shift)

ADD_N = OpDef(
    name="ADD_N",
    inputs=("terms*",),
    outputs=("output",),
    options="AddNOptions",
    shapes=_add_n_shapes,
    forms=forms("{T}* -> {T}", _add_n, T=("float32", "int32")),
    bound=bounds.sums(_add_n_magnitude),
    cases=_add_n_cases,
)

OPS = (MAXIMUM, MINIMUM, POW, FLOOR_DIV, FLOOR_MOD, ATAN2, BITWISE_XOR, RIGHT_SHIFT, ADD_N)
