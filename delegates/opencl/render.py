"""Expressions of core.ops rendered to OpenCL C, in float32. Imports core.ops.expression, traits.

Each operation is rounded by itself, as NumPy's are. Functions whose error OpenCL leaves wider than the OpDefs' bounds
are computed in double and rounded once, where the device has doubles.
Source: OpenCL C specification, "Relative error as ULPs" (exp and log 3 ULP, expm1 3, sin, cos 4, tanh 5, erfc 16).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from delegraph.core.ops.expression import Expression
from delegraph.delegates.opencl.traits import Traits

_INFIX = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
    "logical_and": "&&",
    "logical_or": "||",
}

_CALLS = {
    "abs": "fabs",
    "exp": "exp",
    "log": "log",
    "floor": "floor",
    "ceil": "ceil",
    "round_even": "rint",
    "maximum": "greater_of",
    "minimum": "less_of",
    "sign": "sign_of",
    "clamp": "clamp_float",
}

_WIDE = {"sin": "sin", "cos": "cos", "tanh": "tanh", "expm1": "expm1", "erfc": "erfc"}
"""What is computed in double."""

FUNCTIONS = frozenset({*_INFIX, *_CALLS, *_WIDE, "neg", "div", "sqrt", "select", "logical_not"})
"""What can be rendered, beside operands."""


def literal(value: float) -> str:
    """A number as a float32 constant, to the bit."""
    x = float(np.float32(value))
    if math.isnan(x):
        return "NAN"
    if math.isinf(x):
        return "INFINITY" if x > 0 else "(-INFINITY)"
    return f"{x.hex()}f" if x >= 0 else f"({x.hex()}f)"


def render(expression: Expression, args: Sequence[str], attributes: Mapping[str, float], traits: Traits) -> str:
    """The expression as OpenCL C. args: names of variables that hold the operands."""
    match expression.op:
        case "arg":
            return args[int(expression.args[0])]
        case "const":
            return literal(expression.args[0])
        case "attr":
            return literal(attributes[expression.args[0]])
    return _function(expression.op, [render(a, args, attributes, traits) for a in expression.args], traits)


def _function(name: str, args: Sequence[str], traits: Traits) -> str:
    if name in _INFIX:
        return f"({args[0]} {_INFIX[name]} {args[1]})"
    if name in _CALLS:
        return f"{_CALLS[name]}({', '.join(args)})"
    if name in _WIDE:
        return f"(float){name}((double){args[0]})" if traits.fp64 else f"{name}({args[0]})"
    match name:
        case "neg":
            return f"(-{args[0]})"
        case "logical_not":
            return f"(!{args[0]})"
        case "select":
            return f"({args[0]} != 0 ? {args[1]} : {args[2]})"
        case "div":
            return divided(args[0], args[1], traits)
        case "sqrt":
            return root(args[0], traits)
    raise KeyError(name)


def divided(a: str, b: str, traits: Traits) -> str:
    """``a / b`` rounded as IEEE 754 says, where the device can: double has more than twice float32's bits, so that
    rounding twice gives what rounding once does."""
    if traits.rounded_division or not traits.fp64:
        return f"({a} / {b})"
    return f"((float)((double){a} / (double){b}))"


def root(x: str, traits: Traits) -> str:
    """The square root, as ``divided``."""
    if traits.rounded_division or not traits.fp64:
        return f"sqrt({x})"
    return f"((float)sqrt((double){x}))"
