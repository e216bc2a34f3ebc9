"""Fixed-point arithmetic of TFLite's quantized kernels on vectors, to the bit, and how sums reach 8 bits.

Source: core.ops.fixed_point (MultiplyByQuantizedMultiplier with double rounding), and for the fast sequence
facts-cpu.md §3.3.
"""

from __future__ import annotations

from delegraph.delegates.cpu.ir import Function, Value, const, lanes_of, vector, zero


def multiply(f: Function, x: Value, multiplier: Value, left: Value, right: Value) -> Value:
    """``multiply_by_quantized_multiplier``: int32 vectors; shifts of at least 0, one of the two being 0.

    ``x << left`` wraps; the 64-bit product is rounded to its high half, and that half away from zero.
    """
    high = high_product(f, f.binary("shl", x, left), multiplier)
    return rounding_shift(f, high, right)


def high_product(f: Function, x: Value, multiplier: Value) -> Value:
    """``(x * multiplier + 2^30) >> 31`` of int32 vectors; the multiplier is not negative."""
    lanes = lanes_of(x.type)
    if lanes == 1:
        return _scalar_high_product(f, x, multiplier)
    wide = vector(lanes // 2, "i64")
    half = const(wide, 1 << 30)

    def product(odd: bool) -> Value:
        sides = []
        for v in (x, multiplier):
            w = f.convert("bitcast", v, wide)
            sides.append(f.binary("ashr", w if odd else f.binary("shl", w, 32), 32))
        return f.add(f.mul(*sides), half)

    even = f.convert("bitcast", f.binary("lshr", product(False), 31), x.type)
    odd = f.convert("bitcast", f.binary("shl", product(True), 1), x.type)
    return f.shuffle(even, odd, [i if i % 2 == 0 else lanes + i for i in range(lanes)])


def _scalar_high_product(f: Function, x: Value, multiplier: Value) -> Value:
    wide = vector(1, "i64") if x.type.startswith("<") else "i64"
    p = f.mul(f.convert("sext", x, wide), f.convert("sext", multiplier, wide))
    return f.convert("trunc", f.binary("ashr", f.add(p, const(wide, 1 << 30)), const(wide, 31)), x.type)


def rounding_shift(f: Function, x: Value, right: Value) -> Value:
    """``rounding_divide_by_pot``: x / 2^right, halves away from zero. Source: gemmlowp, RoundingDivideByPOT."""
    one = const(x.type, 1)
    mask = f.sub(f.binary("shl", one, right), one)
    rest = f.binary("and", x, mask)
    threshold = f.add(f.binary("lshr", mask, one), f.binary("lshr", x, const(x.type, 31)))
    more = f.convert("zext", f.compare("sgt", rest, threshold), x.type)
    return f.add(f.binary("ashr", x, right), more)


def fast_scale(f: Function, x: Value, pointer: Value) -> Value:
    """As ``multiply`` and a zero point, for sums X = x + 2^31 whose constants meet ``packing.fast_constants``.

    pointer: M of the even lanes, M of the odd, C of the even, C of the odd lanes (all 64-bit), right shifts; each a
    vector's worth. Source: facts-cpu.md §3.3.
    """
    lanes = lanes_of(x.type)
    size = lanes * 4
    wide = vector(lanes // 2, "i64")
    low = const(wide, 0xFFFFFFFF)
    odd = f.shuffle(x, None, [i | 1 for i in range(lanes)])
    sums = []
    for k, side in enumerate((x, odd)):
        m = f.binary("and", f.load(wide, f.at(pointer, k * size)), low)
        p = f.mul(f.binary("and", f.convert("bitcast", side, wide), low), m)
        sums.append(f.convert("bitcast", f.add(p, f.load(wide, f.at(pointer, (2 + k) * size))), x.type))
    high = f.shuffle(sums[0], sums[1], [(i + 1) if i % 2 == 0 else lanes + i for i in range(lanes)])
    total = f.add(high, f.binary("lshr", x, const(x.type, 31)))
    return f.binary("ashr", total, f.load(x.type, f.at(pointer, 4 * size)))


def general_scale(f: Function, x: Value, pointer: Value, zero_point: Value, low: Value, high: Value) -> Value:
    """As ``multiply`` and a zero point, clamped, for any multipliers. pointer: multipliers, left and right shifts."""
    size = lanes_of(x.type) * 4
    m, left, right = (f.load(x.type, f.at(pointer, k * size)) for k in range(3))
    y = multiply(f, x, m, left, right)
    return f.add(f.clamp(y, f.sub(low, zero_point), f.sub(high, zero_point)), zero_point)


def double_scale(f: Function, x: Value, pointer: Value, zero_point: Value) -> Value:
    """``round(x * factor) + zero_point`` in double, halves away from zero; what leaves int32 gives -2^31, and the sum
    wraps. pointer: factors (double). Source: core.ops.families.fully_connected."""
    lanes = lanes_of(x.type)
    factor = f.load(vector(lanes, "double"), pointer)
    y = f.mul(f.convert("sitofp", x, factor.type), factor)
    return f.add(to_int32(f, round_half_away(f, y)), zero_point)


def round_half_away(f: Function, x: Value) -> Value:
    """``std::round`` of a vector of floats."""
    whole = f.intrinsic("trunc", x)
    far = f.compare("oge", f.intrinsic("fabs", f.sub(x, whole)), const(x.type, 0.5))
    step = f.select(far, const(x.type, 1.0), zero(x.type))
    return f.add(whole, f.intrinsic("copysign", step, x))


def to_int32(f: Function, x: Value) -> Value:
    """Floats to int32 as x86 converts them: toward zero; what does not fit, and a NaN, gives -2^31."""
    type_ = vector(lanes_of(x.type), "i32") if x.type.startswith("<") else "i32"
    fits = f.compare("olt", f.intrinsic("fabs", x), const(x.type, 2.0**31))
    inside = f.convert("fptosi", f.select(fits, x, zero(x.type)), type_)
    return f.select(fits, inside, const(type_, -(2**31)))
