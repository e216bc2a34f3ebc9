"""What control-flow and resource ops do when core runs them. Imports core.ops, core.runtime.state.

Source: tflite/kernels/{if,while,call_once,var_handle,read_variable,assign_variable}.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from delegraph.core.errors import DataError, InternalError
from delegraph.core.graph.graph import Array, Shape
from delegraph.core.ops.opdef import Node
from delegraph.core.runtime.state import Overlay

Call = Callable[[int, Sequence[Array]], list[Array]]
"""Runs a graph: (index, inputs) → outputs."""

Infer = Callable[[int, Sequence[Shape]], list[Shape | None]]
"""Output shapes of a graph: (index, input shapes) → shapes, None where data decides."""


def run(node: Node, operands: Sequence[Array], call: Call, state: Overlay) -> list[Array]:
    """The outputs of a control-flow or resource op."""
    o = node.options
    match node.op.name:
        case "IF":
            condition = _condition(node, operands[0])
            return call(o.then_subgraph_index if condition else o.else_subgraph_index, operands[1:])
        case "WHILE":
            values = list(operands)
            while _condition(node, call(o.cond_subgraph_index, values)[0]):
                values = call(o.body_subgraph_index, values)
            return values
        case "CALL_ONCE":
            if state.call_once(o.init_subgraph_index):
                call(o.init_subgraph_index, ())
            return []
        case "STABLEHLO_COMPOSITE":
            return call(o.decomposition_subgraph_index, operands)
        case "VAR_HANDLE":
            return [np.zeros(node.outputs[0].shape, np.int32) + state.handle(o.container or "", o.shared_name or "")]
        case "READ_VARIABLE":
            value = state.read(("resource", int(operands[0].reshape(-1)[0])))
            if value is None:
                raise DataError(node.place, "a variable that was assigned before", "one without a value")
            return [value]
        case "ASSIGN_VARIABLE":
            state.write(("resource", int(operands[0].reshape(-1)[0])), operands[1])
            return []
    raise InternalError("control", f"{node.place} is no control-flow op")


def output_shapes(node: Node, infer: Infer) -> Sequence[Shape | None]:
    """The output shapes of a control-flow op, None where data decides."""
    o = node.options
    shapes = [spec.shape for spec in node.inputs if spec is not None]
    match node.op.name:
        case "IF":
            branches = infer(o.then_subgraph_index, shapes[1:]), infer(o.else_subgraph_index, shapes[1:])
            return [a if a == b else None for a, b in zip(*branches, strict=True)]
        case "WHILE":
            after = infer(o.body_subgraph_index, shapes)
            same = after == shapes
            return [shape if same else None for shape in shapes]
        case "STABLEHLO_COMPOSITE":
            return infer(o.decomposition_subgraph_index, shapes)
    return []


def _condition(node: Node, value: Array) -> bool:
    if value.size != 1:
        raise DataError(node.place, "a condition of one element", f"shape {list(value.shape)}")
    return bool(value.reshape(-1)[0])
