"""ABS, NEG, SQRT, RSQRT, SQUARE, EXP, LOG, SIN, COS, FLOOR, CEIL, ROUND and SIGN.

Source: tflite/kernels/{elementwise,exp,neg,floor,ceil,round,sign}.cc, kernels/internal/common.h (LUTPopulate,
GetInvSqrtQuantizedMultiplierExp).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization
from delegraph.core.ops import bounds
from delegraph.core.ops.broadcasting import is_quantized, per_tensor
from delegraph.core.ops.expression import arg, call
from delegraph.core.ops.fixed_point import (
    inverse_square_root,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
)
from delegraph.core.ops.movement import one_type, symmetric_int16
from delegraph.core.ops.opdef import Case, Form, Kernel, Node, Operand, Result
from delegraph.core.ops.pointwise import (
    Function,
    approximation,
    by_table,
    c_int32,
    float_cases,
    formula,
    integer_cases,
    limits,
    look_up,
    quantized_cases,
    tabulate,
    through_float64,
    unary_op,
)

_X = arg(0)
_ABS = call("abs", _X)
_SQRT = call("sqrt", _X)
_RSQRT = 1 / _SQRT
_SQUARE = _X * _X
_EXP = call("exp", _X)
_LOG = call("log", _X)
_SIN = call("sin", _X)
_COS = call("cos", _X)
_FLOOR = call("floor", _X)
_CEIL = call("ceil", _X)
_ROUND = call("round_even", _X)
_SIGN = call("sign", _X)


# --- quantized kernels --------------------------------------------------------------------------------------------


def _scales(node: Node) -> tuple[Quantization, Quantization]:
    return per_tensor(node, 0), per_tensor(node, None)


def _abs_quantized(node: Node) -> Function:
    """Source: AbsEvalQuantized. Equal scales are not rescaled at all."""
    x_q, y_q = _scales(node)
    low, high = limits(node.outputs[0].dtype)
    multiplier, shift = quantize_multiplier(float(x_q.scale / y_q.scale))

    def compute(x: Array) -> Array:
        value = np.abs(x - x_q.zero_point)
        if x_q.scale != y_q.scale:
            value = multiply_by_quantized_multiplier(value, multiplier, shift)
        clipped: Array = np.clip(value + y_q.zero_point, low, high)
        return clipped

    return compute


def _checked(function_of: Callable[[Node], Function], what: str) -> Callable[[Node], Kernel]:
    """As ``by_table``, of a function that is undefined below zero: LiteRT fails when it meets such a value."""

    def prepare(node: Node) -> Kernel:
        x_zp = per_tensor(node, 0).zero_point
        table = tabulate(node, function_of(node), least=x_zp)

        def run(x: Array) -> Sequence[Array]:
            least = int(x.min(initial=limits(node.input(0).dtype)[1]))
            node.require(least >= x_zp, f"{what} of values from the zero point {x_zp} up", least)
            return (look_up(table, x),)

        return run

    return prepare


def _sqrt_quantized(node: Node) -> Function:
    """float32 arithmetic, cut off rather than rounded. Source: SqrtEvalQuantized."""
    x_q, y_q = _scales(node)
    low, high = limits(node.outputs[0].dtype)

    def compute(x: Array) -> Array:
        root = np.sqrt(x_q.scale * (x - x_q.zero_point).astype(np.float32))
        clipped: Array = np.clip(c_int32(root / y_q.scale) + y_q.zero_point, low, high)
        return clipped

    return compute


def _rsqrt_int8(node: Node) -> Function:
    """Fixed-point; the zero point itself gives the type's greatest value. Source: RsqrtEvalQuantizedInt8."""
    x_q, y_q = _scales(node)
    low, high = limits(node.outputs[0].dtype)
    multiplier, shift = quantize_multiplier(1.0 / float(np.sqrt(x_q.scale) * y_q.scale))

    def compute(x: Array) -> Array:
        value = x - x_q.zero_point
        root, root_shift = inverse_square_root(value)
        scaled = multiply_by_quantized_multiplier(np.ones_like(value), root, 20 - root_shift)
        scaled = multiply_by_quantized_multiplier(scaled, multiplier, shift - 20)
        return np.where(value == 0, high, np.clip(scaled + y_q.zero_point, low, high))

    return compute


