"""Rules on axes, paddings, masks and other parameters of reductions, joins and slices. Imports core.devices.rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from delegraph.core.devices.rules.operands import REDUCTIONS, axes
from delegraph.core.devices.rules.rule import HOLDS, MASKS, NUMBER, NUMBER_BY_TYPE, rule
from delegraph.core.graph.dtype import DType
from delegraph.core.ops.opdef import Node

REDUCING = REDUCTIONS | {"ARG_MAX", "ARG_MIN"}
ARGS = frozenset({"ARG_MAX", "ARG_MIN"})
PADS = frozenset({"PAD", "PADV2", "MIRROR_PAD"})


@rule("the batch (first of 4 dimensions) is not reduced", HOLDS, ops=REDUCING, advice="run with batch 1 and reshape")
def keeps_batch(node: Node, limit: bool) -> str | None:
    return "axis 0" if len(node.input(0).shape) == 4 and 0 in (axes(node) or ()) else None


@rule("a reduced depth is a multiple of {limit}", NUMBER, ops=REDUCTIONS, advice="pad the channels with zeros")
def depth_multiple(node: Node, limit: int) -> str | None:
    shape = node.input(0).shape
    if not shape or len(shape) - 1 not in (axes(node) or ()):
        return None
    return f"depth {shape[-1]}" if shape[-1] % limit else None


@rule("at most {limit} elements are reduced to one", NUMBER_BY_TYPE, ops=REDUCTIONS)
def reduced_elements(node: Node, limit: Mapping[DType, int]) -> str | None:
    spec, count = node.input(0), 1
    for axis in set(axes(node) or ()):
        count *= spec.shape[axis]
    return f"{count} of {spec.dtype}" if count > limit.get(spec.dtype, count) else None


@rule("the result has at least one dimension", HOLDS, ops=REDUCING, advice="keep the reduced dimensions (keep_dims)")
def no_scalar_result(node: Node, limit: bool) -> str | None:
    return None if node.outputs[0].shape else "a result without dimensions"


@rule("the axis is the last one", HOLDS, ops=ARGS, advice="transpose so that the axis is the last")
def last_axis(node: Node, limit: bool) -> str | None:
    found = axes(node)
    last = len(node.input(0).shape) - 1
    return f"axis {found[0]}" if found and found[0] != last else None


@rule("the last dimension is at most {limit}", NUMBER, ops=ARGS | {"SOFTMAX"})
def depth(node: Node, limit: int) -> str | None:
    shape = node.input(0).shape
    return str(shape[-1]) if shape and shape[-1] > limit else None


@rule("height times width is at most {limit}", NUMBER, ops=frozenset({"SOFTMAX"}))
def rows(node: Node, limit: int) -> str | None:
    spec = node.input(0)
    height_width = spec.shape[-3:-1]
    count = 1
    for n in height_width:
        count *= n
    return str(count) if count > limit else None


@rule("beta is above 0", HOLDS, ops=frozenset({"SOFTMAX"}))
def positive_beta(node: Node, limit: bool) -> str | None:
    return f"{node.options.beta:g}" if node.options.beta <= 0 else None


@rule("the tensors are not joined along a new last dimension", HOLDS, ops=frozenset({"PACK"}))
def not_packed_last(node: Node, limit: bool) -> str | None:
    last = len(node.outputs[0].shape) - 1
    return f"axis {node.options.axis}" if node.options.axis in (last, -1) else None


@rule("the tensors are not joined along a new first dimension", HOLDS, ops=frozenset({"PACK"}))
def not_packed_first(node: Node, limit: bool) -> str | None:
    rank = len(node.outputs[0].shape)
    return f"axis {node.options.axis}" if rank == 4 and node.options.axis in (0, -rank) else None


@rule("the batch (first of 4 dimensions) is not padded", HOLDS, ops=PADS)
def unpadded_batch(node: Node, limit: bool) -> str | None:
    value = node.input(1).value
    if value is None or value.ndim != 2 or value.shape[0] != 4:
        return None
    return f"{list(map(int, value[0]))}" if value[0].any() else None


@rule("height and width alone are padded", HOLDS, ops=PADS)
def padded_image_only(node: Node, limit: bool) -> str | None:
    value = node.input(1).value
    if value is None or value.ndim != 2 or value.shape[0] < 3:
        return None
    outside = [*value[:-3].reshape(-1), *value[-1]]
    return f"{value.tolist()}" if any(outside) else None


@rule("the slope differs along the last dimension only", HOLDS, ops=frozenset({"PRELU"}))
def innermost_slope(node: Node, limit: bool) -> str | None:
    shape = node.input(1).shape
    return f"shape {list(shape)}" if any(n > 1 for n in shape[:-1]) else None


@rule("all strides are 1", HOLDS, ops=frozenset({"STRIDED_SLICE"}), advice="slice with strides 1 and pick with GATHER")
def unit_strides(node: Node, limit: bool) -> str | None:
    value = node.input(3).value
    return f"{value.tolist()}" if value is not None and (value != 1).any() else None


@rule("batch and channels are sliced with stride 1", HOLDS, ops=frozenset({"STRIDED_SLICE"}))
def unit_outer_strides(node: Node, limit: bool) -> str | None:
    value = node.input(3).value
    if value is None or not value.size:
        return None
    outer = [value[-1], *value[: max(0, value.size - 3)]]
    return f"{value.tolist()}" if any(n != 1 for n in outer) else None


@rule("no masks but {limit} are set", MASKS, ops=frozenset({"STRIDED_SLICE"}), advice="give begin and end in full")
def masks(node: Node, limit: Sequence[str]) -> str | None:
    names = ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    found = [name for name in names if getattr(node.options, f"{name}_mask") and name not in limit]
    return ", ".join(found) or None


@rule("nothing is cropped", HOLDS, ops=frozenset({"BATCH_TO_SPACE_ND"}), advice="crop with SLICE after the op")
def no_crops(node: Node, limit: bool) -> str | None:
    value = node.input(2).value
    return f"{value.tolist()}" if value is not None and value.any() else None


@rule("blocks have {limit} dimensions", NUMBER, ops=frozenset({"BATCH_TO_SPACE_ND", "SPACE_TO_BATCH_ND"}))
def block_rank(node: Node, limit: int) -> str | None:
    found = node.input(1).n_elements
    return str(found) if found != limit else None


@rule("the indices have at least {limit} dimension", NUMBER, ops=frozenset({"GATHER"}))
def indices_rank(node: Node, limit: int) -> str | None:
    found = len(node.input(1).shape)
    return str(found) if found < limit else None


@rule("there are no batch dimensions in common", HOLDS, ops=frozenset({"GATHER"}))
def no_batch_dims(node: Node, limit: bool) -> str | None:
    return str(node.options.batch_dims) if node.options.batch_dims else None
