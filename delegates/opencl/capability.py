"""Which ops an OpenCL device takes, with the reason for each that it does not. Imports core.ops, kernels, rules."""

from __future__ import annotations

from collections.abc import Iterator

from delegraph.core.abi.values import SUPPORTED, Support, Verdict
from delegraph.core.errors import DelegraphError
from delegraph.core.ops.opdef import Node, blamed_on
from delegraph.core.ops.support import node_support, types_of
from delegraph.delegates.opencl.kernels import LOWERINGS, lowerings_of
from delegraph.delegates.opencl.launches import Emitter
from delegraph.delegates.opencl.lowering import Lowering, Rule, lowering_of
from delegraph.delegates.opencl.rules import COMMON
from delegraph.delegates.opencl.traits import Traits


def support(node: Node, traits: Traits) -> Support:
    """The answer for one node. Never raises for a model's sake."""
    try:
        problem = node_support(node.op, node)
        if problem is not None:
            return Support(Verdict.NO, problem.constraint, problem.reason, problem.advice)
        lowerings = lowerings_of(node.op.name)
        if not lowerings:
            return Support(Verdict.NO, "opencl.op", "the OpenCL delegate has no kernel for this operator yet")
        lowering = lowering_of(node, lowerings)
        if lowering is None:
            types = "; ".join(text for low in lowerings for text in low.types)
            return Support(
                Verdict.NO, "opencl.types", f"no OpenCL kernel for {types_of(node)}; there is one for {types}"
            )
        with blamed_on(node):
            return _by_rules(node, lowering, traits)
    except DelegraphError as exc:
        return Support(Verdict.NO, "opencl.invalid", str(exc))


def _by_rules(node: Node, lowering: Lowering, traits: Traits) -> Support:
    deviation = None
    for rule in (*COMMON, *lowering.rules):
        found = rule.test(node, traits)
        if found is None:
            continue
        verdict = Verdict.DEVIATES if rule.deviates else Verdict.NO
        answer = Support(
            verdict, f"opencl.{rule.id}", f"{rule.sentence}, found {found}", rule.advice, found, rule.limit
        )
        if not rule.deviates:
            return answer
        deviation = deviation or answer
    if lowering.formula is None:
        lowering.emit(node, Emitter(traits))  # what can't be computed ahead of the run shows here
    return deviation or SUPPORTED


def rules() -> Iterator[tuple[str, str, Rule]]:
    """(op, types, rule) of every rule beside those for all ops, for docs and tests."""
    for lowering in LOWERINGS:
        for rule in lowering.rules:
            yield lowering.op, "; ".join(lowering.types), rule