def _rsqrt_int16(node: Node) -> Function:
    """A table in which nothing but positive values counts. Source: GenericPrepare (elementwise.cc)."""
    _, y_q = _scales(node)

    def rsqrt(x: Array) -> Array:
        return np.where(x <= 0, np.float32(32767) * y_q.scale, np.float32(1) / np.sqrt(np.where(x <= 0, 1, x)))

    return approximation(node, lambda x: rsqrt(x).astype(np.float32))


def _exp_table(node: Node) -> Function:
    return approximation(node, through_float64(np.exp))


def _log_table(node: Node) -> Function:
    """Values up to zero give the least output. Source: LogLUTPrepare."""
    _, y_q = _scales(node)
    least = np.float32(limits(node.outputs[0].dtype)[0] - y_q.zero_point) * y_q.scale
    log = through_float64(np.log)
    return approximation(node, lambda x: np.where(x <= 0, least, log(np.where(x <= 0, np.float32(1), x))))


# --- cases --------------------------------------------------------------------------------------------------------


def _abs_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield from float_cases(rng, -4, 4)
    yield from integer_cases(rng, DType.INT32, DType.INT16)
    yield from quantized_cases(rng, (DType.INT8, DType.INT16))


def _refused_negative(rng: np.random.Generator, *dtypes: DType) -> Iterator[Case]:
    for dtype in dtypes:
        q = Quantization.per_tensor(0.1, 0)
        x = np.array([3, -1], dtype.numpy)
        yield Case(f"{dtype}_negative", (Operand(x, q),), (Result(dtype, q),))


def _sqrt_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield from float_cases(rng, -1, 100)
    yield from quantized_cases(rng, (DType.INT8, DType.INT16), non_negative=True)
    yield from _refused_negative(rng, DType.INT8, DType.INT16)


def _exp_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield from float_cases(rng, -90, 90)
    yield from quantized_cases(rng, (DType.INT8, DType.INT16), output=(-3, 1))


def _log_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield from float_cases(rng, -1, 100)
    yield from quantized_cases(rng, (DType.INT8, DType.INT16), output=(-3, 0))


def _neg_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield from float_cases(rng, -4, 4, (DType.FLOAT32, DType.FLOAT16))
    yield from integer_cases(rng, DType.INT8, DType.INT16, DType.INT32, DType.INT64)


def _sign_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield from float_cases(rng, -4, 4, (DType.FLOAT32, DType.FLOAT64))
    yield from integer_cases(rng, DType.INT32)


# --- declarations -------------------------------------------------------------------------------------------------


_HALVES = "float16|bfloat16"

ABS = unary_op(
    "ABS",
    (
        Form("float32 -> float32", formula(_ABS)),
        Form("int32 -> int32", formula(_ABS)),
        Form("int8 -> int8", by_table(_abs_quantized)),
        Form("int16 -> int16", by_table(_abs_quantized), lambda node: is_quantized(node, 0), "quantized"),
        Form("int16 -> int16", formula(_ABS), note="plain integers"),
    ),
    bounds.exact,
    _abs_cases,
    options="AbsOptions",
    constraints=(symmetric_int16(),),
    versions=(1, 5),
    expression=_ABS,
)

NEG = unary_op(
    "NEG",
    (
        Form("float32 -> float32", formula(-_X)),
        # Quantized or not: LiteRT negates the stored integers.
        one_type("{T} -> {T}", formula(-_X), "int8|int16|int32|int64"),
        one_type("{T} -> {T}", formula(-_X), _HALVES),
    ),
    bounds.exact,
    _neg_cases,
    options="NegOptions",
    expression=-_X,
)

