"""ADD, SUB, MUL, DIV and SQUARED_DIFFERENCE.

Source: tflite/kernels/{add,sub,mul,div,squared_difference}.cc; kernels/internal/reference/{add,sub,mul,div}.h,
reference/integer_ops/{add,mul}.h.

Quantized sums bring both operands to the scale ``2 · max(s1, s2) / 2^left_shift`` before they are added; products and
quotients are scaled once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.broadcasting import (
    binary_shapes,
    elementwise,
    elementwise_bytes,
    is_quantized,
    per_tensor,
    shape_pairs,
    some_pairs,
)
from delegraph.core.ops.cases import integers, quantized, reals
from delegraph.core.ops.expression import Expression, arg, evaluate
from delegraph.core.ops.fixed_point import (
    activation_bounds,
    activation_range,
    count_leading_sign_bits,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    reciprocal,
    rounding_divide_by_pot,
    rounding_divide_by_pot_x86,
    saturating_rounding_doubling_high_mul,
)
from delegraph.core.ops.opdef import Case, Constraint, Form, Kernel, Node, OpDef, Operand, Result, forms

EXPRESSIONS = {
    "ADD": arg(0) + arg(1),
    "SUB": arg(0) - arg(1),
    "MUL": arg(0) * arg(1),
    "DIV": arg(0) / arg(1),
    "SQUARED_DIFFERENCE": (arg(0) - arg(1)) * (arg(0) - arg(1)),
}
"""The formulas, before the fused activation."""


def _formula(node: Node) -> Expression:
    return EXPRESSIONS[node.op.name]


def _activation(node: Node) -> int:
    return 0 if node.op.name == "SQUARED_DIFFERENCE" else int(node.options.fused_activation_function)


# --- numbers that are not quantized -------------------------------------------------------------------------------


def saturate(y: Array, activation: int) -> Array:
    """A fused activation on float32 values, in place. Without one, infinities become the largest finite number.

    Source: CalculateActivationRange (kernel_util.h), whose limits are those of finite numbers.
    """
    low, high = activation_bounds(activation)
    finite = np.finfo(np.float32)
    y = np.asarray(y)
    return np.clip(y, max(low, finite.min), min(high, finite.max), out=y)


def clamp_integers(y: Array, activation: int) -> Array:
    """A fused activation on integers of the array's type (-1 wraps in an unsigned one)."""
    if activation == 0:
        return y
    low, high = activation_bounds(activation)
    y = np.maximum(y, np.array(int(low)).astype(y.dtype))
    return y if high == np.inf else np.minimum(y, np.array(int(high)).astype(y.dtype))


def _float(node: Node) -> Kernel:
    formula, activation = _formula(node), _activation(node)
    if node.op.name == "SQUARED_DIFFERENCE":  # has no limits either
        return elementwise(node, lambda a, b: evaluate(formula, (a, b)))
    return elementwise(node, lambda a, b: saturate(evaluate(formula, (a, b)), activation))


def _integer(node: Node) -> Kernel:
    """Integers wrap."""
    formula, activation = _formula(node), _activation(node)
    return elementwise(node, lambda a, b: clamp_integers(evaluate(formula, (a, b)), activation))


def _float16(node: Node) -> Kernel:
    """NOTE: without limits of its own, the reference clamps float16 as its float32 limits convert: to infinities."""
    formula = _formula(node)
    low, high = (np.float16(limit) for limit in activation_bounds(_activation(node)))
    return elementwise(node, lambda a, b: np.clip(evaluate(formula, (a, b)), low, high))


def _complex(node: Node) -> Kernel:
    node.expect(_activation(node) == 0, "fused_activation_function", "NONE with complex numbers", _activation(node))

    def product(a: Array, b: Array) -> Array:  # NumPy's own fuses multiply and add
        out = np.empty(np.broadcast_shapes(a.shape, b.shape), np.complex64)
        out.real = a.real * b.real - a.imag * b.imag
        out.imag = a.real * b.imag + a.imag * b.real
        return out

    return elementwise(node, product)


