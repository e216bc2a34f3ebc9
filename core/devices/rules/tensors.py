"""Rules on types, shapes and quantization of an op's tensors. Imports core.devices.rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from delegraph.core.devices.rules.operands import (
    BINARY,
    RESIZES,
    data_inputs,
    data_outputs,
    data_slots,
    feature_maps,
)
from delegraph.core.devices.rules.rule import HOLDS, NUMBER, NUMBERS, TYPES, rule
from delegraph.core.graph.dtype import DType
from delegraph.core.ops.opdef import Node, TensorSpec

QUANTIZED = frozenset({DType.INT8, DType.UINT8})


@rule("data is of type {limit}", TYPES, advice="convert the model to a type that the device computes in")
def dtypes(node: Node, limit: Sequence[DType]) -> str | None:
    return _first(str(spec.dtype) for spec in data_inputs(node) if spec.dtype not in limit)


@rule("results are of type {limit}", TYPES, advice="convert the model to a type that the device computes in")
def output_dtypes(node: Node, limit: Sequence[DType]) -> str | None:
    return _first(str(spec.dtype) for spec in data_outputs(node) if spec.dtype not in limit)


@rule("tensors have at most {limit} dimensions", NUMBER, advice="reshape to {limit} dimensions before the op")
def rank(node: Node, limit: int) -> str | None:
    return _first(f"{len(s.shape)} dimensions {_shape(s)}" for s in feature_maps(node) if len(s.shape) > limit)


@rule("tensors have at least one dimension", HOLDS, advice="keep a dimension of size 1")
def no_scalars(node: Node, limit: bool) -> str | None:
    return _first("a tensor without dimensions" for s in feature_maps(node) if not s.shape)


@rule("only the {limit} innermost dimensions may exceed 1", NUMBER, advice="run with batch 1, or reshape")
def inner_dimensions(node: Node, limit: int) -> str | None:
    return _first(_shape(s) for s in feature_maps(node) if any(n > 1 for n in s.shape[: -limit or None]))


@rule("no dimension exceeds {limit}", NUMBER)
def dimension(node: Node, limit: int) -> str | None:
    return _first(_shape(s) for s in feature_maps(node) if any(n > limit for n in s.shape))


@rule("the batch (first of 4 dimensions) is at most {limit}", NUMBER, advice="run with batch {limit}")
def batch(node: Node, limit: int) -> str | None:
    found = [s for s in data_inputs(node) if len(s.shape) >= 4 and s.shape[0] > limit]
    return _first(f"batch {s.shape[0]}" for s in found)


@rule("a tensor has at most {limit} elements", NUMBER)
def elements(node: Node, limit: int) -> str | None:
    return _first(f"{s.n_elements} elements" for s in feature_maps(node) if s.n_elements > limit)


@rule(
    "integer data and results of its type carry a scale above 0",
    HOLDS,
    advice="convert with full integer quantization",
)
def scaled(node: Node, limit: bool) -> str | None:
    data = data_inputs(node)
    results = [s for s in data_outputs(node) if s.dtype in {d.dtype for d in data}]
    for spec in (*data, *results):
        scales = () if spec.quantization is None else spec.quantization.scales
        if spec.dtype.is_integer and (not len(scales) or min(scales) <= 0):
            return f"{spec.dtype} with a scale of {min(scales):g}" if len(scales) else f"{spec.dtype} without one"
    return None


@rule("results have the type of the data", HOLDS, advice="put a QUANTIZE behind the op")
def same_dtype(node: Node, limit: bool) -> str | None:
    data, results = data_inputs(node), data_outputs(node)
    return _first(f"{r.dtype} from {data[0].dtype}" for r in results if data and r.dtype is not data[0].dtype)


@rule("one input has the shape of the result", HOLDS, ops=BINARY, advice="repeat an input with TILE or BROADCAST_TO")
def full_input(node: Node, limit: bool) -> str | None:
    shapes = [spec.shape for spec in data_inputs(node)]
    if node.outputs[0].shape in shapes:
        return None
    return f"{' and '.join(str(list(shape)) for shape in shapes)} to {list(node.outputs[0].shape)}"


@rule("data is quantized per tensor", HOLDS, advice="quantize activations per tensor")
def per_tensor(node: Node, limit: bool) -> str | None:
    found = [s.quantization for s in feature_maps(node) if s.quantization is not None and s.quantization.scales.size]
    return _first(f"{q.scales.size} scales" for q in found if not q.is_per_tensor)


@rule(
    "8-bit inputs and results have the same scale and zero point",
    HOLDS,
    advice="convert again with a converter that gives the op one quantization, or put a QUANTIZE before it",
)
def same_quantization(node: Node, limit: bool) -> str | None:
    maps = [s for s in feature_maps(node) if s.dtype in QUANTIZED]
    known = [s.quantization for s in maps if s.quantization is not None and s.quantization.scales.size]
    pairs = {(float(q.scale), q.zero_point) for q in known}
    if len(pairs) < 2:
        return None
    return " and ".join(f"scale {scale:g} with zero point {zero}" for scale, zero in sorted(pairs)[:2])


@rule("inputs {limit} (from 0) are constants", NUMBERS, advice="make them constants when converting the model")
def constants(node: Node, limit: Sequence[int]) -> str | None:
    slots = [i for i in limit if i < len(node.inputs)]
    found = [i for i in slots if (spec := node.inputs[i]) is not None and spec.value is None]
    return _first(f"input {i} computed in the run" for i in found)


@rule("no input is a constant but those of zeros", HOLDS, ops=frozenset({"CONCATENATION"}))
def zero_constants(node: Node, limit: bool) -> str | None:
    for spec in data_inputs(node):
        if spec.value is not None:
            zero = (
                spec.quantization.zero_point if spec.quantization is not None and spec.quantization.scales.size else 0
            )
            if (spec.value != zero).any():
                return "a constant with other values"
    return None


@rule(
    "inputs have equal shapes (no broadcasting)",
    HOLDS,
    ops=BINARY | {"SELECT", "SELECT_V2"},
    advice="repeat the smaller input with TILE or BROADCAST_TO",
)
def equal_shapes(node: Node, limit: bool) -> str | None:
    slots = range(3) if node.op.name.startswith("SELECT") else data_slots(node)
    shapes = [spec.shape for slot in slots if (spec := node.inputs[slot]) is not None]
    if node.op.name == "BATCH_MATMUL":  # only its batches have to agree
        shapes = [shape[:-2] for shape in shapes]
    return " and ".join(str(list(shape)) for shape in dict.fromkeys(shapes)) if len(set(shapes)) > 1 else None


@rule("both inputs have the same type", HOLDS, ops=BINARY)
def equal_dtypes(node: Node, limit: bool) -> str | None:
    found = dict.fromkeys(str(spec.dtype) for spec in data_inputs(node))
    return " and ".join(found) if len(found) > 1 else None


@rule(
    "an image grows by a factor of {limit}, the same in height and width",
    NUMBERS,
    ops=RESIZES,
    advice="resize in steps",
)
def resize_factor(node: Node, limit: Sequence[int]) -> str | None:
    before, after = node.input(0).shape, node.outputs[0].shape
    if len(before) != 4 or before == after or before[1:3] == (1, 1):
        return None
    align = int(bool(node.options.align_corners))  # its corners sit on the pixels: n-1 steps
    old = [max(1, n - align) for n in before[1:3]]
    factors = {(after[1] - align) / old[0], (after[2] - align) / old[1]}
    return None if len(factors) == 1 and factors <= set(limit) else f"{before[1:3]} to {after[1:3]}".replace(", ", "x")


@rule("an image is resized to at most {limit} in height and width", NUMBER, ops=RESIZES)
def resized_size(node: Node, limit: int) -> str | None:
    shape = node.outputs[0].shape
    return _shape(node.outputs[0]) if len(shape) == 4 and max(shape[1:3]) > limit else None


def _first(found: Iterator[str]) -> str | None:
    return next(found, None)


def _shape(spec: TensorSpec) -> str:
    return f"shape {list(spec.shape)}"
