"""What an op is to a clock: its work and sizes, what its time is a sum of, its kind, and its identity.

Imports core.ops and left of it. Pure functions of nodes. Ops of one signature take the same time; ops of one kind take
times that the same rates explain.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from delegraph.core.errors import DelegraphError
from delegraph.core.graph.dtype import DType
from delegraph.core.ops import registry
from delegraph.core.ops.opdef import Node, TensorSpec, Work, elementwise_work
from delegraph.core.ops.windows import SAME


def work_of(node: Node) -> Work:
    """The OpDef's count; what the operands add up to for an op that has none, or whose operands it can't make sense
    of."""
    opdef = registry.find(node.op.name)
    if opdef is not None:
        with suppress(DelegraphError, ArithmeticError, LookupError):
            return opdef.count(node)
    return elementwise_work(node)


def types_of(node: Node, inside: bool = False) -> str:
    """Types of the data: of the first operand and the result, and of the second operand where it is another; with
    "inside" for an op timed behind another one."""
    specs = [spec for spec in node.inputs if spec is not None]
    first = str(specs[0].dtype) if specs else ""
    out = str(node.outputs[0].dtype) if node.outputs else ""
    text = first if out == first else f"{first}->{out}"
    if work_of(node).macs and len(specs) > 1 and specs[1].dtype is not specs[0].dtype:
        text = f"{first}*{specs[1].dtype}" + ("" if out == first else f"->{out}")
    return text + INSIDE * inside


INSIDE = ", inside"

RENAMES = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS"})
"""Ops whose result has the bytes of their data, so that within a segment there may be nothing to do."""


def data_of(types: str) -> str:
    """The type of the data alone, of what ``types_of`` gives."""
    return types.removesuffix(INSIDE).partition("-")[0].partition("*")[0]


def is_rename(node: Node) -> bool:
    return node.op.name in RENAMES


def is_elementwise(node: Node) -> bool:
    """Whether a device that fuses may make this op part of the one before: a formula of float32 data."""
    opdef = registry.find(node.op.name)
    specs = [*node.inputs, *node.outputs]
    return (
        opdef is not None
        and opdef.expression is not None
        and all(spec is not None and spec.dtype is DType.FLOAT32 for spec in specs)
    )


def is_timed(node: Node) -> bool:
    """Whether an op can be timed alone: a delegate runs it, and it has no state."""
    opdef = registry.find(node.op.name)
    return (
        opdef is not None
        and not opdef.host
        and not opdef.variables
        and bool(node.outputs)
        and any(spec is not None and spec.value is None for spec in node.inputs)
        and not any(spec is not None and spec.is_variable for spec in node.inputs)
    )


def sizes_of(node: Node) -> tuple[int, ...]:
    """Beside the work, what decides how long a device takes: bytes of constants; channels, the last dimension of the
    result; runs of elements of the result that are made alike; bytes of the data where a window reaches over its
    border."""
    out = node.outputs[0] if node.outputs else None
    channels = out.shape[-1] if out is not None and out.shape else 1
    runs = 0 if out is None else _runs(node)
    constants = sum(spec.size_bytes for spec in node.inputs if spec is not None and spec.value is not None)
    return constants, channels, runs, node.input(0).size_bytes if _has_border(node) else 0


PLAIN = frozenset({"QUANTIZE", "DEQUANTIZE", "CAST", *RENAMES})
"""Ops that do the same to every element, beside those that have a formula."""


def _runs(node: Node) -> int:
    """Runs of elements of the result, each of which is made in one go."""
    if node.op.name != "CONCATENATION":
        return node.outputs[0].n_elements // max(1, _run(node))
    shapes = [spec.shape for spec in node.inputs if spec is not None]
    axis = dict(node.options).get("axis", 0)
    return sum(math.prod(shape[: axis % len(shape)]) for shape in shapes if shape)


def _run(node: Node) -> int:
    """Elements of the result that are made alike, one after the other: all of them where no operand is repeated."""
    out, opdef = node.outputs[0], registry.find(node.op.name)
    if node.op.name not in PLAIN and (opdef is None or opdef.expression is None):
        return out.shape[-1] if out.shape else 1
    run = out.n_elements
    for spec in node.inputs:
        if spec is None or spec.n_elements in (1, out.n_elements) or node.op.name in PLAIN:
            continue
        shape = (1,) * (len(out.shape) - len(spec.shape)) + spec.shape
        length, repeated = 1, None
        for size, whole in zip(reversed(shape), reversed(out.shape), strict=True):
            if whole == 1:
                continue
            if repeated is not None and (size == 1) != repeated:
                break
            repeated = size == 1
            length *= whole
        run = min(run, length)
    return run


def _has_border(node: Node) -> bool:
    """Whether windows reach over the border of the data."""
    options = dict(node.options)
    if options.get("padding") != SAME:
        return False
    data, strides = node.input(0).shape, (options.get("stride_h", 1), options.get("stride_w", 1))
    if "filter_height" in options:
        window: Sequence[int] = (options["filter_height"], options["filter_width"])
    else:
        weights = next((spec.shape for spec in node.inputs[1:] if spec is not None and len(spec.shape) == 4), None)
        window = (1, 1) if weights is None else weights[1:3]
    if len(data) != 4:
        return False
    return any(
        (-(-size // max(1, stride)) - 1) * stride + taps > size
        for size, taps, stride in zip(data[1:3], window, strides, strict=True)
    )


def quantities(work: Work, sizes: tuple[int, ...]) -> tuple[float, ...]:
    """What the time of an op is a sum of, each times a rate: 1; products, also with the channels rounded up to 4 and to
    16, as vectors do; other operations; bytes of data, of constants of sums of products, of the result; runs
    beyond the first; bytes of data with a border."""
    constants, channels, runs, border = sizes
    data = max(0, work.bytes_read - constants)
    if not work.macs:
        return 1, 0, 0, 0, work.element_ops, work.bytes_read, 0, work.bytes_written, max(0, runs - 1), border
    wide = [work.macs // max(1, channels) * (-(-channels // n) * n) for n in (4, 16)]
    return 1, work.macs, *wide, work.element_ops, data, constants, work.bytes_written, max(0, runs - 1), border


def signature_of(node: Node, inside: bool = False) -> str:
    """A digest of all that an op's cost depends on: two ops of one signature do the same work on other numbers."""
    options = sorted((name, _plain(value)) for name, value in node.options.fields.items())
    described = [
        node.op.name,
        node.op.version,
        options,
        node.op.custom_options.hex(),
        [None if spec is None else _described(spec) for spec in node.inputs],
        [_described(spec) for spec in node.outputs],
        inside,
    ]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:32]


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    return value if isinstance(value, int | float | str) else repr(value)


