"""Nodes to try rules on, and for each rule one node at its limit and one past it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from delegraph.core.devices.rules.operands import JOINING, POOLS, WEIGHTED, data_slots
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Op, Quantization
from delegraph.core.model.schema_table import ENUMS
from delegraph.core.model.table import Table
from delegraph.core.ops import registry
from delegraph.core.ops.opdef import Node, TensorSpec

Q = Quantization.per_tensor(0.5, 3)
PER_CHANNEL = Quantization.per_channel([0.5, 0.25])
ACTIVATION = ENUMS["ActivationFunctionType"]
SAME, VALID = ENUMS["Padding"]["SAME"], ENUMS["Padding"]["VALID"]
PARAMETERS: Mapping[str, Any] = {
    "PAD": [[0, 0], [1, 1], [1, 1], [0, 0]],
    "PADV2": [[0, 0], [1, 1], [1, 1], [0, 0]],
    "MIRROR_PAD": [[0, 0], [1, 1], [1, 1], [0, 0]],
}


def spec(
    shape: Any = (1, 4, 4, 2), dtype: DType = DType.INT8, q: Quantization | None = Q, value: Any = None
) -> TensorSpec:
    if value is not None:
        value = np.asarray(value, dtype.numpy)
        shape = value.shape
    return TensorSpec(dtype, tuple(shape), q, value)


def ints(value: Any) -> TensorSpec:
    return spec(dtype=DType.INT32, q=None, value=value)


def unknown(found: TensorSpec) -> TensorSpec:
    return replace(found, value=None)


def node(
    op: str, data: TensorSpec | None = None, *, output: TensorSpec | None = None, inputs: Any = (), **options: Any
) -> Node:
    """A plausible int8 node of an op. data: what its data inputs and, unless given, its output are. inputs: slot → spec
    for those that differ."""
    data = data or spec()
    opdef = registry.find(op)
    assert opdef is not None, op
    count = 2 if op in JOINING else len(opdef.inputs)
    found = Node(Op(0, op, 1, tuple(range(count)), (count,)), (None,) * count, (output or data,), Table("AbsOptions"))
    slots: list[TensorSpec | None] = [ints(PARAMETERS.get(op, [0, 1]))] * count
    for slot in data_slots(found):
        slots[slot] = data
    if op in WEIGHTED:
        slots[1] = spec(value=np.ones((1, 3, 3, 2) if op == "DEPTHWISE_CONV_2D" else (2, 3, 3, 2)))
        slots[3 if op == "TRANSPOSE_CONV" else 2] = ints([1, 2])
    if op == "STRIDED_SLICE":
        slots[3] = ints([1, 1, 1, 1])
    for slot, other in dict(inputs).items():
        slots[slot] = other
    if op in POOLS:
        options = {"filter_height": 2, "filter_width": 2, "stride_h": 1, "stride_w": 1, **options}
    elif op in WEIGHTED and op != "FULLY_CONNECTED":
        options = {"stride_h": 1, "stride_w": 1, **options}
    if op == "SOFTMAX":
        options = {"beta": 1.0, **options}
    table = Table(opdef.options, **options) if opdef.options else Table("AbsOptions")
    return replace(found, inputs=tuple(slots), options=table)


def window(op: str, height: int, width: int, **options: Any) -> Node:
    """A node whose window is so high and wide."""
    if op in POOLS:
        return node(op, filter_height=height, filter_width=width, **options)
    shape = (1, height, width, 2) if op == "DEPTHWISE_CONV_2D" else (2, height, width, 2)
    return node(op, inputs={1: spec(shape, value=None)}, **options)


def other(limit: Any, *choices: DType) -> DType:
    candidates: tuple[DType, ...] = (*choices, *DType)
    return next(dtype for dtype in candidates if dtype not in limit and dtype.is_plain)


def weights(op: str, found: TensorSpec, **more: Any) -> Node:
    return node(op, inputs={1: found, **more})


def bias_slot(op: str) -> int:
    return 3 if op == "TRANSPOSE_CONV" else 2


def image(op: str, size: int, **options: Any) -> Node:
    return node(op, spec((1, 4, 4, 2)), output=spec((1, size, size, 2)), **options)


def reduced(op: str, shape: Any, axes: Any, dtype: DType = DType.INT8) -> Node:
    return node(op, spec(shape, dtype), inputs={1: ints(axes)})


def strided(strides: Any) -> Node:
    return node("STRIDED_SLICE", inputs={3: ints(strides)})


def padded(op: str, paddings: Any) -> Node:
    return node(op, inputs={1: ints(paddings)})


def activated(op: str, name: str) -> Node:
    return node(op, fused_activation_function=ACTIVATION[name])


Pair = Sequence[Node]

CASES: dict[str, tuple[str, Any, Callable[[str, Any], Pair]]] = {
    "activation": ("ADD", ("NONE", "RELU"), lambda op, n: (
        activated(op, n[-1]), activated(op, next(a for a in reversed(ACTIVATION) if a not in n)))),
    "batch": ("ADD", 2, lambda op, n: (node(op, spec((n, 4, 4, 2))), node(op, spec((n + 1, 4, 4, 2))))),
    "bias_bits": ("CONV_2D", 40, lambda op, n: tuple(
        node(op, inputs={bias_slot(op): spec(dtype=DType.INT64, q=None, value=[v])}) for v in ((1 << n) - 1, 1 << n))),
    "block_rank": ("SPACE_TO_BATCH_ND", 2, lambda op, n: (
        node(op, inputs={1: ints([2] * n)}), node(op, inputs={1: ints([2] * (n + 1))}))),
    "constant_bias": ("CONV_2D", True, lambda op, n: (
        node(op), node(op, inputs={bias_slot(op): unknown(ints([1]))}))),
    "constant_weights": ("CONV_2D", True, lambda op, n: (node(op), weights(op, spec((2, 3, 3, 2))))),
    "constants": ("RESHAPE", (1,), lambda op, n: (
        node(op, inputs=dict.fromkeys(n, ints([1]))), node(op, inputs=dict.fromkeys(n, unknown(ints([1])))))),
    "default_weights_format": ("FULLY_CONNECTED", True, lambda op, n: (node(op), node(op, weights_format=1))),
    "depth": ("ARG_MAX", 127, lambda op, n: (node(op, spec((1, n))), node(op, spec((1, n + 1))))),
    "depth_multiple": ("MEAN", 4, lambda op, n: (
        reduced(op, (1, 2, 2, 2 * n), [3]), reduced(op, (1, 2, 2, n + 1), [3]))),
    "depth_multiplier": ("DEPTHWISE_CONV_2D", 1, lambda op, n: tuple(
        node(op, output=spec((1, 4, 4, 2 * k))) for k in (n, n + 1))),
    "dilated_stride": ("CONV_2D", 1, lambda op, n: (
        node(op, dilation_h_factor=2, stride_h=n), node(op, dilation_h_factor=2, stride_h=n + 1))),
    "dilation": ("CONV_2D", 2, lambda op, n: (node(op, dilation_h_factor=n), node(op, dilation_w_factor=n + 1))),
    "dimension": ("ADD", 65535, lambda op, n: (node(op, spec((1, n))), node(op, spec((1, n + 1))))),
    "dtypes": ("ADD", (DType.INT8,), lambda op, n: (
        node(op, spec(dtype=n[-1])), node(op, spec(dtype=other(n, DType.INT16))))),
    "elements": ("SOFTMAX", 16000, lambda op, n: (node(op, spec((1, n))), node(op, spec((1, n + 1))))),
    "equal_dilation": ("CONV_2D", True, lambda op, n: (
        node(op, dilation_h_factor=2, dilation_w_factor=2), node(op, dilation_h_factor=2))),
    "equal_dtypes": ("BATCH_MATMUL", True, lambda op, n: (
        node(op), node(op, inputs={1: spec(dtype=DType.INT32)}))),
    "equal_stride": ("TRANSPOSE_CONV", True, lambda op, n: (
        node(op, stride_h=2, stride_w=2), node(op, stride_h=1, stride_w=2))),
    "equal_shapes": ("SELECT", True, lambda op, n: (
        node(op, inputs={0: spec()}), node(op, inputs={0: spec(), 1: spec((2, 1, 1, 2))}))),
    "full_input": ("ADD", True, lambda op, n: (node(op), node(op, output=spec((2, 4, 4, 2))))),
    "has_bias": ("CONV_2D", True, lambda op, n: (node(op), node(op, inputs={bias_slot(op): None}))),
    "indices_rank": ("GATHER", 1, lambda op, n: (
        node(op, inputs={1: ints(np.zeros((1,) * n))}), node(op, inputs={1: ints(np.zeros((1,) * (n - 1)))}))),
    "inner_dimensions": ("ADD", 3, lambda op, n: (
        node(op, spec((1, 1, 1, *(2,) * n)[-max(4, n):])), node(op, spec((2,) * (n + 1))))),
    "innermost_slope": ("PRELU", True, lambda op, n: (
        node(op, inputs={1: spec((1, 1, 2))}), node(op, inputs={1: spec((1, 4, 2))}))),
    "keeps_batch": ("MEAN", True, lambda op, n: (reduced(op, (2, 4, 4, 4), [1, 2]), reduced(op, (2, 4, 4, 4), [0]))),
    "kernel_area": ("CONV_2D", 4096, lambda op, n: (window(op, 1, n), window(op, 1, n + 1))),
    "kernel_height": ("CONV_2D", 64, lambda op, n: (window(op, n, 1), window(op, n + 1, 1))),
    "last_axis": ("ARG_MAX", True, lambda op, n: (reduced(op, (1, 4, 4), -1), reduced(op, (1, 4, 4), 1))),
    "masks": ("STRIDED_SLICE", ("begin", "end", "shrink_axis"), lambda op, n: (
        node(op, begin_mask=1, end_mask=1, shrink_axis_mask=1), node(op, ellipsis_mask=1))),
    "min_kernel_height": ("DEPTHWISE_CONV_2D", 2, lambda op, n: (window(op, n, 3), window(op, n - 1, 3))),
    "multiplied_channels": ("DEPTHWISE_CONV_2D", 1, lambda op, n: tuple(
        node(op, spec((1, 4, 4, k)), output=spec((1, 4, 4, 2 * k))) for k in (n, n + 1))),
    "no_batch_dims": ("GATHER", True, lambda op, n: (node(op), node(op, batch_dims=1))),
    "no_crops": ("BATCH_TO_SPACE_ND", True, lambda op, n: (
        node(op, inputs={2: ints([[0, 0], [0, 0]])}), node(op, inputs={2: ints([[0, 1], [0, 0]])}))),
    "no_scalar_result": ("MEAN", True, lambda op, n: (node(op, output=spec((1,))), node(op, output=spec(())))),
    "no_scalars": ("RESHAPE", True, lambda op, n: (node(op), node(op, output=spec(())))),
    "not_hybrid": ("CONV_2D", True, lambda op, n: (node(op), node(op, spec(dtype=DType.FLOAT32)))),
    "not_packed_first": ("PACK", True, lambda op, n: (node(op, axis=1), node(op, axis=0))),
    "not_packed_last": ("PACK", True, lambda op, n: (node(op, axis=2), node(op, axis=3))),
    "output_dtypes": ("ADD", (DType.INT8,), lambda op, n: (
        node(op, output=spec(dtype=n[-1])), node(op, output=spec(dtype=other(n))))),
    "padded_image_only": ("MIRROR_PAD", True, lambda op, n: (
        padded(op, [[0, 0], [1, 1], [1, 1], [0, 0]]), padded(op, [[0, 0], [1, 1], [1, 1], [0, 1]]))),
    "per_tensor": ("ADD", True, lambda op, n: (node(op), node(op, spec(q=PER_CHANNEL)))),
    "per_tensor_weights": ("CONV_2D", True, lambda op, n: (node(op), weights(op, spec(q=PER_CHANNEL)))),
    "positive_beta": ("SOFTMAX", True, lambda op, n: (node(op, beta=1e-3), node(op, beta=0.0))),
    "rank": ("ADD", 4, lambda op, n: (node(op, spec((2,) * n)), node(op, spec((2,) * (n + 1))))),
    "reduced_elements": ("MEAN", {DType.INT8: 64}, lambda op, n: tuple(
        reduced(op, (1, k, 1, 1), [1, 2], next(iter(n))) for k in (n[next(iter(n))], n[next(iter(n))] + 1))),
    "resize_factor": ("RESIZE_BILINEAR", (1, 2, 4, 8), lambda op, n: (image(op, 4 * n[-1]), image(op, 4 * n[-1] + 1))),
    "resized_size": ("RESIZE_BILINEAR", 65, lambda op, n: (image(op, n), image(op, n + 1))),
    "rows": ("SOFTMAX", 65535, lambda op, n: (node(op, spec((1, 1, n, 2))), node(op, spec((1, 1, n + 1, 2))))),
    "same_dtype": ("SOFTMAX", True, lambda op, n: (node(op), node(op, output=spec(dtype=DType.INT16)))),
    "same_kernel": ("AVERAGE_POOL_2D", 8, lambda op, n: (
        window(op, n, n, padding=SAME), window(op, n, n + 1, padding=SAME))),
    "same_quantization": ("MAXIMUM", True, lambda op, n: (
        node(op), node(op, output=spec(q=Quantization.per_tensor(0.5, 4))))),
    "scaled": ("ADD", True, lambda op, n: (node(op), node(op, spec(q=None)))),
    "stride": ("CONV_2D", 3, lambda op, n: (node(op, stride_h=n, stride_w=n), node(op, stride_w=n + 1))),
    "stride_unless_valid": ("CONV_2D", 3, lambda op, n: (
        node(op, stride_h=n + 1, padding=VALID), node(op, stride_h=n + 1, padding=SAME))),
    "unfused_int32": ("ADD", True, lambda op, n: (
        node(op, spec(dtype=DType.INT32, q=None)),
        node(op, spec(dtype=DType.INT32, q=None), fused_activation_function=ACTIVATION["RELU"]))),
    "ungrouped": ("CONV_2D", True, lambda op, n: (node(op), weights(op, spec(value=np.ones((2, 3, 3, 1)))))),
    "unit_outer_strides": ("STRIDED_SLICE", True, lambda op, n: (strided([1, 2, 2, 1]), strided([1, 1, 1, 2]))),
    "unit_strides": ("STRIDED_SLICE", True, lambda op, n: (strided([1, 1, 1, 1]), strided([1, 2, 1, 1]))),
    "unpadded_batch": ("PAD", True, lambda op, n: (
        padded(op, [[0, 0], [1, 1], [1, 1], [3, 3]]), padded(op, [[0, 1], [0, 0], [0, 0], [0, 0]]))),
    "weight_dtypes": ("CONV_2D", (DType.INT8,), lambda op, n: (
        weights(op, spec(dtype=n[-1])), weights(op, spec(dtype=other(n, DType.INT16))))),
    "weight_sum": ("CONV_2D", 8323072, lambda op, n: tuple(
        weights(op, spec(dtype=DType.INT32, q=None, value=np.full((1, 1, 1, 1), v))) for v in (n, n + 1))),
    "zero_constants": ("CONCATENATION", True, lambda op, n: (
        node(op, inputs={1: spec(value=[3])}), node(op, inputs={1: spec(value=[4])}))),
}  # fmt: skip
"""Rule → (an op that it may be set for, a limit, (op, limit) → the node at the limit and the one past it)."""