def _integer_div(node: Node) -> Kernel:
    """Quotients truncated toward zero. LiteRT refuses divisors of zero and crashes on -2^31 / -1."""
    activation = _activation(node)

    def quotient(a: Array, b: Array) -> Array:
        overflows = (b == -1) & (a == np.iinfo(np.int32).min)
        node.require(not overflows.any(), "quotients within int32", "-2147483648 / -1")
        # In double, a quotient of int32 values never rounds up to the next integer.
        return clamp_integers((a.astype(np.float64) / b).astype(np.int32), activation)

    divide = elementwise(node, quotient)

    def run(a: Array, b: Array) -> Sequence[Array]:
        node.require(bool(np.all(b != 0)), "divisors that are not zero", "a zero")
        return divide(a, b)

    return run


# --- quantized sums -----------------------------------------------------------------------------------------------

LEFT_SHIFT = {"ADD": 20, "SUB": 20, "SQUARED_DIFFERENCE": 7}


def _left_shift(node: Node) -> int:
    return 15 if node.input(0).dtype is DType.INT16 else LEFT_SHIFT[node.op.name]


def _sum_multipliers(node: Node) -> tuple[float, float, float]:
    """What the two inputs and their sum (or its square) are multiplied by. Source: Prepare of add.cc, sub.cc,
    squared_difference.cc: the doubled scale and the product with the output's scale are float32."""
    s1, s2, s_out = (per_tensor(node, slot).scale for slot in (0, 1, None))
    twice = float(np.float32(2) * max(s1, s2))
    shift = _left_shift(node)
    if node.op.name == "SQUARED_DIFFERENCE":
        return float(s1) / twice, float(s2) / twice, twice * twice / float(np.float32(1 << 2 * shift) * s_out)
    return float(s1) / twice, float(s2) / twice, twice / float(np.float32(1 << shift) * s_out)


def _sum_quantized(node: Node) -> Kernel:
    m1, m2, m_out = (quantize_multiplier(m) for m in _sum_multipliers(node))
    zp1, zp2, zp_out = (per_tensor(node, slot).zero_point for slot in (0, 1, None))
    low, high = activation_range(_activation(node), node.outputs[0].dtype, node.output_quantization())
    shift, name = _left_shift(node), node.op.name

    def function(a: Array, b: Array) -> Array:
        x = multiply_by_quantized_multiplier((a.astype(np.int64) - zp1) << shift, *m1)
        y = multiply_by_quantized_multiplier((b.astype(np.int64) - zp2) << shift, *m2)
        total = x + y if name == "ADD" else x - y
        if name == "SQUARED_DIFFERENCE":
            total = total * total
        return np.clip(multiply_by_quantized_multiplier(total, *m_out) + zp_out, low, high)

    return _small_integers(node, function)


def _small_integers(node: Node, function: Callable[[Array, Array], Array]) -> Kernel:
    if node.input(0).dtype is DType.INT16:
        return elementwise(node, function)
    return elementwise_bytes(node, function)


def _rescales_down(node: Node) -> str | None:
    """From 1 on ADD, SQUARED_DIFFERENCE, and SUB at 1 abort. NOTE: above 1 the results of SUB are undefined and senseless."""
    if node.input(0).dtype not in (DType.INT8, DType.UINT8) and not _is_general_int16(node):
        return None
    multiplier = _sum_multipliers(node)[2]
    if multiplier < 1:
        return None
    return f"a multiplier of {multiplier:g}"


RESCALES_DOWN = Constraint(
    "output_multiplier",
    "the output's scale has to be large enough for the sum to be scaled down",
    _rescales_down,
)


# --- int16 sums ---------------------------------------------------------------------------------------------------


def checked_log2(scale: np.float32) -> int | None:
    """log2 of a scale if it is a power of two, within 1e-3 of the exponent. Source: CheckedLog2."""
    exponent = np.log(scale, dtype=np.float32) * (np.float32(1) / np.log(np.float32(2)))
    rounded = np.rint(exponent)
    return int(rounded) if abs(exponent - rounded) < 1e-3 else None


def _is_plain_int16(node: Node) -> bool:
    return not any(is_quantized(node, slot) for slot in (0, 1, None))