SQRT = unary_op(
    "SQRT",
    (
        Form("float32 -> float32", formula(_SQRT)),
        Form("int8 -> int8", _checked(_sqrt_quantized, "the square root")),
        Form("int16 -> int16", _checked(_sqrt_quantized, "the square root")),
    ),
    bounds.exact,
    _sqrt_cases,
    constraints=(symmetric_int16(),),
    versions=(1, 2),
    expression=_SQRT,
)

RSQRT = unary_op(
    "RSQRT",
    (
        Form("float32 -> float32", formula(_RSQRT)),
        Form("int8 -> int8", _checked(_rsqrt_int8, "the inverse square root")),
        Form("int16 -> int16", _checked(_rsqrt_int16, "the inverse square root")),
    ),
    bounds.exact,
    _sqrt_cases,
    constraints=(symmetric_int16(),),
    versions=(1, 3),
    expression=_RSQRT,
)

SQUARE = unary_op(
    "SQUARE",
    (Form("float32 -> float32", formula(_SQUARE)),),
    bounds.exact,
    lambda rng: float_cases(rng, -4, 4),
    options="SquareOptions",
    expression=_SQUARE,
)

EXP = unary_op(
    "EXP",
    (
        Form("float32 -> float32", formula(_EXP)),
        Form("int8 -> int8", by_table(_exp_table)),
        Form("int16 -> int16", by_table(_exp_table)),
    ),
    bounds.ulps(4),
    _exp_cases,
    options="ExpOptions",
    constraints=(symmetric_int16(),),
    versions=(1, 2),
    expression=_EXP,
)

LOG = unary_op(
    "LOG",
    (
        Form("float32 -> float32", formula(_LOG)),
        Form("int8 -> int8", by_table(_log_table)),
        Form("int16 -> int16", by_table(_log_table)),
    ),
    bounds.ulps(4),
    _log_cases,
    constraints=(symmetric_int16(),),
    versions=(1, 2),
    expression=_LOG,
)

SIN = unary_op(
    "SIN",
    (Form("float32 -> float32", formula(_SIN)), Form("float16 -> float16", formula(_SIN))),
    bounds.ulps(2),
    lambda rng: float_cases(rng, -30, 30, (DType.FLOAT32, DType.FLOAT16)),
    versions=(1, 2),
    expression=_SIN,
)

COS = unary_op(
    "COS",
    (Form("float32 -> float32", formula(_COS)), Form("float16 -> float16", formula(_COS))),
    bounds.ulps(2),
    lambda rng: float_cases(rng, -30, 30, (DType.FLOAT32, DType.FLOAT16)),
    options="CosOptions",
    versions=(1, 2),
    expression=_COS,
)

FLOOR = unary_op(
    "FLOOR",
    (Form("float32 -> float32", formula(_FLOOR)), one_type("{T} -> {T}", formula(_FLOOR), _HALVES)),
    bounds.exact,
    lambda rng: float_cases(rng, -4, 4, (DType.FLOAT32, DType.FLOAT16)),
    expression=_FLOOR,
)

# BUILTIN_REF has no CEIL and no ROUND: the builtin resolver is their oracle.
CEIL = unary_op(
    "CEIL",
    (Form("float32 -> float32", formula(_CEIL)),),
    bounds.exact,
    lambda rng: float_cases(rng, -4, 4, oracle="builtin"),
    expression=_CEIL,
)

ROUND = unary_op(
    "ROUND",
    (Form("float32 -> float32", formula(_ROUND)), one_type("{T} -> {T}", formula(_ROUND), _HALVES)),
    bounds.exact,
    lambda rng: float_cases(rng, -4, 4, (DType.FLOAT32, DType.FLOAT16), oracle="builtin"),
    expression=_ROUND,
)

SIGN = unary_op(
    "SIGN",
    (
        one_type("{T} -> {T}", formula(_SIGN), "float32|float64"),
        Form("int32 -> int32", formula(_SIGN)),
    ),
    bounds.exact,
    _sign_cases,
    options="SignOptions",
    versions=(1, 2),
    expression=_SIGN,
)

OPS = (ABS, NEG, SQRT, RSQRT, SQUARE, EXP, LOG, SIN, COS, FLOOR, CEIL, ROUND, SIGN)
