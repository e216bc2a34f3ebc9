"""Fusion: chains of elementwise float ops as one kernel, rendered from the OpDefs' expressions. Imports core.ops.

A group makes one tensor. An op joins the group of its consumer when it is the only one, the tensor in between stays
inside the segment, and both have the same shape, so that one work item makes one element of each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from delegraph.core.graph.graph import Shape
from delegraph.core.ops.opdef import Node
from delegraph.delegates.opencl.indexing import broadcast_offset
from delegraph.delegates.opencl.launches import Emitter, Int, PackRef, Read, TensorRef, Write
from delegraph.delegates.opencl.lowering import Formula
from delegraph.delegates.opencl.render import render

MAX_NODES = 32
"""Ops in one kernel: registers are few."""


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes in execution order; the last one's output is what the group makes."""

    nodes: tuple[Node, ...]

    @property
    def last(self) -> Node:
        return self.nodes[-1]


def fuse(nodes: Sequence[Node], formulas: Mapping[int, Formula], delivered: frozenset[int]) -> dict[int, Group]:
    """Groups by the position of their last node. formulas: of the elementwise ones among ``nodes``, by position.

    Every position in ``formulas`` is in exactly one group.
    """
    consumers = Counter(tensor for node in nodes for tensor in set(node.op.inputs))
    maker = {nodes[position].op.outputs[0]: position for position in formulas}
    groups: dict[int, list[int]] = {}
    for position in formulas:
        members = [position]
        for tensor in dict.fromkeys(nodes[position].op.inputs):
            made = maker.get(tensor)
            if (
                made is not None
                and made in groups
                and consumers[tensor] == 1
                and tensor not in delivered
                and nodes[made].outputs[0].shape == nodes[position].outputs[0].shape
                and len(groups[made]) + len(members) <= MAX_NODES
            ):
                members += groups.pop(made)
        groups[position] = members
    return {last: Group(tuple(nodes[p] for p in sorted(members))) for last, members in groups.items()}


def emit_group(group: Group, formula_of: Mapping[int, Formula], emit: Emitter) -> None:
    """One launch for a group. formula_of: by the number of the op's output tensor."""
    shape = group.last.outputs[0].shape
    reads: list[Read] = []
    lines = ["const int i = get_global_id(0);", "if (i >= n) return;"]
    variables: dict[object, str] = {}
    pointers: dict[TensorRef | PackRef, str] = {}

    def loaded(node: Node, slot: int) -> str:
        """The variable that holds an operand of the node: made in the group, or read from memory."""
        tensor = node.op.inputs[slot]
        if tensor in variables:
            return variables[tensor]
        ref, at = emit.input(node, slot), broadcast_offset(shape, node.input(slot).shape)
        if (ref, at) not in variables:
            if ref not in pointers:
                pointers[ref] = f"p{len(pointers)}"
                reads.append(Read("float", pointers[ref], ref))
            variables[ref, at] = f"x{len(variables)}"
            lines.append(f"const float {variables[ref, at]} = {pointers[ref]}[{at}];")
        return variables[ref, at]

    for node in group.nodes:
        formula = formula_of[node.op.outputs[0]]
        args = [loaded(node, slot) for slot in range(len(node.inputs))]
        text = render(formula.expression, args, formula.attributes, emit.traits)
        name = variables[node.op.outputs[0]] = f"v{len(variables)}"
        lines.append(f"const float {name} = {text};")
    lines.append(f"y[i] = {variables[group.last.op.outputs[0]]};")
    names = "_".join(node.op.name.lower() for node in group.nodes[:3])
    n = elements(shape)
    emit.launch(
        f"{names}_f32", n, (*reads, Write("float", "y", emit.output(group.last)), Int("n", n)), "\n".join(lines)
    )


def elements(shape: Shape) -> int:
    n = 1
    for size in shape:
        n *= size
    return n
