"""A YAML file as values that know where they stand. Imports core.errors; PyYAML when a file is read.

Anchors and merge keys are refused: ``inherit:`` does what they would, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from delegraph.core.errors import InvalidDevices

MAX_BYTES = 1 << 20
"""Size up to which a file is read at all."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A value with its place. value: a scalar's text (str), a list of entries, a mapping of them, or None (null)."""

    value: str | list[Entry] | dict[str, Entry] | None
    source: str
    line: int
    place: str

    def error(self, expected: str, found: str | None = None, advice: str = "") -> InvalidDevices:
        """An error about this value."""
        return InvalidDevices(
            self.source, self.line, self.place, expected, self.shown if found is None else found, advice
        )

    @property
    def shown(self) -> str:
        """The value in an error message."""
        if self.value is None:
            return "nothing"
        if isinstance(self.value, str):
            return repr(self.value)
        return "a list" if isinstance(self.value, list) else "a mapping"

    @property
    def mapping(self) -> dict[str, Entry]:
        """Raises InvalidDevices when this is none."""
        if not isinstance(self.value, dict):
            raise self.error("a mapping")
        return self.value

    @property
    def plain(self) -> Any:
        """The value without its places, for digests."""
        if isinstance(self.value, dict):
            return {name: entry.plain for name, entry in self.value.items()}
        if isinstance(self.value, list):
            return [entry.plain for entry in self.value]
        return self.value


def parse(text: str | bytes, source: str) -> Entry:
    """The file's content; an empty file is an empty mapping.

    Raises:
        InvalidDevices: not YAML, too large, or with anchors.
    """
    import yaml

    if len(text) > MAX_BYTES:
        raise InvalidDevices(source, 0, "", f"at most {MAX_BYTES} bytes", f"{len(text)}")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the wheel without libyaml lacks the fast one
    try:
        root = yaml.compose(text, loader)
        if root is None:
            return Entry({}, source, 1, "")
        return _entry(root, source, "", set())
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        problem = getattr(exc, "problem", None) or str(exc).splitlines()[0]
        raise InvalidDevices(source, mark.line + 1 if mark else 0, "", "YAML", problem) from exc
    except RecursionError:
        raise InvalidDevices(source, 0, "", "values nested a few levels deep", "hundreds of levels") from None


def _entry(node: Any, source: str, place: str, seen: set[int]) -> Entry:
    line = node.start_mark.line + 1
    if id(node) in seen:
        raise InvalidDevices(source, line, place, "a value of its own", "an alias", "use inherit: instead")
    seen.add(id(node))
    value: str | list[Entry] | dict[str, Entry] | None
    if node.id == "scalar":
        value = None if node.tag == "tag:yaml.org,2002:null" else str(node.value)
    elif node.id == "sequence":
        value = [_entry(item, source, f"{place}[{i}]", seen) for i, item in enumerate(node.value)]
    else:
        value = {}
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            if key_node.id != "scalar":
                raise InvalidDevices(source, key_line, place, "a name", "a list or mapping as key")
            key = str(key_node.value)
            inner = f"{place}.{key}" if place else key
            if key in value:
                raise InvalidDevices(source, key_line, inner, "each name once", f"it again (line {value[key].line})")
            found = _entry(value_node, source, inner, seen)
            value[key] = Entry(found.value, source, key_line, inner)
    return Entry(value, source, line, place)


def merge(base: Entry, over: Entry) -> Entry:
    """``base`` with what ``over`` says in its place: mappings name by name, where null takes a name away; else
    ``over`` as it is."""
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    merged = dict(base.value)
    for name, entry in over.value.items():
        if entry.value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged[name], entry) if name in merged else entry
    return Entry(merged, over.source, over.line, over.place)


def nearest(name: str, known: Any) -> str:
    """Advice on a name that is not among ``known``."""
    near = get_close_matches(name, list(known), 1, 0.5)
    return f"did you mean {near[0]!r}?" if near else f"there is {', '.join(known)}"
