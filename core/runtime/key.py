"""Keys of the store: a kind and named components, with one encoding that the digest is taken of.

There is one encoding for each key and one key for each encoding, little-endian:

    key       = string(kind) u32(number of components) component*     in order of name
    component = string(name) tag string(value)
    tag       = "s" (str, UTF-8) | "b" (bytes) | "i" (int, two's complement, least bytes, little-endian)
    string(x) = u32(length) x
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeAlias

from delegraph.core.errors import InvalidArgument

Component: TypeAlias = str | bytes | int

MAX_KEY_BYTES = 1 << 20

_KIND = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_U32 = struct.Struct("<I")


@dataclass(frozen=True)
class Key:
    """A kind of entry and the named components that the entry depends on; the digest depends on all of them.

    An entry keeps its key's components in full, to tell which one changed: give digests of what is large. A
    bool counts as an int.

    Raises: InvalidArgument for a kind that is no file name, a component of another type, and more than 1 MiB.

    >>> Key("plan", {"model": "9f86d0", "threads": 2}).digest[:16]
    '87a8106e9946043a'
    """

    kind: str
    components: Mapping[str, Component]

    def __post_init__(self) -> None:
        if not _KIND.fullmatch(self.kind):
            raise InvalidArgument("key: kind", f"a match of {_KIND.pattern}", repr(self.kind))
        for name, value in self.components.items():
            if not isinstance(name, str) or not isinstance(value, (str, bytes, int)):
                found = f"{type(name).__name__} and {type(value).__name__}"
                raise InvalidArgument(f"key: component {name!r}", "a str, and a str, bytes or int", found)
        object.__setattr__(self, "components", MappingProxyType(dict(sorted(self.components.items()))))
        if len(self.encoded) > MAX_KEY_BYTES:
            expected = f"at most {MAX_KEY_BYTES} bytes"
            raise InvalidArgument("key", expected, str(len(self.encoded)), "give a digest of what is large")

    def __hash__(self) -> int:
        return hash(self.encoded)

    def __reduce__(self) -> tuple[Any, ...]:
        return Key, (self.kind, dict(self.components))

    @cached_property
    def encoded(self) -> bytes:
        parts = [_string(self.kind.encode()), _U32.pack(len(self.components))]
        for name, value in self.components.items():
            tag, data = _encode_component(value)
            parts += _string(_encode_text(name)), tag, _string(data)
        return b"".join(parts)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the encoding, in hex."""
        return hashlib.sha256(self.encoded).hexdigest()

    @staticmethod
    def decode(encoded: bytes) -> Key:
        """The key of an encoding. Raises: ValueError if there is none."""
        reader = _Reader(encoded)
        kind = reader.string().decode()
        components = {}
        for _ in range(reader.u32()):
            name = _decode_text(reader.string())
            components[name] = _decode_component(reader.take(1), reader.string())
        key = Key(kind, components)
        if key.encoded != encoded:
            raise ValueError("not the encoding of a key")
        return key


def _encode_text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # file names may hold surrogates


def _decode_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _encode_component(value: Component) -> tuple[bytes, bytes]:
    if isinstance(value, str):
        return b"s", _encode_text(value)
    if isinstance(value, bytes):
        return b"b", value
    return b"i", int(value).to_bytes(int(value).bit_length() // 8 + 1, "little", signed=True)


def _decode_component(tag: bytes, data: bytes) -> Component:
    if tag == b"s":
        return _decode_text(data)
    if tag == b"b":
        return data
    if tag == b"i":
        return int.from_bytes(data, "little", signed=True)
    raise ValueError(f"unknown tag {tag!r}")


def _string(data: bytes) -> bytes:
    return _U32.pack(len(data)) + data


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    def take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._data):
            raise ValueError("cut short")
        taken, self._position = self._data[self._position : end], end
        return taken

    def u32(self) -> int:
        return int(_U32.unpack(self.take(4))[0])

    def string(self) -> bytes:
        return self.take(self.u32())
