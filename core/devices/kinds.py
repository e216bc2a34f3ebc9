"""What a value in devices.yaml may be, as objects that check and read it in one go. Imports core.devices.document.

A ``Kind`` turns an Entry into a Python value or raises InvalidDevices with its place. A ``Record`` reads a mapping
into a dataclass: a field of the file is a field of the class, and one without a default has to be given.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Protocol

from delegraph.core.devices.document import Entry, nearest
from delegraph.core.graph.dtype import DType


class Kind(Protocol):
    """See the module."""

    def read(self, entry: Entry) -> Any: ...


@dataclass(frozen=True, slots=True)
class Text:
    """One line of text. one_of: the words that it may be; empty: any."""

    one_of: tuple[str, ...] = ()

    def read(self, entry: Entry) -> str:
        if not isinstance(entry.value, str):
            raise entry.error("a text")
        text = " ".join(entry.value.split())
        if self.one_of and text not in self.one_of:
            raise entry.error(f"one of {', '.join(self.one_of)}", advice=_did_you_mean(text, self.one_of))
        return text


@dataclass(frozen=True, slots=True)
class Matching:
    """A text of a form. pattern: a regular expression for all of it; what: the form in words."""

    pattern: str
    what: str

    def read(self, entry: Entry) -> str:
        if not isinstance(entry.value, str) or not re.fullmatch(self.pattern, entry.value):
            raise entry.error(self.what)
        return entry.value


class Pattern:
    """A regular expression, for names of hardware; it is matched anywhere, without regard to case."""

    def read(self, entry: Entry) -> re.Pattern[str]:
        if not isinstance(entry.value, str):
            raise entry.error("a regular expression")
        try:
            return re.compile(entry.value, re.IGNORECASE)
        except re.error as exc:
            raise entry.error("a regular expression", f"{entry.shown} ({exc})") from exc


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number of at least ``low``."""

    low: int = 0

    def read(self, entry: Entry) -> int:
        text = entry.value if isinstance(entry.value, str) else ""
        if not re.fullmatch(r"-?[0-9][0-9_]{0,20}", text) or int(text) < self.low:
            raise entry.error(f"a whole number of at least {self.low}")
        return int(text)


@dataclass(frozen=True, slots=True)
class Number:
    """A number in (0, high]. whole: read as the nearest integer, so that 3.2e9 bytes a second stay readable."""

    high: float = math.inf
    whole: bool = False

    def read(self, entry: Entry) -> float:
        try:
            value = float(entry.value) if isinstance(entry.value, str) else math.nan
        except ValueError:
            value = math.nan
        if not (0 < value <= self.high and value < math.inf):
            raise entry.error("a number above 0" + (f" and up to {self.high:g}" if self.high < math.inf else ""))
        return max(1, round(value)) if self.whole else value


class Flag:
    """true or false."""

    def read(self, entry: Entry) -> bool:
        if entry.value not in ("true", "false"):
            raise entry.error("true or false")
        return entry.value == "true"


class ElementType:
    """The name of an element type."""

    def read(self, entry: Entry) -> DType:
        try:
            return DType.parse(entry.value if isinstance(entry.value, str) else "")
        except KeyError:
            known = [str(dtype) for dtype in DType]
            raise entry.error("an element type", advice=_did_you_mean(str(entry.value), known)) from None


@dataclass(frozen=True, slots=True)
class Several:
    """A list of at least one value of a kind, as a tuple."""

    kind: Kind

    def read(self, entry: Entry) -> tuple[Any, ...]:
        if not isinstance(entry.value, list) or not entry.value:
            raise entry.error("a list of at least one value")
        return tuple(self.kind.read(item) for item in entry.value)


@dataclass(frozen=True, slots=True)
class ByName:
    """A mapping whose names and values are each of a kind. low: how many there have to be."""

    name: Kind
    kind: Kind
    low: int = 0

    def read(self, entry: Entry) -> dict[Any, Any]:
        if len(entry.mapping) < self.low:
            raise entry.error(f"at least {self.low} name with a value", "none")
        return {
            self.name.read(Entry(name, item.source, item.line, item.place)): self.kind.read(item)
            for name, item in entry.mapping.items()
        }


@dataclass(frozen=True, slots=True)
class Record:
    """A mapping read into ``make``, a dataclass. kinds: field → its kind."""

    make: Callable[..., Any]
    kinds: Mapping[str, Kind]

    def read(self, entry: Entry, **more: Any) -> Any:
        """more: fields that don't come from the file."""
        values = dict(more)
        for name, item in entry.mapping.items():
            if name not in self.kinds:
                raise item.error(f"a known name in {entry.place or 'the file'}", repr(name), nearest(name, self.kinds))
            if item.value is not None:
                values[name] = self.kinds[name].read(item)
        for field in fields(self.make):  # type: ignore[arg-type]  # mypy has no type for "a dataclass's class"
            if field.name not in values and field.default is MISSING and field.default_factory is MISSING:
                raise entry.error(f"a value for {field.name!r}", "none")
        return self.make(**values)


def _did_you_mean(text: str, known: Sequence[str]) -> str:
    advice = nearest(text, known)
    return advice if advice.startswith("did") else ""
