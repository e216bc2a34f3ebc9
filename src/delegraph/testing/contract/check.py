"""A check is a rule of the contract: id, sentence and a function that tries to see it broken. Imports finding, subject.

``@check(id, sentence)`` makes one of a function and lists it. A check is independent of all others, seeded, and quick;
it ends without a word when the rule holds, and with ``fail`` or ``skip`` otherwise. Whatever else it raises counts as a
failure too: nothing that the delegate does there should raise.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from delegraph.testing.contract.subject import Subject


@dataclass(frozen=True, slots=True)
class Check:
    """id: ``subject.rule``. needs_device: whether it is about an open device, or about the delegate as a whole.
    spawns: whether it starts another process, which takes longer and needs a delegate that can be named."""

    id: str
    sentence: str
    function: Callable[[Subject], None]
    needs_device: bool
    spawns: bool


_checks: dict[str, Check] = {}


def check(
    id: str, sentence: str, *, needs_device: bool = True, spawns: bool = False
) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
    """Lists the function as a check."""

    def add(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
        if id in _checks:
            raise ValueError(f"there are two checks {id!r}")
        _checks[id] = Check(id, sentence, function, needs_device, spawns)
        return function

    return add


ORDER = (
    "listing",
    "opening",
    "capability",
    "compiling",
    "artifacts",
    "answers",
    "memory",
    "bound_memory",
    "contexts",
    "events",
    "threads",
    "state",
    "errors",
    "resources",
    "fork",
)
"""The modules of ``checks`` in the order in which their rules are listed."""


def all_checks() -> tuple[Check, ...]:
    """Every check, in the order of the documentation."""
    from delegraph.testing.contract import checks

    found = {module.name for module in pkgutil.iter_modules(checks.__path__)}
    for name in (*ORDER, *sorted(found.difference(ORDER))):
        importlib.import_module(f"{checks.__name__}.{name}")
    return tuple(_checks.values())
