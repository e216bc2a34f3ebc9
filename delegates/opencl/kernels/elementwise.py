"""Elementwise float32 ops: their OpDefs' expressions, which the compiler fuses. Imports core.ops, lowering, rules.

What a reference form does beside its expression is added here: the fused activation of the arithmetic ops, and the
attributes of the others.
"""

from __future__ import annotations

from collections.abc import Callable

from delegraph.core.errors import InternalError
from delegraph.core.graph.dtype import DType
from delegraph.core.ops.expression import Expression
from delegraph.core.ops.fixed_point import activation_bounds
from delegraph.core.ops.opdef import Node
from delegraph.core.ops.registry import expression_of
from delegraph.delegates.opencl.launches import Emitter
from delegraph.delegates.opencl.lowering import Formula, Lowering, Rule
from delegraph.delegates.opencl.rules import ACTIVATION, DIVISION, less_accurate, needs_fp64


def _plain(node: Node) -> Formula:
    return Formula(expression_of(node.op.name), {})


def _activated(node: Node) -> Formula:
    """With the fused activation; without one, infinities become the largest finite number, as in the reference."""
    bounds = activation_bounds(int(node.options.fused_activation_function))
    limits = (Expression("const", (bound,)) for bound in bounds)
    return Formula(Expression("clamp", (expression_of(node.op.name), *limits)), {})


def _with(*names: str) -> Callable[[Node], Formula]:
    """The expression with these options as its attributes."""
    return lambda node: Formula(
        expression_of(node.op.name), {name: float(getattr(node.options, name)) for name in names}
    )


def _fused(node: Node, emit: Emitter) -> None:
    raise InternalError(node.place, "an op with a formula was to be emitted by itself, not fused")


# 1 + tanh(x) and erfc(x) nearly vanish far below zero, where an error in the last place is all that is left.
GELU_DOUBLES = needs_fp64((DType.FLOAT32,), "GELU")

_UNARY, _BINARY = ("float32 -> float32",), ("float32, float32 -> float32",)


def _lowerings() -> list[Lowering]:
    def wide(error: str) -> Rule:
        return less_accurate(error, lambda traits: not traits.fp64)

    unary: dict[str, tuple[Rule, ...]] = {
        "RELU": (),
        "RELU6": (),
        "RELU_N1_TO_1": (),
        "RELU_0_TO_1": (),
        "ABS": (),
        "NEG": (),
        "SQUARE": (),
        "FLOOR": (),
        "CEIL": (),
        "ROUND": (),
        "SIGN": (),
        "EXP": (),
        "LOG": (),
        "LOGISTIC": (),
        "HARD_SWISH": (DIVISION,),
        "SQRT": (DIVISION,),
        "RSQRT": (DIVISION,),
        "TANH": (wide("5 units in the last place"),),
        "ELU": (wide("4 units in the last place"),),
        "SIN": (wide("4 units in the last place"),),
        "COS": (wide("4 units in the last place"),),
    }
    found = [Lowering(op, _UNARY, _fused, rules, _plain) for op, rules in unary.items()]
    found.append(Lowering("LEAKY_RELU", _UNARY, _fused, (), _with("alpha")))
    found.append(Lowering("GELU", _UNARY, _fused, (GELU_DOUBLES,), _with("approximate")))
    for op in ("ADD", "SUB", "MUL"):
        found.append(Lowering(op, _BINARY, _fused, (ACTIVATION,), _activated))
    found.append(Lowering("DIV", _BINARY, _fused, (ACTIVATION, DIVISION), _activated))
    for op in ("SQUARED_DIFFERENCE", "MAXIMUM", "MINIMUM", "PRELU"):
        found.append(Lowering(op, _BINARY, _fused, (), _plain))
    return found


LOWERINGS = tuple(_lowerings())
