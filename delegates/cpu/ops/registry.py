"""Which ops have native code, for which types, under which rules. Filled by the modules that ``_load`` names."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from delegraph.core.errors import InternalError
from delegraph.core.ops.opdef import Form, Kernel, Node
from delegraph.core.ops.support import types_of
from delegraph.delegates.cpu.constraints import DENSE, NOT_EMPTY, CpuConstraint
from delegraph.delegates.cpu.lower import Lowering

Lower = Callable[[Lowering, Node], None]


@dataclass(frozen=True, slots=True)
class OpLowering:
    """Native code for an op in some types. forms: the types, as in an OpDef. lower: adds the op's commands."""

    op: str
    forms: tuple[Form, ...]
    constraints: tuple[CpuConstraint, ...]
    lower: Lower


LOWERINGS: dict[str, list[OpLowering]] = {}

_MODULES = ("convolution", "pointwise", "quantized", "movement", "pooling", "reduction", "softmax", "resize")


def lowering(ops: str, *types: str, constraints: Sequence[CpuConstraint] = ()) -> Callable[[Lower], Lower]:
    """Registers a function for ops (names with blanks between) in these types."""

    def add(function: Lower) -> Lower:
        for op in ops.split():
            entry = OpLowering(
                op, tuple(Form(t, _no_kernel) for t in types), (NOT_EMPTY, DENSE, *constraints), function
            )
            LOWERINGS.setdefault(op, []).append(entry)
        return function

    return add


def _no_kernel(node: Node) -> Kernel:
    raise InternalError("cpu", f"{node.place}: a native form has no reference kernel")


@functools.cache
def _load() -> None:
    for module in _MODULES:
        importlib.import_module(f"delegraph.delegates.cpu.ops.{module}")


def all_lowerings() -> list[OpLowering]:
    """Every entry, by op."""
    _load()
    return [entry for _, entries in sorted(LOWERINGS.items()) for entry in entries]


def find(node: Node) -> OpLowering | None:
    """The entry for a node's op and types."""
    _load()
    for entry in LOWERINGS.get(node.op.name, ()):
        if any(form.matches(node) for form in entry.forms):
            return entry
    return None


def why_not(node: Node) -> str:
    """Why there is no entry, as a sentence."""
    entries = LOWERINGS.get(node.op.name, [])
    if not entries:
        return f"there is no native code for {node.op.name} yet"
    known = "; ".join(form.types for entry in entries for form in entry.forms)
    return f"no native code for {types_of(node)}; there is for {known}"