def _pot_exponents(node: Node) -> tuple[int, int] | None:
    """log2 of the input scales over the output scale where all three are powers of two and the op says so."""
    if not node.options.pot_scale_int16:
        return None
    logs = [checked_log2(per_tensor(node, slot).scale) for slot in (0, 1, None)]
    if None in logs:
        return None
    x, y, z = (log for log in logs if log is not None)
    return x - z, y - z


def _is_general_int16(node: Node) -> bool:
    return (
        node.input(0).dtype is DType.INT16 and not _is_plain_int16(node) and _pot_exponents(node) is None
    )


def _int16_symmetric(node: Node) -> str | None:
    if node.input(0).dtype is not DType.INT16 or _is_plain_int16(node):
        return None
    points = [per_tensor(node, slot).zero_point for slot in (0, 1, None)]
    return None if not any(points) else f"zero points {points}"


def _int16_pot(node: Node) -> str | None:
    """NOTE: LiteRT shifts int16 by more than 15 bits wrongly."""
    if node.input(0).dtype is not DType.INT16 or _is_plain_int16(node):
        return None
    shifts = _pot_exponents(node)
    if shifts is None or (max(shifts) == 0 and min(shifts) >= -15):
        return None
    return f"input scales 2^{shifts[0]} and 2^{shifts[1]} times the output's"


def _int16_pot_broadcast(node: Node) -> str | None:
    if node.op.name != "ADD" or node.input(0).dtype is not DType.INT16 or _is_plain_int16(node):
        return None
    x, y = node.input(0).shape, node.input(1).shape
    while x[:1] == (1,) and len(x) > len(y):
        x = x[1:]
    while y[:1] == (1,) and len(y) > len(x):
        y = y[1:]
    return None if x == y or _pot_exponents(node) is None else f"{node.input(0).shape} and {node.input(1).shape}"


INT16_CONSTRAINTS = (
    RESCALES_DOWN,
    Constraint("int16_symmetric", "int16 operands have to have zero points of 0", _int16_symmetric),
    Constraint(
        "int16_power_of_two",
        "of int16 operands whose scales are powers of two, one has to have the output's scale and the other at most it",
        _int16_pot,
    ),
    Constraint(
        "int16_broadcast",
        "ADD of int16 operands whose scales are powers of two does not broadcast",
        _int16_pot_broadcast,
    ),
)


def _sum_int16(node: Node) -> Kernel:
    shifts = _pot_exponents(node)
    if shifts is None:
        return _sum_quantized(node)
    low, high = activation_range(_activation(node), DType.INT16, node.output_quantization())
    combine = np.add if node.op.name == "ADD" else np.subtract

    def function(a: Array, b: Array) -> Array:
        x = rounding_divide_by_pot(a.astype(np.int64), -shifts[0])
        y = rounding_divide_by_pot(b.astype(np.int64), -shifts[1])
        return np.clip(combine(x, y), low, high)

    return elementwise(node, function)


# --- quantized products and quotients -----------------------------------------------------------------------------


def _mul_quantized(node: Node) -> Kernel:
    (x, y, z) = (per_tensor(node, slot) for slot in (0, 1, None))
    multiplier = quantize_multiplier(float(x.scale * y.scale / z.scale))
    low, high = activation_range(_activation(node), node.outputs[0].dtype, z)

    def function(a: Array, b: Array) -> Array:
        product = (a.astype(np.int64) - x.zero_point) * (b.astype(np.int64) - y.zero_point)
        return np.clip(multiply_by_quantized_multiplier(product, *multiplier) + z.zero_point, low, high)

    return _small_integers(node, function)


def _mul_int16_to_bytes(node: Node) -> Kernel:
    """int16 operands are taken as fractions in [-1, 1), whatever their scales. Source: reference_ops.h, Mul."""
    z = per_tensor(node, None)
    low, high = activation_range(_activation(node), node.outputs[0].dtype, z)

    def function(a: Array, b: Array) -> Array:
        product = (a.astype(np.int64) * b.astype(np.int64) + (1 << 14)) >> 15
        product = rounding_divide_by_pot(np.minimum(product, 32767), 8)
        return np.maximum(np.minimum(product, high - z.zero_point), low - z.zero_point) + z.zero_point

    return elementwise(node, function)


