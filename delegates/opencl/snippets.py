"""OpenCL C functions that kernels share, by name. Imports nothing.

The fixed-point functions are those of core.ops.fixed_point, statement by statement, in 64-bit integers; arithmetic
that wraps in C is done on unsigned integers, where it is defined.
"""

from __future__ import annotations

NO_CONTRACTION = "#pragma OPENCL FP_CONTRACT OFF\n"
"""The first line of a kernel whose every float operation is rounded by itself."""

_RESCALE = """
/* x * q * 2^(shift - 31), rounded twice. Source: MultiplyByQuantizedMultiplier. */
int rescale(int x, int q, int shift) {
  long wide = shift > 0 ? (long)as_int(as_uint(x) << shift) : (long)x;
  long high = (wide * (long)q + (1L << 30)) >> 31;
  if (shift < 0) high = (high + (1L << (-shift - 1)) - (high < 0 ? 1L : 0L)) >> -shift;
  return (int)high;
}
"""

_REQUANTIZE = """
/* The accumulator on the output's scale, moved by its zero point and clamped. */
int requantize(int x, int q, int shift, int zero, int low, int high) {
  return (int)clamp((long)rescale(x, q, shift) + (long)zero, (long)low, (long)high);
}
"""

_CLAMP_FLOAT = """
/* A fused activation; a NaN stays. */
float clamp_float(float x, float low, float high) { x = x < low ? low : x; return x > high ? high : x; }
"""

_CHOICES = {
    "greater_of": "/* b where a is a NaN. */\nfloat greater_of(float a, float b) { return a > b ? a : b; }\n",
    "less_of": "/* b where a is a NaN. */\nfloat less_of(float a, float b) { return a < b ? a : b; }\n",
    "sign_of": "float sign_of(float x) { return x > 0 ? 1.0f : x < 0 ? -1.0f : x; }\n",
}

_HIGH_MUL = """
/* The high half of 2ab, rounded. Source: gemmlowp, SaturatingRoundingDoublingHighMul. */
long high_mul(long a, long b) { return min((a * b + (1L << 30)) >> 31, 2147483647L); }
"""

_ONE_OVER = """
/* 1 / (1 + x) for x in [0, 1), both fractions of 2^31. Source: gemmlowp, one_over_one_plus_x_for_x_in_0_1. */
long one_over(long x) {
  long half_x = (x + 2147483648L) >> 1;
  long y = 1515870810L + high_mul(half_x, -1010580540L);
  for (int i = 0; i < 3; ++i) {
    long rest = (1L << 29) - high_mul(half_x, y);
    y += clamp(high_mul(y, rest) << 2, -2147483648L, 2147483647L);
  }
  return clamp(y << 1, -2147483648L, 2147483647L);
}
"""

_HALF_AWAY = """
/* x / 2^exponent, halves away from zero. Source: gemmlowp, RoundingDivideByPOT. */
long half_away(long x, int exponent) {
  return exponent > 0 ? (x + (1L << (exponent - 1)) - (x < 0 ? 1L : 0L)) >> exponent : x;
}
"""

_TO_INT = """
/* As x86 converts: what does not fit and NaN give -2^31. */
int to_int(float x) { return fabs(x) < 2147483648.0f ? (int)x : -2147483647 - 1; }
"""

_ROUND_TO_INT = """
/* The nearest integer, halves away from zero; what does not fit gives -2^31. */
int round_to_int(double x) {
  double y = round(x);
  return fabs(y) < 2147483648.0 ? (int)y : -2147483647 - 1;
}
"""

SNIPPETS = {
    **_CHOICES,
    "clamp_float": _CLAMP_FLOAT,
    "rescale": _RESCALE,
    "requantize": _REQUANTIZE,
    "high_mul": _HIGH_MUL,
    "one_over": _ONE_OVER,
    "half_away": _HALF_AWAY,
    "to_int": _TO_INT,
    "round_to_int": _ROUND_TO_INT,
}
"""Name → definition, each after those that it calls."""

CALLS = {"requantize": ("rescale",), "one_over": ("high_mul",)}
"""Which functions call which."""


def definitions(text: str) -> str:
    """The functions that a program's text calls, in an order in which they can be compiled."""
    used = {name for name in SNIPPETS if f"{name}(" in text}
    for name, called in CALLS.items():
        if name in used:
            used.update(called)
    return "".join(SNIPPETS[name] for name in SNIPPETS if name in used)
