"""Why an op can or can't run at all: unknown, foreign, no such form, or a rule that it breaks. Imports core.ops."""

from __future__ import annotations

from dataclasses import dataclass

from delegraph.core.errors import UnsupportedOp
from delegraph.core.graph.calls import called_graphs
from delegraph.core.graph.graph import GraphSet, Op
from delegraph.core.ops import registry
from delegraph.core.ops.foreign import maker_of
from delegraph.core.ops.opdef import Node


def check_ops(graphs: GraphSet, entry: int = 0) -> None:
    """Raises UnsupportedOp for the first op that can't run whatever its operands are, of a graph and those that it
    calls; names the others too. What stands in graphs that it doesn't call, such as other signatures', does no harm."""
    reached: list[int] = []
    waiting = [entry]
    while waiting:
        index = waiting.pop()
        if index not in reached:
            reached.append(index)
            waiting += [called for op in graphs.graphs[index].ops for called in called_graphs(op).values()]
    ops = [op for index in sorted(reached) for op in graphs.graphs[index].ops]
    found = [(op, problem) for op in ops if (problem := op_support(op)) is not None]
    if found:
        op, problem = found[0]
        others = tuple(sorted({other.name for other, _ in found[1:]} - {op.name}))
        raise UnsupportedOp(op.place, op.name, problem.reason, problem.advice, others)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an op can't run: id of the rule, what was found as a sentence, and what to do (may be empty)."""

    constraint: str
    reason: str
    advice: str = ""

    def error(self, op: Op) -> UnsupportedOp:
        return UnsupportedOp(op.place, op.name, self.reason, self.advice)


def op_support(op: Op) -> Problem | None:
    """What stands against an op whatever its operands are: no OpDef for its name.

    Versions are not compared: they promise features, which the forms and constraints speak of.
    """
    opdef = registry.find(op.name)
    if opdef is None or opdef.is_custom != op.is_custom:
        maker = maker_of(op.name) if op.is_custom else None
        if maker is not None:
            what, advice = maker
            return Problem("op.foreign", f"this is {what}, which only that maker's runtime can run", advice)
        if op.is_custom:
            return Problem(
                "op.unknown",
                "no custom op of that name is registered",
                "register one with dg.register_op(OpDef(...))",
            )
        return Problem("op.missing", "delegraph has no kernel for this operator yet")
    return None


def node_support(op: Op, node: Node) -> Problem | None:
    """What stands against a node: as ``op_support``, no form for its types, or a constraint that it breaks."""
    problem = op_support(op)
    if problem is not None:
        return problem
    opdef = registry.find(op.name)
    assert opdef is not None
    if not opdef.host and opdef.form(node) is None:
        return Problem(
            "op.form",
            f"no kernel for {types_of(node)}; there is one for {'; '.join(map(str, opdef.forms))}",
        )
    for constraint in opdef.constraints:
        found = constraint.test(node)
        if found is not None:
            return Problem(f"{op.name}.{constraint.id}", f"{constraint.sentence}, found {found}")
    return None


def types_of(node: Node) -> str:
    """The node's types in the notation of forms: ``"int8, int8, int32 -> int8"``."""
    inputs = ", ".join("none" if spec is None else str(spec.dtype) for spec in node.inputs)
    return f"{inputs} -> {', '.join(str(spec.dtype) for spec in node.outputs)}"
