"""What a check found, and how a check says so: ``fail`` and ``skip``. Imports nothing of delegraph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NoReturn

Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check on one device.

    check: its id. sentence: the rule. device: "" for a rule about the delegate as a whole. found: what broke the rule,
    or why it was not checked; "" when it holds. detail: a traceback, where there is one. seconds: how long it took.
    """

    check: str
    device: str
    outcome: Outcome
    sentence: str
    found: str = ""
    detail: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Finding:
        return cls(**value)


class Broken(Exception):
    """A rule is broken; the text says what was found."""


class Skipped(Exception):
    """A rule can't be checked here; the text says why."""


def fail(found: str) -> NoReturn:
    """Ends the check: the rule is broken."""
    raise Broken(found)


def expect(holds: bool, found: str) -> None:
    """Ends the check unless ``holds``."""
    if not holds:
        raise Broken(found)


def skip(why: str) -> NoReturn:
    """Ends the check: it can't be made here."""
    raise Skipped(why)