def _mul_symmetric(node: Node) -> str | None:
    if node.input(0).dtype is not DType.INT16 or node.outputs[0].dtype is not DType.INT16:
        return None
    points = [per_tensor(node, slot).zero_point for slot in (0, 1, None)] if is_quantized(node, None) else [0]
    return None if not any(points) else f"zero points {points}"


def _mul_narrowing(node: Node) -> str | None:
    x, y = node.input(0), node.input(1)
    narrows = x.dtype is DType.INT16 and node.outputs[0].dtype is not DType.INT16
    return f"{x.shape} and {y.shape}" if narrows and x.shape != y.shape else None


MUL_CONSTRAINTS = (
    Constraint("int16_symmetric", "int16 operands have to have zero points of 0", _mul_symmetric),
    Constraint("int16_broadcast", "MUL of int16 operands to 8 bits does not broadcast", _mul_narrowing),
)


def _div_quantized(node: Node) -> Kernel:
    """The dividend, shifted to use all 31 bits, times the reciprocal of the divisor. Source: reference/div.h."""
    (x, y, z) = (per_tensor(node, slot) for slot in (0, 1, None))
    multiplier, shift = quantize_multiplier(float(x.scale / (y.scale * z.scale)))
    low, high = activation_range(_activation(node), node.outputs[0].dtype, z)

    def function(a: Array, b: Array) -> Array:
        divisor = b.astype(np.int64) - y.zero_point
        dividend = (a.astype(np.int64) - x.zero_point) * np.where(divisor < 0, -1, 1)
        inverse, over = reciprocal(np.abs(divisor))
        headroom = count_leading_sign_bits(dividend)
        quotient = saturating_rounding_doubling_high_mul(dividend << headroom, inverse)
        quotient = saturating_rounding_doubling_high_mul(quotient, multiplier)
        scaled = rounding_divide_by_pot_x86(quotient, headroom + over - shift)
        return np.clip(scaled + z.zero_point, low, high)

    divide = _small_integers(node, function)

    def run(a: Array, b: Array) -> Sequence[Array]:
        node.require(bool(np.all(b != y.zero_point)), "divisors that are not zero", "a zero")
        return divide(a, b)

    return run


# --- cases --------------------------------------------------------------------------------------------------------

_FUSED = ("none", "relu", "relu_n1_to_1", "relu6")


def _cases(rng: np.random.Generator, name: str) -> Iterator[Case]:
    for label, a, b in shape_pairs(rng):
        fused = int(rng.integers(0, 4))
        yield _case(rng, name, DType.FLOAT32, f"{label}_{_FUSED[fused]}", a, b, fused)
    types = TYPES[name]
    for dtype in types:
        for i, (label, a, b) in enumerate(some_pairs(rng, 4)):
            yield _case(rng, name, dtype, f"{i}_{label}_{_FUSED[i]}", a, b, i)
    yield from _special_floats(rng, name)
    for dtype in (DType.INT8, DType.UINT8, DType.INT16):
        if dtype in types:
            for i in range(6):
                yield _quantized_case(rng, name, dtype, i)
    if name in ("ADD", "SUB"):
        yield from _pot_cases(rng, name)
    if name == "MUL":
        yield from _narrowing_cases(rng)


TYPES = {
    "ADD": (DType.INT32, DType.INT64, DType.INT16, DType.FLOAT16, DType.INT8, DType.UINT8),
    "SUB": (DType.INT32, DType.INT64, DType.INT8, DType.UINT8, DType.INT16),
    "MUL": (
        DType.INT32,
        DType.INT64,
        DType.UINT32,
        DType.INT16,
        DType.FLOAT16,
        DType.COMPLEX64,
        DType.INT8,
        DType.UINT8,
    ),
    "DIV": (DType.INT32, DType.INT8, DType.UINT8, DType.INT16),
    "SQUARED_DIFFERENCE": (DType.INT32, DType.INT8),
}
"""What each op takes besides float32."""


def _options(name: str, fused: int) -> dict[str, int]:
    return {} if name == "SQUARED_DIFFERENCE" else {"fused_activation_function": fused}


