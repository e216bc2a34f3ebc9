"""Rules that profiles set limits for, and the constraint that a rule with a limit is. Imports core.ops.

A rule is one function with its sentence; devices.yaml gives the limit (``stride: 3``), and both together are a
``DeviceConstraint``: message, documentation and test are made from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from delegraph.core.devices.document import Entry
from delegraph.core.devices.kinds import ByName, ElementType, Flag, Integer, Kind, Several, Text
from delegraph.core.model.schema_table import ENUMS
from delegraph.core.ops.opdef import Constraint, Node


@dataclass(frozen=True, slots=True)
class DeviceConstraint(Constraint):
    """A rule of a device with its limit. limit: as a short text. advice: what to change so that an op that breaks the
    rule would run; may be empty."""

    limit: str = ""
    advice: str = ""


class OnlyTrue(Flag):
    """``true``, for rules that hold or don't exist."""

    def read(self, entry: Entry) -> bool:
        if not super().read(entry):
            raise entry.error("true", advice="null takes an inherited rule away, and any a general one for an op")
        return True


NUMBER = Integer(1)
NUMBERS = Several(Integer())
HOLDS = OnlyTrue()
TYPES = Several(ElementType())
ACTIVATIONS = Several(Text(one_of=tuple(ENUMS["ActivationFunctionType"])))
NUMBER_BY_TYPE = ByName(ElementType(), Integer(1))
MASKS = Several(Text(one_of=("begin", "end", "ellipsis", "new_axis", "shrink_axis")))


@dataclass(frozen=True, slots=True)
class Rule:
    """sentence: with ``{limit}`` where there is one. ops: what it may be set for; None: any op. test: (node, limit) →
    what was found, when the limit is broken, else None; never raises for a node of such an op with shapes."""

    name: str
    sentence: str
    takes: Kind
    ops: frozenset[str] | None
    advice: str
    test: Callable[[Node, Any], str | None]

    def constraint(self, limit: Any) -> DeviceConstraint:
        """The rule with that limit."""
        text = limit_text(limit)
        return DeviceConstraint(
            self.name,
            self.sentence.format(limit=text),
            lambda node: self.test(node, limit),
            "" if limit is True else text,
            self.advice.format(limit=text),
        )


RULES: dict[str, Rule] = {}
"""Every rule by name."""

Test = Callable[[Node, Any], "str | None"]


def rule(sentence: str, takes: Kind, *, ops: frozenset[str] | None = None, advice: str = "") -> Callable[[Test], Test]:
    """Registers a function as the rule of its name."""

    def register(test: Test) -> Test:
        name = test.__name__
        assert name not in RULES, name
        RULES[name] = Rule(name, sentence, takes, ops, advice, test)
        return test

    return register


def limit_text(limit: Any) -> str:
    """A limit as users read it: ``int8, uint8``."""
    if isinstance(limit, Mapping):
        return ", ".join(f"{value} for {name}" for name, value in limit.items())
    return ", ".join(map(str, limit)) if isinstance(limit, tuple) else str(limit)
