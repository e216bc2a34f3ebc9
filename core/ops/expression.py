"""The small expression language of elementwise ops: one formula, rendered by every code generator.

Imports numpy and core.ops.special. An expression is built from ``arg(i)``, numbers and attributes with Python's
operators and the functions below; ``evaluate`` is the NumPy rendering, which the reference kernels use. Arithmetic is
in the type of the operands (float32 stays float32, each operation rounded once), as in LiteRT's reference kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from delegraph.core.ops.special import erfc


@dataclass(frozen=True, slots=True)
class Expression:
    """A node of a formula: ``op`` is "arg", "const", "attr" or a function of FUNCTIONS; ``args`` its operands."""

    op: str
    args: tuple[Any, ...]

    def __add__(self, other: Operand) -> Expression:
        return Expression("add", (self, _wrap(other)))

    def __radd__(self, other: Operand) -> Expression:
        return Expression("add", (_wrap(other), self))

    def __sub__(self, other: Operand) -> Expression:
        return Expression("sub", (self, _wrap(other)))

    def __rsub__(self, other: Operand) -> Expression:
        return Expression("sub", (_wrap(other), self))

    def __mul__(self, other: Operand) -> Expression:
        return Expression("mul", (self, _wrap(other)))

    def __rmul__(self, other: Operand) -> Expression:
        return Expression("mul", (_wrap(other), self))

    def __truediv__(self, other: Operand) -> Expression:
        return Expression("div", (self, _wrap(other)))

    def __rtruediv__(self, other: Operand) -> Expression:
        return Expression("div", (_wrap(other), self))

    def __neg__(self) -> Expression:
        return Expression("neg", (self,))

    def __lt__(self, other: Operand) -> Expression:
        return Expression("less", (self, _wrap(other)))

    def __ge__(self, other: Operand) -> Expression:
        return Expression("greater_equal", (self, _wrap(other)))

    def __gt__(self, other: Operand) -> Expression:
        return Expression("greater", (self, _wrap(other)))

    def __le__(self, other: Operand) -> Expression:
        return Expression("less_equal", (self, _wrap(other)))


Operand = Expression | float | int


def _wrap(value: Operand) -> Expression:
    return value if isinstance(value, Expression) else Expression("const", (value,))


def arg(index: int) -> Expression:
    """Operand ``index`` of the op."""
    return Expression("arg", (index,))


def attr(name: str) -> Expression:
    """The op's attribute ``name``, a number."""
    return Expression("attr", (name,))


def call(function: str, *args: Operand) -> Expression:
    """``call("exp", arg(0))``: a function of FUNCTIONS.

    Raises:
        KeyError: there is no such function.
    """
    FUNCTIONS[function]
    return Expression(function, tuple(_wrap(a) for a in args))


def _maximum(a: Any, b: Any) -> Any:
    """``a > b ? a : b``, so ``b`` where ``a`` is a NaN; NumPy's own gives the NaN."""
    y, nan = np.maximum(a, b), np.not_equal(a, a)
    return np.where(nan, b, y) if nan.any() else y


def _minimum(a: Any, b: Any) -> Any:
    """``a < b ? a : b``, as ``_maximum``."""
    y, nan = np.minimum(a, b), np.not_equal(a, a)
    return np.where(nan, b, y) if nan.any() else y


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "erfc": erfc,
    "floor": np.floor,
    "ceil": np.ceil,
    "round_even": np.rint,
    "pow": np.power,
    "sign": np.sign,
    "maximum": _maximum,
    "minimum": _minimum,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_not": np.logical_not,
    "select": np.where,
}


def evaluate(expression: Expression, args: Sequence[Any], attributes: Mapping[str, Any] | None = None) -> Any:
    """The value for arrays that broadcast; numbers take the type of the array that they meet."""
    match expression.op:
        case "arg":
            return args[expression.args[0]]
        case "const":
            return expression.args[0]
        case "attr":
            return (attributes or {})[expression.args[0]]
        case function:
            return FUNCTIONS[function](*(evaluate(a, args, attributes) for a in expression.args))
