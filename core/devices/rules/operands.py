"""Which operands of an op are data, weights, bias or parameters. Imports core.ops.

Data are what a device computes on; parameters (axes, sizes, paddings) are small integer tensors that compilers want
to know beforehand.
"""

from __future__ import annotations

from delegraph.core.ops.opdef import Node, TensorSpec

BINARY = frozenset(
    {
        "ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "POW", "EQUAL", "NOT_EQUAL", "LESS",
        "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "LOGICAL_AND", "LOGICAL_OR", "FLOOR_DIV", "FLOOR_MOD", "BATCH_MATMUL",
    }
)  # fmt: skip
JOINING = frozenset({"CONCATENATION", "PACK", "ADD_N"})
CONVOLUTIONS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"})
WEIGHTED = CONVOLUTIONS | {"FULLY_CONNECTED"}
POOLS = frozenset({"AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"})
WINDOWED = CONVOLUTIONS | POOLS
REDUCTIONS = frozenset({"MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ANY", "REDUCE_ALL"})
RESIZES = frozenset({"RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"})

_DATA = {
    "SPLIT": (1,),
    "TRANSPOSE_CONV": (2,),
    "SELECT": (1, 2),
    "SELECT_V2": (1, 2),
    "EMBEDDING_LOOKUP": (1,),
    "FILL": (1,),
}


def data_slots(node: Node) -> tuple[int, ...]:
    """The input slots that hold data."""
    name = node.op.name
    if name in JOINING:
        return tuple(range(len(node.inputs)))
    return (0, 1) if name in BINARY else _DATA.get(name, (0,))


def data_inputs(node: Node) -> list[TensorSpec]:
    """The inputs that hold data, without those left out."""
    found = (node.inputs[slot] for slot in data_slots(node) if slot < len(node.inputs))
    return [spec for spec in found if spec is not None]


def data_outputs(node: Node) -> tuple[TensorSpec, ...]:
    """The outputs that hold data (TOPK_V2's second one holds positions)."""
    return node.outputs[:1] if node.op.name == "TOPK_V2" else node.outputs


def feature_maps(node: Node) -> list[TensorSpec]:
    """Inputs and outputs that hold data."""
    return [*data_inputs(node), *data_outputs(node)]


def weights(node: Node) -> TensorSpec | None:
    """The weights of an op in WEIGHTED."""
    return _at(node, 1)


def bias(node: Node) -> TensorSpec | None:
    """The bias of an op in WEIGHTED."""
    return _at(node, 3 if node.op.name == "TRANSPOSE_CONV" else 2)


def axes(node: Node) -> list[int] | None:
    """The axes of a reduction or ARG_MAX/ARG_MIN, from 0; None where they are not known before the run."""
    spec = _at(node, 1)
    if spec is None or spec.value is None:
        return None
    rank = len(node.input(0).shape)
    return [int(axis) % max(1, rank) for axis in spec.value.reshape(-1)]


def _at(node: Node, slot: int) -> TensorSpec | None:
    return node.inputs[slot] if slot < len(node.inputs) else None