def _case(
    rng: np.random.Generator, name: str, dtype: DType, label: str, a: Shape, b: Shape, fused: int
) -> Case:
    q: list[Quantization | None] = [None, None, None]
    if dtype.is_float:
        x, y = reals(rng, a).astype(dtype.numpy), reals(rng, b).astype(dtype.numpy)
    elif dtype is DType.COMPLEX64:
        x, y = (np.asarray(reals(rng, s) + 1j * reals(rng, s), np.complex64) for s in (a, b))
        fused = 0
    else:
        small = (0 if dtype.numpy.kind == "u" else -9, 9) if rng.random() < 0.7 else (None, None)
        x, y = (integers(rng, dtype, s, *small) for s in (a, b))
        if dtype.bits == 8 or (dtype is DType.INT16 and name in ("SUB", "DIV")):
            (q[0], x), (q[1], y) = quantized(rng, dtype, a), quantized(rng, dtype, b)
            q[2] = quantized(rng, dtype, ())[0]
        if name == "DIV":
            zero = 0 if q[1] is None else q[1].zero_point
            y = np.where(y == zero, zero + (1 if zero < 1 else -1), y).astype(y.dtype)
    constant = bool(rng.random() < 0.3)
    return Case(
        f"{dtype}_{label}",
        (Operand(x, q[0]), Operand(y, q[1], constant=constant)),
        (Result(dtype, q[2]),),
        _options(name, fused),
    )


def _special_floats(rng: np.random.Generator, name: str) -> Iterator[Case]:
    values = np.array([0, -0.0, 1, -1, 3e38, -3e38, 1e-38, 1e-45, np.inf, -np.inf, np.nan], np.float32)
    for fused, label in enumerate(_FUSED):
        yield Case(
            f"special_{label}",
            (Operand(values[:, None]), Operand(values)),
            (Result(DType.FLOAT32),),
            _options(name, fused),
        )
    if name == "DIV":
        ones = np.array([1, -7, 7], np.int32)
        for y in ([1, 0, 2], [-2, 2, -2], [-1, -1, -1]):
            operands = (Operand(ones), Operand(np.array(y, np.int32)))
            yield Case(f"int32_by_{y}", operands, (Result(DType.INT32),), _options(name, 0))


def _quantized_case(rng: np.random.Generator, name: str, dtype: DType, i: int) -> Case:
    """Scales of all sizes and zero points at the ends of the type, on values of the whole type."""
    info = np.iinfo(dtype.numpy)
    points = [0, 0, 0]
    if dtype is not DType.INT16 or name == "DIV":
        points = [int(rng.choice([info.min, 0, info.max, integers(rng, dtype, ())])) for _ in range(3)]
    s1, s2 = (float(np.exp(rng.uniform(*((-9, -1) if i < 4 else (-16, 3))))) for _ in range(2))
    typical = {"MUL": s1 * s2 * 100, "DIV": s1 / s2 / 20, "SQUARED_DIFFERENCE": max(s1, s2) ** 2 * 200}
    s_out = typical.get(name, max(s1, s2) * 2) * float(np.exp(rng.uniform(-2, 2) * (1 + (i == 5))))
    shape_a, shape_b = ((40,), (40,)) if i % 2 else ((8, 1, 5), (7, 1))
    a, b = integers(rng, dtype, shape_a), integers(rng, dtype, shape_b)
    if name == "DIV":
        b = np.where(b == points[1], points[1] + (1 if points[1] < info.max else -1), b).astype(b.dtype)
        if i == 0:  # a division by zero
            b.reshape(-1)[3] = points[1]
    if name == "ADD" and dtype is not DType.INT16 and i == 3:  # an output scale that may be too small
        s_out = max(s1, s2) * 2.0 ** -float(rng.integers(17, 22))
    fused = int(rng.integers(0, 4))
    qs = [Quantization.per_tensor(s, p) for s, p in zip((s1, s2, s_out), points, strict=True)]
    options = _options(name, fused)
    if dtype is DType.INT16 and name in ("ADD", "SUB"):
        options["pot_scale_int16"] = bool(i % 2)
    return Case(
        f"{dtype}_quantized_{i}", (Operand(a, qs[0]), Operand(b, qs[1])), (Result(dtype, qs[2]),), options
    )


