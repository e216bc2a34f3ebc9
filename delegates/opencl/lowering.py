"""A lowering: how an op becomes launches, in which types and under which rules. Imports core.ops, launches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from delegraph.core.errors import InternalError
from delegraph.core.ops.expression import Expression
from delegraph.core.ops.opdef import Form, Kernel, Node
from delegraph.delegates.opencl.launches import Emitter
from delegraph.delegates.opencl.traits import Traits


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that an op has to meet on an OpenCL device.

    test: (node, device) → what was found when the rule is broken, else None. deviates: an op that breaks it runs, with
    other results, which ``sentence`` describes.
    """

    id: str
    sentence: str
    test: Callable[[Node, Traits], str | None]
    advice: str = ""
    limit: str = ""
    deviates: bool = False


@dataclass(frozen=True, slots=True)
class Formula:
    """An elementwise float op as the fusion sees it: its expression, and the numbers for its attributes."""

    expression: Expression
    attributes: dict[str, float]


@dataclass(frozen=True, slots=True)
class Lowering:
    """How one op runs in some of its forms.

    types: in the notation of ``Form``. emit: adds the launches for a node. rules: beside those for every op.
    formula: of an elementwise float op, which the compiler then fuses instead of calling ``emit``.
    """

    op: str
    types: tuple[str, ...]
    emit: Callable[[Node, Emitter], None]
    rules: tuple[Rule, ...] = ()
    formula: Callable[[Node], Formula] | None = None

    def takes(self, node: Node) -> bool:
        return any(_form(types).matches(node) for types in self.types)


@cache
def _form(types: str) -> Form:
    return Form(types, _no_kernel)


def _no_kernel(node: Node) -> Kernel:
    raise InternalError(node.place, "a form that only matches types was asked for a kernel")


def lowering_of(node: Node, lowerings: Sequence[Lowering]) -> Lowering | None:
    """The first of an op's lowerings that takes the node's types."""
    return next((lowering for lowering in lowerings if lowering.takes(node)), None)
