"""ADD, SUB and MUL of 8 bits; QUANTIZE and DEQUANTIZE."""

from __future__ import annotations

import numpy as np

from delegraph.core.graph.graph import Array
from delegraph.core.ops.broadcasting import per_tensor
from delegraph.core.ops.families.arithmetic import left_shift, sum_multipliers
from delegraph.core.ops.families.conversion import affine
from delegraph.core.ops.families.multiplication import product_multiplier
from delegraph.core.ops.fixed_point import activation_range, quantize_multiplier
from delegraph.core.ops.opdef import Node
from delegraph.core.ops.pointwise import limits
from delegraph.delegates.cpu.constraints import computable
from delegraph.delegates.cpu.kernels.elementwise import Dequantize, Quantize, QuantizedProduct, QuantizedSum
from delegraph.delegates.cpu.lower import Lowering, Ref
from delegraph.delegates.cpu.ops.pointwise import ELEMENTS, emit_elementwise, operand
from delegraph.delegates.cpu.ops.registry import lowering


def fixed(multiplier: float) -> tuple[int, int, int]:
    """A multiplier as kernels take it: fixed point, left shift, right shift."""
    q, shift = quantize_multiplier(multiplier)
    return q, max(shift, 0), max(-shift, 0)


def _bounds(node: Node) -> tuple[int, int]:
    return activation_range(node.options.fused_activation_function, node.outputs[0].dtype, node.output_quantization())


def sum_parameters(node: Node) -> tuple[int, ...]:
    """See kernels.elementwise.QuantizedSum."""
    m1, m2, m_out = (fixed(m) for m in sum_multipliers(node))
    zp1, zp2, zp_out = (per_tensor(node, slot).zero_point for slot in (0, 1, None))
    return zp1, *m1, zp2, *m2, zp_out, *m_out, *_bounds(node)


@lowering("ADD SUB", "int8, int8 -> int8", "uint8, uint8 -> uint8", constraints=(computable(sum_parameters),))
def lower_sum(low: Lowering, node: Node) -> None:
    parameters = low.words(*sum_parameters(node))
    body = QuantizedSum(node.op.name, ELEMENTS[str(node.outputs[0].dtype)], left_shift(node))
    emit_elementwise(low, node, body, [operand(low, node, 0), operand(low, node, 1)], parameters)


def product_parameters(node: Node) -> tuple[int, ...]:
    """See kernels.elementwise.QuantizedProduct."""
    x, y, z = (per_tensor(node, slot) for slot in (0, 1, None))
    multiplier = fixed(product_multiplier(node))
    return x.zero_point, y.zero_point, z.zero_point, *multiplier, *_bounds(node)


@lowering("MUL", "int8, int8 -> int8", "uint8, uint8 -> uint8", constraints=(computable(product_parameters),))
def lower_product(low: Lowering, node: Node) -> None:
    parameters = low.words(*product_parameters(node))
    body = QuantizedProduct(ELEMENTS[str(node.outputs[0].dtype)])
    emit_elementwise(low, node, body, [operand(low, node, 0), operand(low, node, 1)], parameters)


def _scales(
    low: Lowering, scales: Array, zero_points: Array, *more: int
) -> tuple[list[tuple[Ref, str, tuple[int, ...]]], Ref]:
    """Scales and zero points as operands (per channel) or as parameters."""
    if scales.shape == ():
        return [], low.words(float(scales), int(zero_points), *more, floats=1)
    places = low.constant(scales), low.constant(zero_points.astype(np.int32))
    operands = [(place, element, scales.shape) for place, element in zip(places, ("float", "i32"), strict=True)]
    return operands, low.words(0.0, 0, *more, floats=1)


def _of_output(node: Node) -> tuple[Array, Array]:
    return affine(node, node.output_quantization(), "outputs[0].quantization")


def _of_input(node: Node) -> tuple[Array, Array]:
    return affine(node, node.quantization(0), "inputs[0].quantization")


@lowering(
    "QUANTIZE",
    "float32 -> int8|uint8",
    constraints=(computable(_of_output),),
)
def lower_quantize(low: Lowering, node: Node) -> None:
    dtype = node.outputs[0].dtype
    more, parameters = _scales(low, *_of_output(node), *limits(dtype))
    body = Quantize(ELEMENTS[str(dtype)], per_channel=bool(more))
    emit_elementwise(low, node, body, [operand(low, node, 0), *more], parameters)


@lowering(
    "DEQUANTIZE",
    "int8|uint8 -> float32",
    constraints=(computable(_of_input),),
)
def lower_dequantize(low: Lowering, node: Node) -> None:
    more, parameters = _scales(low, *_of_input(node))
    body = Dequantize(ELEMENTS[str(node.input(0).dtype)], per_channel=bool(more))
    emit_elementwise(low, node, body, [operand(low, node, 0), *more], parameters)