SMALL = 32
"""Elements up to which an integer constant is taken for a shape, an axis or a padding, which decides the work."""


def _described(spec: TensorSpec) -> list[Any]:
    q = spec.quantization
    granularity: list[Any] | None = None
    if q is not None and q.scales.size:
        has_zero_points = spec.value is not None and bool(q.zero_points.any())
        granularity = [q.scales.size > 1, q.axis, q.block_size, has_zero_points]
    value: Any = spec.value is not None
    if spec.value is not None and granularity is None and spec.value.dtype.kind in "iub" and spec.n_elements <= SMALL:
        value = spec.value.tolist()
    return [str(spec.dtype), list(spec.shape), granularity, value, spec.sparsity is not None]


def kinds_of(op: str, types: str, work: Work, inside: bool = False) -> Sequence[tuple[tuple[str, ...], str]]:
    """The kinds of op that an op belongs to, the closest first, each with its name for people."""
    what, data = class_of(work), data_of(types)
    names = list(dict.fromkeys((op, LIKE.get(op, op))))
    alike = list(dict.fromkeys((types, types.replace("uint8", "int8"))))
    kinds = [(name, form) for form in alike for name in names] + [(what, data), (what,)]
    if inside:
        kinds = [*((name, form + INSIDE) for form in alike for name in names), (what, data + INSIDE), *kinds]
    return [(kind, ", ".join(kind)) for kind in kinds]


def class_of(work: Work) -> str:
    """The widest kind."""
    return "ops that add up products" if work.macs else "ops without products"


LIKE = {
    "SUB": "ADD",
    "MAXIMUM": "ADD",
    "MINIMUM": "ADD",
    "SQUARED_DIFFERENCE": "ADD",
    "RELU6": "RELU",
    "RELU_N1_TO_1": "RELU",
    "RELU_0_TO_1": "RELU",
    "ABS": "RELU",
    "NEG": "RELU",
    "SQUARE": "RELU",
    "ELU": "LOGISTIC",
    "GELU": "LOGISTIC",
    "PADV2": "PAD",
    "MIRROR_PAD": "PAD",
    "PACK": "CONCATENATION",
    "SQUEEZE": "RESHAPE",
    "EXPAND_DIMS": "RESHAPE",
    "SUM": "MEAN",
    "REDUCE_MAX": "MEAN",
    "REDUCE_MIN": "MEAN",
}
"""Ops that do as much as another one with the same data: its timings serve where there are none of their own. So do
those of int8 for uint8."""
