"""What stands between an op and native code, as rules: id, sentence, limit, test. Imports core.ops.

Each rule is one object: the refusal that a user reads, the tables of the documentation and the tests are made from it.
Ops name the rules that they need in ``ops``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from delegraph.core.abi.values import Support, Verdict
from delegraph.core.errors import InvalidModel
from delegraph.core.ops.opdef import Node


@dataclass(frozen=True, slots=True)
class CpuConstraint:
    """A rule of this delegate beyond what the op itself asks for.

    sentence: what has to hold. limit: the bound in it, as a text, where it has one. test: what was found where the
    rule is broken, else None. advice: what to change.
    """

    id: str
    sentence: str
    test: Callable[[Node], str | None]
    limit: str = ""
    advice: str = ""

    def refuse(self, node: Node) -> Support | None:
        """The refusal of a node that breaks the rule, or None."""
        found = self.test(node)
        if found is None:
            return None
        return Support(
            Verdict.NO,
            f"cpu.{self.id}",
            f"{node.op.name}: {self.sentence}, found {found}",
            self.advice,
            value=found,
            limit=self.limit,
        )


def _empty(node: Node) -> str | None:
    specs = [s for s in (*node.inputs, *node.outputs) if s is not None]
    shape = next((s.shape for s in specs if s.n_elements == 0), None)
    return None if shape is None else str(list(shape))


NOT_EMPTY = CpuConstraint("not_empty", "all tensors must have elements", _empty)


def _sparse(node: Node) -> str | None:
    slots = [i for i, s in enumerate(node.inputs) if s is not None and s.sparsity is not None]
    return f"operand {slots[0]}" if slots else None


DENSE = CpuConstraint("dense", "constants must be stored densely", _sparse, advice="densify the model's weights")


def constant(*slots: int, what: str = "") -> CpuConstraint:
    """The rule that operands are known before the run."""

    def test(node: Node) -> str | None:
        for slot in slots:
            if node.has_input(slot) and node.input(slot).value is None:
                return f"operand {slot} computed at run time"
        return None

    return CpuConstraint(f"constant_{what or 'operand'}", f"the {what or 'operand'} must be constant", test)


def computable(compute: Callable[[Node], object]) -> CpuConstraint:
    """The rule that what an op's lowering needs of its quantization is there: ``compute`` raises InvalidModel
    otherwise, which says what is wrong with the model."""

    def test(node: Node) -> str | None:
        try:
            compute(node)
        except InvalidModel as exc:
            return str(exc)
        return None

    return CpuConstraint("quantization", "quantized operands must have the scales that the op needs", test)