def _pot_cases(rng: np.random.Generator, name: str) -> Iterator[Case]:
    """int16 with scales that are powers of two (nearly), in the two arrangements that exist and some that do not."""
    for i, (e1, e2) in enumerate([(0, 0), (0, -3), (-1, 0), (0, -15), (1, 0), (-2, -2), (0, -9), (-8, 0)]):
        e_out = int(rng.integers(-15, -3))
        scales = [2.0 ** (e1 + e_out) * (1 + 3e-4 * (i % 2)), 2.0 ** (e2 + e_out), 2.0**e_out]
        x, y, z = (Quantization.per_tensor(s, 0) for s in scales)
        shapes = [((30,), (30,)), ((2, 5), (1, 2, 5)), ((3, 4), (4,))][i % 3 if name == "SUB" or i == 5 else i % 2]
        a, b = (integers(rng, DType.INT16, s) for s in shapes)
        options = {"pot_scale_int16": i != 7, **_options(name, int(rng.integers(0, 4)))}
        yield Case(f"int16_pot_{i}", (Operand(a, x), Operand(b, y)), (Result(DType.INT16, z),), options)


def _narrowing_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in (DType.INT8, DType.UINT8):
        z, _ = quantized(rng, dtype, ())
        (x, a), (y, b) = quantized(rng, DType.INT16, (3, 20)), quantized(rng, DType.INT16, (3, 20))
        a[0, :2] = b[0, :2] = (-32768, 32767)
        options = {"fused_activation_function": int(rng.integers(0, 4))}
        yield Case(f"int16_to_{dtype}", (Operand(a, x), Operand(b, y)), (Result(dtype, z),), options)


# --- declarations -------------------------------------------------------------------------------------------------


def _op(name: str, hi: int, more: tuple[Form, ...], constraints: tuple[Constraint, ...] = ()) -> OpDef:
    options = {"SQUARED_DIFFERENCE": "SquaredDifferenceOptions"}.get(name, f"{name.title()}Options")
    return OpDef(
        name=name,
        inputs=("a", "b"),
        outputs=("output",),
        options=options,
        versions=(1, hi),
        shapes=binary_shapes,
        forms=(Form("float32, float32 -> float32", _float), *more),
        constraints=constraints,
        bound=bounds.exact,
        expression=EXPRESSIONS[name],
        cases=lambda rng: _cases(rng, name),
    )


_T = "{T}, {T} -> {T}"

ADD = _op(
    "ADD",
    6,
    (
        *forms(_T, _integer, T=("int32", "int64")),
        Form("int16, int16 -> int16", _integer, when=_is_plain_int16, note="not quantized"),
        Form("float16, float16 -> float16", _float16),
        *forms(_T, _sum_quantized, T=("int8", "uint8")),
        Form("int16, int16 -> int16", _sum_int16),
    ),
    INT16_CONSTRAINTS,
)
SUB = _op(
    "SUB",
    5,
    (
        *forms(_T, _integer, T=("int32", "int64")),
        *forms(_T, _sum_quantized, T=("int8", "uint8")),
        Form("int16, int16 -> int16", _sum_int16),
    ),
    INT16_CONSTRAINTS,
)
MUL = _op(
    "MUL",
    8,
    (
        *forms(_T, _integer, T=("int32", "int64", "uint32")),
        Form("int16, int16 -> int16", _integer, when=lambda node: not is_quantized(node, None), note="not quantized"),
        Form("float16, float16 -> float16", _float16),
        Form("complex64, complex64 -> complex64", _complex),
        *forms(_T, _mul_quantized, T=("int8", "uint8")),
        Form("int16, int16 -> int16", _mul_quantized),
        Form("int16, int16 -> int8", _mul_int16_to_bytes),
        Form("int16, int16 -> uint8", _mul_int16_to_bytes),
    ),
    MUL_CONSTRAINTS,
)
DIV = _op(
    "DIV",
    2,
    (
        Form("int32, int32 -> int32", _integer_div),
        *forms(_T, _div_quantized, T=("int8", "uint8", "int16")),
    ),
)
SQUARED_DIFFERENCE = _op(
    "SQUARED_DIFFERENCE",
    2,
    (Form("int32, int32 -> int32", _integer), Form("int8, int8 -> int8", _sum_quantized)),
    (RESCALES_DOWN,),
)

OPS = (ADD, SUB, MUL, DIV, SQUARED_DIFFERENCE)
