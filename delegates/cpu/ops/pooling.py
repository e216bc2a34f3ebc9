"""AVERAGE_POOL_2D and MAX_POOL_2D."""

from __future__ import annotations

from delegraph.core.graph.dtype import DType
from delegraph.core.ops.families.pooling import integer_range, window_axes
from delegraph.core.ops.fixed_point import activation_bounds
from delegraph.core.ops.opdef import Node
from delegraph.delegates.cpu.constraints import CpuConstraint, computable
from delegraph.delegates.cpu.kernels.pooling import Pool
from delegraph.delegates.cpu.lower import Lowering
from delegraph.delegates.cpu.ops.pointwise import ELEMENTS
from delegraph.delegates.cpu.ops.registry import lowering

MAX_WINDOW = 65536
"""Elements of a window whose sum of bytes, and half their number, divide exactly in float32."""


def _large_window(node: Node) -> str | None:
    n = node.options.filter_height * node.options.filter_width
    return f"{n} elements" if n > MAX_WINDOW and node.input(0).dtype is not DType.FLOAT32 else None


WINDOW = CpuConstraint(
    "pool_window", f"a window over bytes must have at most {MAX_WINDOW} elements", _large_window, limit=str(MAX_WINDOW)
)


def bounds(node: Node) -> tuple[float, float]:
    """The least and the greatest result."""
    if node.outputs[0].dtype is DType.FLOAT32:
        return activation_bounds(node.options.fused_activation_function)
    return integer_range(node)


@lowering(
    "AVERAGE_POOL_2D MAX_POOL_2D",
    *(f"{t} -> {t}" for t in ("float32", "int8", "uint8")),
    constraints=(WINDOW, computable(bounds)),
)
def lower_pool(low: Lowering, node: Node) -> None:
    x, (h, v) = node.input(0), window_axes(node)
    parameters = low.words(*bounds(node), floats=2 if x.dtype is DType.FLOAT32 else 0)
    kernel = Pool(
        "max" if node.op.name == "MAX_POOL_2D" else "average",
        ELEMENTS[str(x.dtype)],
        x.shape[0],
        (h.size, h.window, h.stride, h.pad_before, h.out),
        (v.size, v.window, v.stride, v.pad_before, v.out),
        x.shape[3],
    )
    low.emit(kernel, low.output(node), low.input(node, 0), parameters)
