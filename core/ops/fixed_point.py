"""Fixed-point arithmetic of TFLite's quantized kernels, to the bit, on arrays. Imports numpy and core.graph.

Source: tflite/kernels/internal/common.cc, quantization_util.cc, kernels/kernel_util.cc of LiteRT, built with
TFLITE_SINGLE_ROUNDING=0 as in the 2.3.0 wheel. Names follow TFLite's functions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from delegraph.core.errors import InvalidModel
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
LARGEST_FLOAT = float(np.finfo(np.float32).max)
BELOW_HALF = np.nextafter(np.float32(0.5), np.float32(0))
"""The float32 just below a half: adding it and cutting off rounds halves up, and nothing that is less than one."""


def round_half_away(x: Any) -> Any:
    """``std::round``: to the nearest integer, halves away from zero; in the type of ``x``, exact for every value.

    (``floor(x + 0.5)`` would be wrong just below a half, where the sum rounds up.)
    """
    truncated = np.trunc(x)
    return truncated + np.where(np.abs(x - truncated) >= 0.5, np.copysign(1, x), 0).astype(np.asarray(x).dtype)


def quantize_multiplier(multiplier: float) -> tuple[int, int]:
    """A real as ``q · 2^(shift - 31)`` with |q| in [2^30, 2^31), or (0, 0). Source: QuantizeMultiplier."""
    if not math.isfinite(multiplier):
        raise InvalidModel("quantization", "scales of a finite ratio", str(multiplier))
    if multiplier == 0.0:
        return 0, 0
    fraction, shift = math.frexp(multiplier)
    q = math.floor(abs(fraction) * 2.0**31 + 0.5)
    if fraction < 0:
        q = -q
    if q == 1 << 31:
        q //= 2
        shift += 1
    if shift < -31:
        return 0, 0
    return q, shift


def quantize_multipliers(multipliers: npt.ArrayLike) -> tuple[Array, Array]:
    """``quantize_multiplier`` of each element: (q int64, shift int64), of the same shape."""
    values = np.asarray(multipliers, np.float64)
    pairs = [quantize_multiplier(float(m)) for m in values.reshape(-1)]
    q = np.array([p[0] for p in pairs], np.int64).reshape(values.shape)
    shift = np.array([p[1] for p in pairs], np.int64).reshape(values.shape)
    return q, shift


def checked_log2(scale: np.float32) -> int | None:
    """log2 of a scale if it is a power of two, within 1e-3 of the exponent. Source: CheckedLog2."""
    exponent = np.log(scale, dtype=np.float32) * (np.float32(1) / np.log(np.float32(2)))
    rounded = np.rint(exponent)
    return int(rounded) if abs(exponent - rounded) < 1e-3 else None


def rounding_divide_by_pot(x: Array, exponent: Any) -> Array:
    """``x / 2^exponent`` (x int64), halves away from zero; exponent ≥ 0 may be an array. Source: gemmlowp."""
    exponent = np.asarray(exponent, np.int64)
    half = np.where(exponent > 0, np.left_shift(1, np.maximum(exponent - 1, 0)), 0)
    negative = (x < 0) & (exponent > 0)
    divided: Array = (x + half - negative) >> exponent
    return divided


def saturating_rounding_doubling_high_mul(a: Array, b: Any) -> Array:
    """The high half of 2·a·b, rounded, for int32 values held as int64. Source: gemmlowp.

    gemmlowp divides toward zero after adding a signed nudge, which equals rounding halves up. The one case that
    saturates is both being -2^31.
    """
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    high: Array = np.minimum((product + (1 << 30)) >> 31, INT32_MAX)
    return high


def multiply_by_quantized_multiplier(x: Array, multiplier: Any, shift: Any) -> Array:
    """int32 values times ``multiplier · 2^(shift - 31)``, rounded twice. int64 result in int32's range.

    x: int32 or int64 array with values in int32's range; ``x << shift`` wraps as in C. multiplier, shift: int or int64
    arrays that broadcast. Source: MultiplyByQuantizedMultiplier(int32).

    NOTE: real models have scales near 1e-35 and so shifts above 31, which C does not define: the count is taken
    modulo 32, as the x86 build of LiteRT does.
    """
    shift = np.asarray(shift, np.int64)
    x = np.asarray(x, np.int64)
    if np.any(shift > 0):
        x = (x << np.where(shift > 0, shift & 31, 0)).astype(np.int32).astype(np.int64)
    high = x * np.asarray(multiplier, np.int64)
    high += 1 << 30
    high >>= 31
    right = np.maximum(-shift, 0)
    if right.ndim == 0:
        if int(right) == 0:
            return high
        high -= high < 0
        high += 1 << (int(right) - 1)
        high >>= int(right)
        return high
    return rounding_divide_by_pot(high, right)


def rounding_divide_by_pot_x86(x: Array, exponent: Array) -> Array:
    """``rounding_divide_by_pot`` of int32 values for exponents that C does not define too (below 0, above 31), as the
    x86 build of LiteRT answers: shift counts taken modulo the word size, the mask cut to 32 bits."""
    mask = (np.left_shift(1, exponent & 63) - 1).astype(np.int32).astype(np.int64)
    threshold = (mask >> 1) + (x < 0)
    return np.asarray((x >> (exponent & 31)) + ((x & mask) > threshold))


def multiply_by_quantized_multiplier_smaller_than_one_exp(x: Array, multiplier: int, shift: int) -> Array:
    """``multiply_by_quantized_multiplier`` as LiteRT computes it where it expects shift ≤ 0 and does not check.

    NOTE: with shift > 0 the results are undefined in C; these are those of the x86 build.
    """
    if shift <= 0:
        return multiply_by_quantized_multiplier(x, multiplier, shift)
    high = saturating_rounding_doubling_high_mul(x, multiplier)
    return rounding_divide_by_pot_x86(high, np.asarray(-shift, np.int64))


def count_leading_sign_bits(x: Array) -> Array:
    """How far int32 values can be shifted left: bits after the sign that equal it. Source: CountLeadingSignBits."""
    return 31 - bit_length(np.where(x < 0, ~x, x))


def bit_length(x: Array) -> Array:
    """Bits that integers in [0, 2^53] take. int64."""
    return np.frexp(np.asarray(x, np.float64))[1].astype(np.int64)


def one_over_one_plus_x(x: Array) -> Array:
    """1 / (1 + x) for x in [0, 1), both as int32 fractions of 2^31, held as int64.

    Source: gemmlowp, one_over_one_plus_x_for_x_in_0_1: three Newton steps on (1 + x) / 2, in Q2.29.
    """
    half = (np.asarray(x, np.int64) + INT32_MAX + 1) >> 1
    y = 1515870810 + saturating_rounding_doubling_high_mul(half, -1010580540)
    for _ in range(3):
        rest = (1 << 29) - saturating_rounding_doubling_high_mul(half, y)
        y = y + np.clip(saturating_rounding_doubling_high_mul(y, rest) << 2, INT32_MIN, INT32_MAX)
    return np.asarray(np.clip(y << 1, INT32_MIN, INT32_MAX))


def reciprocal(x: Array) -> tuple[Array, Array]:
    """1 / x of integers from 1 up as (inverse, over): ``inverse · 2^(-31 - over)``. Source: GetReciprocal.

    Of integers from 2^32 on, where LiteRT overflows, the highest 32 bits count.
    """
    n_bits = bit_length(x)
    normal = (np.asarray(x, np.int64) >> np.maximum(n_bits - 32, 0)) << np.maximum(32 - n_bits, 0)
    return one_over_one_plus_x(normal - (1 << 31)), n_bits - 1


def inverse_square_root(x: Array) -> tuple[Array, Array]:
    """``1 / sqrt(x)`` of int32 values from 1 up, as (q, right_shift) with value q · 2^(-31 - right_shift), both int64.

    Five Newton steps in gemmlowp's fixed point with 3 integer bits; what is below 1 counts as 1.
    Source: GetInvSqrtQuantizedMultiplierExp (kernels/internal/common.h), whose reverse_shift is the caller's minus.
    """
    value = np.maximum(np.asarray(x, np.int64), 2)
    shift = np.full(value.shape, 11, np.int64)
    for _ in range(2):
        large = value >= 1 << 29
        value = np.where(large, value // 4, value)
        shift += large
    n_bits = bit_length(value)
    pairs = (31 - n_bits) // 2 - 1
    shift -= pairs
    value = value << (2 * pairs) >> 1
    half_value = rounding_divide_by_pot(value, 1)
    high_mul = saturating_rounding_doubling_high_mul
    root = np.full(value.shape, 1 << 28, np.int64)  # 1 with 3 integer bits
    for _ in range(5):
        cube = np.clip(high_mul(high_mul(root, root), root) << 6, INT32_MIN, INT32_MAX)
        step = high_mul(root, (1 << 28) + (1 << 27)) - high_mul(half_value, cube)
        root = np.clip(step << 3, INT32_MIN, INT32_MAX)
    root = high_mul(root, 1518500250)  # sqrt(2) / 2
    root = np.where(shift < 0, root << np.maximum(-shift, 0), root)
    one = np.asarray(x) <= 1
    return np.where(one, INT32_MAX, root), np.where(one, 0, np.maximum(shift, 0))


def exp_on_negative_values(x: Array, integer_bits: int) -> Array:
    """e^x for x ≤ 0, int32 fixed point with that many bits before the point, as fractions of 2^31; all held as int64.

    Source: gemmlowp: e^x over [-1/4, 0) from a polynomial about -1/8, times e^-2^k for each further bit of -x.
    """
    high_mul = saturating_rounding_doubling_high_mul
    point = 31 - integer_bits
    quarter = 1 << (point - 2)
    rest = (x & (quarter - 1)) - quarter
    y = np.clip(rest << integer_bits, INT32_MIN, INT32_MAX) + (1 << 28)
    y2 = high_mul(y, y)
    y4 = rounding_divide_by_pot(high_mul(y2, y2), 2)
    tail = rounding_divide_by_pot(high_mul(y4 + high_mul(y2, y), _fraction(1 / 3)) + y2, 1)
    middle = _fraction(math.exp(-1 / 8))
    result = middle + high_mul(y + tail, middle)
    remaining = rest - x
    for k in range(-2, integer_bits):
        factor = _fraction(math.exp(-(2.0**k)))
        result = np.where(remaining & (1 << (point + k)), high_mul(result, factor), result)
    return np.where(x == 0, INT32_MAX, result)


def log_from_1(x: Array, x_bits: int, bits: int) -> Array:
    """The natural logarithm of values from 1 up, int32 fixed point with ``x_bits`` bits before the point; ``bits`` in
    the result. Source: log_x_for_x_greater_than_or_equal_to_1_impl (kernels/internal/common.h)."""
    high_mul = saturating_rounding_doubling_high_mul

    def shifted(value: Array, left: Any) -> Array:
        saturated: Array = np.clip(np.asarray(value, np.int64) << left, INT32_MIN, INT32_MAX)
        return saturated

    wide = 31 - (bits + 1)  # fraction bits while adding up
    root, half_root, root_2 = _fraction(0.5**0.25), _fraction(0.5**0.5), 2.0**0.25
    quarter = 1 << (wide - 2)
    # x is a power of two times r, in two ways; the r next to 2^-1/4 is taken
    zeros = 32 - bit_length(x)
    r_a = shifted(high_mul(shifted(x, zeros - 1), half_root), 1)
    power_a = np.clip(shifted(x_bits - zeros, wide) + quarter, INT32_MIN, INT32_MAX)
    zeros_b = 31 - bit_length(high_mul(x, half_root))
    r_b = shifted(x, zeros_b)
    power_b = np.clip(shifted(x_bits - zeros_b, wide) - quarter, INT32_MIN, INT32_MAX)
    r, power = np.minimum(r_a, r_b), np.maximum(power_a, power_b)
    # log(r) as a rational function
    p, q = (r + root + 1) >> 1, 2 * (r - root)
    square = high_mul(q, q)
    numerator = high_mul(q, r) + high_mul(high_mul(q, square), _fraction(11 / 240 * root_2))
    inner = _fraction(2 / root_2 - root_2) + q + high_mul(square, _fraction(root_2 / 20))
    denominator = high_mul(p, inner) + high_mul(q, _fraction(root_2 / 4))
    log_r = high_mul(rounding_divide_by_pot(numerator, bits + 1), one_over_one_plus_x(denominator))
    return shifted(high_mul(power, _fraction(math.log(2))) + log_r, 1)


def _fraction(x: float) -> int:
    """A real in (0, 1) as a fraction of 2^31."""
    return round(x * 2.0**31)


def activation_range(activation: int, dtype: DType, quantization: Quantization | None) -> tuple[int, int]:
    """The least and greatest quantized value that a fused activation lets through.

    Source: CalculateActivationRangeQuantized (kernel_util.cc). activation: schema enum ActivationFunctionType.
    """
    info = np.iinfo(dtype.numpy)
    low, high = int(info.min), int(info.max)
    if activation == 0:
        return low, high

    def q(x: float) -> int:
        assert quantization is not None
        scaled = round_half_away(np.float32(x) / quantization.scale)
        if not abs(scaled) <= 2.0**31:
            raise InvalidModel(
                "quantization", "a scale for which activation limits fit 32 bits", str(quantization.scale)
            )
        return quantization.zero_point + int(scaled)

    match activation:
        case 1:  # RELU
            return max(low, q(0.0)), high
        case 3:  # RELU6
            return max(low, q(0.0)), min(high, q(6.0))
        case 2:  # RELU_N1_TO_1
            return max(low, q(-1.0)), min(high, q(1.0))
    raise InvalidModel("fused_activation_function", "NONE, RELU, RELU_N1_TO_1 or RELU6", str(activation))


def activation_bounds(activation: int) -> tuple[float, float]:
    """The least and greatest float32 that a fused activation lets through. Source: CalculateActivationRange.

    NONE and RELU too turn infinities into the largest finite value.
    """
    match activation:
        case 0:
            return -LARGEST_FLOAT, LARGEST_FLOAT
        case 1:
            return 0.0, LARGEST_FLOAT
        case 2:
            return -1.0, 1.0
        case 3:
            return 0.0, 6.0
    raise InvalidModel("fused_activation_function", "NONE, RELU, RELU_N1_TO_1 or RELU6", str(activation))


def clamp_float(y: Array, activation: int) -> Array:
    """A fused activation on float values."""
    low, high = activation_bounds(activation)
    return np.minimum(np.maximum(y, np.float32(low)), np.float32(high))
