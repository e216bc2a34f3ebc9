"""Which ops a profile takes, under which constraints. Imports core.devices.

An op meets the constraints of the profile's op set (NNAPI's of a feature level), then the profile's own: those for
every op, unless the op has a limit of its own for the same rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from delegraph.core.devices import op_sets
from delegraph.core.devices.rules import RULES, DeviceConstraint
from delegraph.core.devices.values import Profile
from delegraph.core.graph.dtype import DType
from delegraph.core.ops.opdef import Node

MOVES = frozenset(
    {
        "ARG_MAX", "ARG_MIN", "BATCH_TO_SPACE_ND", "DEPTH_TO_SPACE", "EXPAND_DIMS", "GATHER", "MAX_POOL_2D",
        "MIRROR_PAD", "PACK", "PAD", "PADV2", "RESHAPE", "REVERSE_V2", "SLICE", "SPACE_TO_BATCH_ND", "SPACE_TO_DEPTH",
        "SPLIT", "SPLIT_V", "SQUEEZE", "STRIDED_SLICE", "TILE", "TOPK_V2", "TRANSPOSE", "UNPACK",
    }
)  # fmt: skip
"""Ops that move or compare integers: nothing of them is rounded on any device."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A constraint that a node breaks, and what was found."""

    constraint: DeviceConstraint
    found: str

    @property
    def reason(self) -> str:
        return f"{self.constraint.sentence}, found {self.found}"


@dataclass(frozen=True, slots=True)
class Missing:
    """Why a profile lacks an op altogether. limit: where its op set ends."""

    reason: str
    limit: str
    advice: str = ""


class Capability:
    """What one profile takes. Thread-safe: what it remembers may be made twice, never wrong."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._known: dict[str, tuple[DeviceConstraint, ...] | None] = {}

    @property
    def ops(self) -> tuple[str, ...]:
        """Every operator that the profile takes, by name."""
        level = self.profile.op_set.nnapi_level
        names = self.profile.ops if level is None else self.profile.only or op_sets.OPS
        return tuple(sorted(name for name in names if self.constraints(name) is not None))

    def constraints(self, op: str) -> tuple[DeviceConstraint, ...] | None:
        """The constraints on an operator, or None when the profile lacks it."""
        if op not in self._known:
            self._known[op] = self._constraints(op)
        return self._known[op]

    def _constraints(self, op: str) -> tuple[DeviceConstraint, ...] | None:
        limits = self.limits(op)
        return None if limits is None else tuple(RULES[rule].constraint(limit) for rule, limit in limits)

    def limits(self, op: str) -> list[tuple[str, Any]] | None:
        """The rules for an operator with their limits, or None when the profile lacks it."""
        profile, level = self.profile, self.profile.op_set.nnapi_level
        found: list[tuple[str, Any]] = []
        if level is None:
            if op not in profile.ops:
                return None
        else:
            if op not in op_sets.OPS or op_sets.OPS[op].level > level or (profile.only and op not in profile.only):
                return None
            found += op_sets.OPS[op].limits(level).items()
        own = {**profile.every_op, **profile.ops.get(op, {})}
        return found + [(rule, limit) for rule, limit in own.items() if limit is not None]

    def missing(self, op: str) -> Missing:
        """Why ``op`` is not among the profile's ops."""
        level, since = self.profile.op_set.nnapi_level, op_sets.level_of(op)
        if level is None:
            return Missing(f"{self.profile.id} has no {op}", f"the {len(self.profile.ops)} ops of its profile")
        if since is None:
            return Missing(f"NNAPI has nothing that {op} could become", "NNAPI's 106 operations")
        if since > level:
            return Missing(
                f"NNAPI has it from feature level {since}, and {self.profile.id} is of level {level}",
                f"feature level {level}",
                f"use a device of feature level {since}, or an operator of level {level}",
            )
        return Missing(f"{self.profile.id} takes {', '.join(self.profile.only)} alone", ", ".join(self.profile.only))

    def dtypes(self, op: str) -> tuple[DType, ...]:
        """The types that an operator's data may have."""
        named = [set(limit) for rule, limit in self.limits(op) or () if rule == "dtypes"]
        return tuple(dtype for dtype in DType if named and all(dtype in dtypes for dtypes in named))

    def deviation(self, op: str, dtypes: Iterable[DType]) -> str:
        """How a result over data of these types differs from the reference's, in a sentence, or ""."""
        for dtype in dtypes:
            if dtype in self.profile.numerics and not (op in MOVES and dtype.is_integer):
                return self.profile.numerics[dtype]
        return ""

    def broken(self, node: Node) -> Sequence[Broken]:
        """Every constraint that a node of one of the profile's ops breaks, in their order."""
        found = []
        for constraint in self.constraints(node.op.name) or ():
            what = constraint.test(node)
            if what is not None:
                found.append(Broken(constraint, what))
        return found
