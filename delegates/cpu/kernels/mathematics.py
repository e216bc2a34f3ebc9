"""Functions of float32 vectors without a C library, and formulas of ``core.ops.expression`` in IR.

Accuracy: exp within 1 ulp, tanh within 2 (facts-cpu.md §5.4; Cephes expf, tanhf).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from delegraph.core.ops.expression import Expression
from delegraph.delegates.cpu.ir import Function, Value, const, lanes_of, vector
from delegraph.delegates.cpu.isa import Target


def fma(f: Function, target: Target, a: Value, b: Value, c: Value) -> Value:
    """``a * b + c``, rounded once where the CPU can."""
    if target.has_fma:
        return f.intrinsic("fma", a, b, c)
    return f.add(f.mul(a, b), c)


def _polynomial(f: Function, target: Target, x: Value, coefficients: Sequence[float]) -> Value:
    y = const(x.type, coefficients[0])
    for c in coefficients[1:]:
        y = fma(f, target, y, x, const(x.type, c))
    return y


def exp(f: Function, target: Target, x: Value) -> Value:
    """e^x; 0, denormals and infinity where they belong; a NaN stays.

    x = k·ln 2 + r, e^r by a polynomial of degree 5, times 2^k in two steps, so that denormals round once more.
    """
    ints = vector(lanes_of(x.type), "i32") if x.type.startswith("<") else "i32"
    x = f.clamp(x, const(x.type, -104.0), const(x.type, 89.0))
    magic = const(x.type, 12582912.0)
    shifted = f.add(f.mul(x, const(x.type, 1.44269504088896341)), magic)
    k = f.sub(shifted, magic)
    r = fma(f, target, k, const(x.type, -0.693359375), x)
    r = fma(f, target, k, const(x.type, 2.12194440e-4), r)
    p = _polynomial(
        f,
        target,
        r,
        (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1),
    )
    y = f.add(fma(f, target, f.mul(r, r), p, r), const(x.type, 1.0))
    n = f.sub(f.convert("bitcast", shifted, ints), 0x4B400000)
    first = f.binary("ashr", n, 1)
    for part in (first, f.sub(n, first)):
        power = f.binary("shl", f.add(part, 127), 23)
        y = f.mul(y, f.convert("bitcast", power, x.type))
    return y


def tanh(f: Function, target: Target, x: Value) -> Value:
    """The hyperbolic tangent: a polynomial below 0.625, else 1 - 2 / (e^2|x| + 1)."""
    size = f.intrinsic("fabs", x)
    square = f.mul(x, x)
    p = _polynomial(
        f,
        target,
        square,
        (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1),
    )
    small = fma(f, target, f.mul(square, x), p, x)
    e = exp(f, target, f.add(size, size))
    one = const(x.type, 1.0)
    large = f.sub(one, f.binary("fdiv", const(x.type, 2.0), f.add(e, one)))
    large = f.intrinsic("copysign", large, x)
    return f.select(f.compare("olt", size, const(x.type, 0.625)), small, large)


RENDERED = frozenset(
    "arg const attr add sub mul div neg abs sqrt exp tanh floor ceil round_even maximum minimum less less_equal"
    " greater greater_equal equal not_equal select".split()
)
"""The words of the expression language that ``render`` knows."""

_PREDICATES = {
    "less": "olt",
    "less_equal": "ole",
    "greater": "ogt",
    "greater_equal": "oge",
    "equal": "oeq",
    "not_equal": "une",
}


def is_rendered(expression: Expression) -> bool:
    """Whether ``render`` can render all of a formula."""
    return expression.op in RENDERED and all(is_rendered(a) for a in expression.args if isinstance(a, Expression))


def render(
    f: Function,
    target: Target,
    expression: Expression,
    args: Sequence[Value],
    attributes: Mapping[str, Value],
) -> Value:
    """A formula of float vectors. Each operation is rounded once, as in the reference kernels."""
    type_ = args[0].type

    def operand(a: Expression) -> Value:
        return render(f, target, a, args, attributes)

    match expression.op:
        case "arg":
            index: int = expression.args[0]
            return args[index]
        case "const":
            return const(type_, float(expression.args[0]))
        case "attr":
            return attributes[expression.args[0]]
    values = [operand(a) for a in expression.args]
    match expression.op:
        case "add" | "sub" | "mul" | "div" as op:
            return f.binary(f"f{op}", values[0], values[1])
        case "neg":
            return f.emit(type_, f"fneg {values[0]}")
        case "abs":
            return f.intrinsic("fabs", values[0])
        case "sqrt" | "floor" | "ceil" as name:
            return f.intrinsic(name, values[0])
        case "round_even":
            return f.intrinsic("nearbyint", values[0])
        case "exp":
            return exp(f, target, values[0])
        case "tanh":
            return tanh(f, target, values[0])
        case "maximum":
            return f.select(f.compare("ogt", values[0], values[1]), values[0], values[1])
        case "minimum":
            return f.select(f.compare("olt", values[0], values[1]), values[0], values[1])
        case "select":
            return f.select(values[0], values[1], values[2])
    return f.compare(_PREDICATES[expression.op], values[0], values[1])
