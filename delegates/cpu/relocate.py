"""A relocatable ELF object of x86-64 → a flat image that runs wherever it is mapped. Imports nothing of delegraph.

The sections that code needs (allocated, not writable; without unwinding tables) are laid out in a row, each at its
alignment, and references between them, all relative to the place that refers, are settled once and for all. So
nothing is left to do at load, and nothing may refer to the outside: an unknown symbol is refused by name.

Source: System V ABI, chapter 4; AMD64 psABI, table 4.10. Measured in facts-cpu.md §5.1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_SHT_PROGBITS, _SHT_SYMTAB, _SHT_RELA, _SHT_NOBITS = 1, 2, 4, 8
_SHF_WRITE, _SHF_ALLOC = 1, 2
_EM_X86_64, _ET_REL = 62, 1
_PC32, _PLT32 = 2, 4
_IGNORED = (".eh_frame",)


class RelocationError(ValueError):
    """An object that can't become an image.

    Example: ``object: relocation in .text+0x40: expected a symbol of this object, found 'memcpy' from outside``
    """


@dataclass(frozen=True, slots=True)
class Image:
    """Code and read-only data in one piece. alignment: of its start; symbols: exported name → offset."""

    data: bytes
    alignment: int
    symbols: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int


@dataclass(frozen=True, slots=True)
class _Symbol:
    name: str
    section: int
    value: int
    is_global: bool


def link(data: bytes) -> Image:
    """The image of one object file.

    Raises:
        RelocationError: it refers to something outside, has writable data, or needs a relocation of another kind.
    """
    sections = _sections(data)
    places: dict[int, int] = {}
    image = bytearray()
    alignment = 64
    for index, s in enumerate(sections):
        if not s.flags & _SHF_ALLOC or s.name in _IGNORED or s.size == 0:
            continue
        if s.flags & _SHF_WRITE or s.kind != _SHT_PROGBITS:
            raise RelocationError(f"object: section {s.name}: expected read-only data, found writable")
        alignment = max(alignment, s.alignment)
        image += bytes(-len(image) % max(1, s.alignment))
        places[index] = len(image)
        image += data[s.offset : s.offset + s.size]
    symbols = next((_symbols(data, s, sections) for s in sections if s.kind == _SHT_SYMTAB), [])
    for s in sections:
        if s.kind == _SHT_RELA and s.info in places:
            _apply(data, s, sections[s.info].name, places[s.info], places, symbols, image)
    exported = {s.name: places[s.section] + s.value for s in symbols if s.is_global and s.name and s.section in places}
    return Image(bytes(image), alignment, exported)


def _sections(data: bytes) -> list[_Section]:
    if len(data) < 64 or data[:6] != b"\x7fELF\x02\x01":
        raise RelocationError("object: expected a 64-bit little-endian ELF file")
    kind, machine = struct.unpack_from("<HH", data, 16)
    if (kind, machine) != (_ET_REL, _EM_X86_64):
        raise RelocationError(f"object: expected a relocatable of x86-64, found type {kind} of machine {machine}")
    (start,) = struct.unpack_from("<Q", data, 40)
    size, n, names = struct.unpack_from("<HHH", data, 58)
    raw = [struct.unpack_from("<IIQQQQIIQQ", data, start + i * size) for i in range(n)]
    strings = raw[names][4]
    return [_Section(_text(data, strings + r[0]), r[1], r[2], r[4], r[5], r[6], r[7], r[8]) for r in raw]


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()


def _symbols(data: bytes, table: _Section, sections: list[_Section]) -> list[_Symbol]:
    strings = sections[table.link].offset
    found = []
    for at in range(table.offset, table.offset + table.size, 24):
        name, info, _, section, value, _ = struct.unpack_from("<IBBHQQ", data, at)
        found.append(_Symbol(_text(data, strings + name), section, value, info >> 4 == 1))
    return found


def _apply(
    data: bytes,
    table: _Section,
    name: str,
    base: int,
    places: dict[int, int],
    symbols: list[_Symbol],
    image: bytearray,
) -> None:
    for at in range(table.offset, table.offset + table.size, 24):
        offset, info, addend = struct.unpack_from("<QQq", data, at)
        symbol, kind = symbols[info >> 32], info & 0xFFFFFFFF
        where = f"object: relocation in {name}+{offset:#x}"
        if symbol.section not in places:
            raise RelocationError(f"{where}: expected a symbol of this object, found {symbol.name!r} from outside")
        if kind not in (_PC32, _PLT32):
            raise RelocationError(f"{where}: expected R_X86_64_PC32 or PLT32, found type {kind}")
        place = base + offset
        value = places[symbol.section] + symbol.value + addend - place
        struct.pack_into("<i", image, place, value)
