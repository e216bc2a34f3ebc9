"""Elementwise ops on float32: their formulas, and functions of one byte as tables.

A table holds the op's own reference results for all 256 values, so it is exact whatever the function.
"""

from __future__ import annotations

from collections.abc import Sequence

from delegraph.core.ops.fixed_point import activation_bounds
from delegraph.core.ops.opdef import Node
from delegraph.core.ops.pointwise import reference_table
from delegraph.core.ops.registry import expression_of
from delegraph.delegates.cpu.constraints import computable
from delegraph.delegates.cpu.kernels.elementwise import BYTES, Body, Elementwise, Formula, Stream
from delegraph.delegates.cpu.kernels.movement import LookUp
from delegraph.delegates.cpu.lower import Lowering, Ref
from delegraph.delegates.cpu.ops.registry import lowering
from delegraph.delegates.cpu.ops.shapes import broadcast_strides, collapse

ELEMENTS = {"float32": "float", "int8": "i8", "uint8": "u8", "int16": "i16", "int32": "i32"}
"""Element types of kernels by the names of DTypes."""


def emit_elementwise(
    low: Lowering, node: Node, body: Body, operands: Sequence[tuple[Ref, str, tuple[int, ...]]], parameters: Ref
) -> None:
    """One elementwise command. operands: (place, element type, shape), which broadcast to the output's shape."""
    y = node.outputs[0]
    out_element = ELEMENTS[str(y.dtype)]
    strides = [broadcast_strides(y.shape, y.shape), *(broadcast_strides(s, y.shape) for _, _, s in operands)]
    sizes, steps = collapse(y.shape, strides)

    def stream(element: str, step: tuple[int, ...]) -> Stream:
        return Stream(element, tuple(s * BYTES[element] for s in step[:-1]), inner=step[-1] != 0 or sizes == (1,))

    kernel = Elementwise(
        body,
        stream(out_element, steps[0]),
        tuple(stream(element, step) for (_, element, _), step in zip(operands, steps[1:], strict=True)),
        sizes,
    )
    low.emit(kernel, low.output(node), *(place for place, _, _ in operands), parameters)


def operand(low: Lowering, node: Node, slot: int) -> tuple[Ref, str, tuple[int, ...]]:
    spec = node.input(slot)
    return low.input(node, slot), ELEMENTS[str(spec.dtype)], spec.shape


# --- formulas -----------------------------------------------------------------------------------------------------


@lowering(
    "RELU RELU6 RELU_N1_TO_1 RELU_0_TO_1 LOGISTIC TANH HARD_SWISH ABS NEG SQRT RSQRT SQUARE FLOOR CEIL EXP",
    "float32 -> float32",
)
def lower_unary(low: Lowering, node: Node) -> None:
    body = Formula(node.op.name, expression_of(node.op.name))
    emit_elementwise(low, node, body, [operand(low, node, 0)], low.words(0))


@lowering("LEAKY_RELU", "float32 -> float32")
def lower_leaky_relu(low: Lowering, node: Node) -> None:
    body = Formula(node.op.name, expression_of(node.op.name), ("alpha",))
    emit_elementwise(low, node, body, [operand(low, node, 0)], low.words(node.options.alpha, floats=1))


@lowering("MAXIMUM MINIMUM PRELU SQUARED_DIFFERENCE", "float32, float32 -> float32")
def lower_binary(low: Lowering, node: Node) -> None:
    body = Formula(node.op.name, expression_of(node.op.name))
    emit_elementwise(low, node, body, [operand(low, node, 0), operand(low, node, 1)], low.words(0))


@lowering("ADD SUB MUL DIV", "float32, float32 -> float32")
def lower_arithmetic(low: Lowering, node: Node) -> None:
    """Results stay finite: the limits of no activation are those of finite numbers."""
    parameters = low.words(*activation_bounds(node.options.fused_activation_function), floats=2)
    body = Formula(node.op.name, expression_of(node.op.name), clamps=True)
    emit_elementwise(low, node, body, [operand(low, node, 0), operand(low, node, 1)], parameters)


# --- tables -------------------------------------------------------------------------------------------------------


@lowering(
    "RELU RELU6 RELU_N1_TO_1 RELU_0_TO_1 LOGISTIC TANH HARD_SWISH LEAKY_RELU ELU GELU QUANTIZE",
    "int8|uint8 -> int8|uint8",
    constraints=(computable(reference_table),),
)
def lower_table(low: Lowering, node: Node) -> None:
    low.emit(
        LookUp(node.outputs[0].n_elements),
        low.output(node),
        low.input(node, 0),
        low.constant(reference_table(node)),
    )
