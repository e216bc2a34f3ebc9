"""JSON documents that people edit: each value knows where it stands, for errors that say so. Imports core.errors."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from delegraph.core.errors import InvalidArgument

LARGEST = 1 << 50
"""The largest number that may be handed in: in nanoseconds, thirteen days. What sums of them come to may be more."""


def read_json(source: str | os.PathLike[str], name: str) -> Any:
    """The value of a JSON file. Raises OSError, or InvalidArgument for a file that is none."""
    try:
        return json.loads(Path(source).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as exc:
        raise InvalidArgument(f"{name} {os.fspath(source)}", "a JSON file", str(exc)) from exc


class Reader:
    """A value of a JSON document and where it stands, for errors that say so."""

    def __init__(self, value: Any, place: str) -> None:
        self.value, self.place = value, place

    def __getitem__(self, name: str) -> Reader:
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        if name not in self.value:
            raise InvalidArgument(self.place, f"a field {name!r}", f"only {', '.join(map(str, self.value)) or 'none'}")
        return Reader(self.value[name], f"{self.place}.{name}")

    def get(self, name: str) -> Reader | None:
        """The field, or None where it is missing or null."""
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return Reader(self.value[name], f"{self.place}.{name}") if self.value.get(name) is not None else None

    def wrong(self, expected: str, advice: str = "") -> InvalidArgument:
        return InvalidArgument(self.place, expected, _short(self.value), advice)

    def items(self, name: str) -> list[Reader]:
        field = self[name]
        if not isinstance(field.value, list):
            raise field.wrong("a list")
        return [Reader(item, f"{field.place}[{i}]") for i, item in enumerate(field.value)]

    def fields(self, name: str) -> dict[str, Reader]:
        field = self[name]
        if not isinstance(field.value, dict):
            raise field.wrong("an object")
        return {str(key): Reader(item, f"{field.place}.{key}") for key, item in field.value.items()}

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.wrong("a text")
        return self.value

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def whole(self, least: int = 0, most: int = LARGEST) -> int:
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not least <= self.value <= most:
            raise self.wrong(f"a whole number from {least} to {most}")
        return self.value

    def total(self) -> int:
        """A whole number that was added up, however large."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or self.value < 0:
            raise self.wrong("a whole number of at least 0")
        return self.value

    def number(self) -> float:
        is_number = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        if not is_number or not 0 <= self.value <= LARGEST:
            raise self.wrong("a number of at least 0")
        return float(self.value)

    def expect_format(self, name: str, version: int, advice: str) -> None:
        found = self.get("format")
        if found is None or found.value != name:
            raise InvalidArgument(self.place, f"a document of format {name!r}", _short(found and found.value), advice)
        if self["version"].value != version:
            raise self["version"].wrong(str(version), "write it again with this version of delegraph")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
