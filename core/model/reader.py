"""Bytes to Model: the FlatBuffer decoder, driven by the schema. What the tables mean, ``checks`` checks.

The format, little-endian; distances are in bytes and count from the place that holds them::

    file    = u32 distance to the root table, "TFL3", anything (large buffers may follow the FlatBuffer)
    table   = i32 distance back to its vtable, fields
    vtable  = u16 size of the vtable, u16 size of the table, for each slot u16 place in the table (0: absent)
    field   = scalar | u32 distance to a table, vector or string
    union   = u8 type in one slot (0: nothing), u32 distance to a table in the next
    vector  = u32 count, count scalars or count u32 distances to tables
    string  = u32 count, count bytes of UTF-8, NUL

Source: https://flatbuffers.dev/internals/. Every place is checked against the file before it is used.
Recursion is bounded by the schema, which has no recursive tables; work and memory by a budget in proportion
to the file's size, since tables and vectors of a crafted file may overlap.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from delegraph.core.errors import InvalidModel
from delegraph.core.model.checks import check
from delegraph.core.model.malformed import Malformed
from delegraph.core.model.model import Model
from delegraph.core.model.schema_table import ROOT, TABLES, UNIONS
from delegraph.core.model.table import DEFAULTS, Table

IDENTIFIER = b"TFL3"
# Tables with bytes that may lie outside the FlatBuffer: fields of the bytes, and of their offset and size.
OUTSIDE = {
    "Buffer": ("data", "offset", "size"),
    "Operator": ("custom_options", "large_custom_options_offset", "large_custom_options_size"),
}
_CODES = {
    "bool": "?", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I",
    "int64": "q", "uint64": "Q", "float32": "f", "float64": "d",
}  # fmt: skip
_TRUNCATED = ": the file ends early, it may be truncated"
_U32 = struct.Struct("<I").unpack_from
_I32 = struct.Struct("<i").unpack_from
_U16_PAIR = struct.Struct("<HH").unpack_from


def read(source: str | os.PathLike[str] | bytes | bytearray | memoryview) -> Model:
    """The model in a file or in bytes, so well checked that nothing behind looks at the FlatBuffer again.

    A file is mapped: constants are read-only views on it, and reading touches only the pages of its tables.
    Bytes are not copied either; whoever passes a bytearray must not change it while the model lives.
    NOTE: truncating a mapped file while the model lives kills the process (SIGBUS), as with every mapping.

    Buffers and custom options that lie outside the FlatBuffer (files over 2 GiB) become ordinary ``data`` and
    ``custom_options``; a Model never shows their offsets. Fields newer than the schema are dropped.

    Raises:
        InvalidModel: not a TFLite model, or one that breaks a rule; says where.
        OSError: the file can't be opened, as from ``open``.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return _read(memoryview(source), "model", None)
    path = os.fspath(source)
    with open(path, "rb") as file:
        try:
            content: mmap.mmap | bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (ValueError, OSError):  # an empty file, or one that can't be mapped, such as a pipe
            content = file.read()
    model = _read(memoryview(content), path, Path(path).resolve().parent)
    if isinstance(content, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        # The kernel maps up to 2 MiB around each byte touched; give that back: constants may never be read.
        content.madvise(mmap.MADV_DONTNEED)
    return model


def _read(content: memoryview, source: str, directory: Path | None) -> Model:
    model = Model(decode(content, source), source, directory)
    check(model)
    return model


def decode(content: memoryview, source: str = "model") -> Table:
    """The root table, every byte of its structure checked but nothing of its meaning.

    Raises: InvalidModel
    """
    data = content.cast("B").toreadonly()
    try:
        if len(data) < 8 or data[4:8] != IDENTIFIER:
            raise Malformed("file identifier TFL3 at byte 4", repr(bytes(data[4:8])))
        return _Decoder(data).table(ROOT, _U32(data)[0])
    except Malformed as bad:
        raise InvalidModel(bad.place.removeprefix("."), bad.expected, bad.found, source) from None


class _Ref(NamedTuple):
    """How to read one field that is not a scalar."""

    name: str
    kind: str
    at: int
    type_name: str  # of the table
    members: tuple[str, ...]  # of the union
    type_at: int  # where the union's type lies
    dtype: np.dtype[Any] | None  # of the vector's elements


class _Plan(NamedTuple):
    """A vtable read against the schema: how to read every table that uses it."""

    size: int
    names: tuple[str, ...]
    scalars: struct.Struct
    refs: tuple[_Ref, ...]


class _Decoder:
    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.size = len(data)
        self.address = np.frombuffer(data, np.uint8).ctypes.data
        # Without sharing, what is charged is less than the file; twice that leaves room for tools that share.
        self.budget = 2 * self.size + 65536
        self.plans: dict[tuple[str, int], _Plan] = {}

    def table(self, type_name: str, at: int) -> Table:
        data = self.data
        self.charge(8)
        self.inside("a table", at, at + 4)
        vtable = at - _I32(data, at)[0]
        plan = self.plans.get((type_name, vtable))
        if plan is None:
            plan = self.plans[type_name, vtable] = self.plan(type_name, vtable)
        self.inside("a table", at, at + plan.size)
        fields: dict[str, Any] = DEFAULTS[type_name].copy()
        fields.update(zip(plan.names, plan.scalars.unpack_from(data, at), strict=True))
        name = ""
        try:
            for name, kind, field_at, child, members, type_at, dtype in plan.refs:
                if kind == "union":
                    member = data[at + type_at]
                    if member == 0:
                        continue
                    if member > len(members):
                        raise Malformed(f"a union type in [0, {len(members)}]", member)
                    child, kind = members[member - 1], "table"
                distance = _U32(data, at + field_at)[0]
                target = at + field_at + distance
                what = "a vector of tables" if kind == "tables" else f"a {kind}"
                if distance == 0:
                    raise Malformed(what, "distance 0")
                self.inside(what, target, target + 4)
                if kind == "vector":
                    vector = fields[name] = self.vector(target, dtype)
                    if type_name != "Buffer":  # constants may be shared; nothing here looks at them
                        self.charge(vector.nbytes)
                elif kind == "string":
                    fields[name] = self.string(target)
                elif kind == "table":
                    fields[name] = self.table(child, target)
                else:
                    fields[name] = self.tables(child, target)
        except Malformed as bad:
            raise bad.under(f".{name}") from None
        if type_name in OUTSIDE:
            self.bring_inside(fields, *OUTSIDE[type_name])
        return Table.of(type_name, fields)

    def plan(self, type_name: str, vtable: int) -> _Plan:
        """The fields of a table in the order of their places, from its vtable."""
        data = self.data
        if vtable < 0:
            raise Malformed("a vtable behind the file's first byte", f"byte {vtable}")
        self.inside("a vtable", vtable, vtable + 4)
        vtable_size, size = _U16_PAIR(data, vtable)
        if vtable_size < 4 or vtable_size % 2:
            raise Malformed("a vtable of an even number of bytes, at least 4", f"{vtable_size} at byte {vtable}")
        self.inside("a vtable", vtable, vtable + vtable_size)
        if size < 4:
            raise Malformed("a table of at least 4 bytes", size)
        slots = struct.unpack_from(f"<{vtable_size // 2 - 2}H", data, vtable + 4)

        def place(slot: int, width: int, name: str) -> int:
            at = slots[slot] if slot < len(slots) else 0
            if at and not 4 <= at <= size - width:
                expected = f"a field of {width} bytes within its table of {size}"
                raise Malformed(expected, f"byte {at}", f".{name}")
            return at

        scalars: list[tuple[int, str, str]] = []
        refs: list[_Ref] = []
        for name, field in TABLES[type_name].items():
            code = _CODES[field.dtype] if field.kind == "scalar" else "I"
            at = place(field.slot, struct.calcsize(code), name)
            if not at:
                continue
            if field.kind == "scalar":
                scalars.append((at, name, code))
                continue
            type_at = place(field.slot - 1, 1, name) if field.kind == "union" else 0
            if field.kind == "union" and not type_at:
                continue  # a union of no type holds nothing
            dtype = np.dtype(field.dtype).newbyteorder("<") if field.kind == "vector" else None
            members = UNIONS[field.type_name] if field.kind == "union" else ()
            refs.append(_Ref(name, field.kind, at, field.type_name, members, type_at, dtype))

        scalars.sort()
        layout, end = "<", 0
        for at, name, code in scalars:
            if at < end:
                raise Malformed(f"a field at byte {end} of its table or behind", f"byte {at}", f".{name}")
            layout += f"{at - end}x{code}"
            end = at + struct.calcsize(code)
        return _Plan(size, tuple(name for _, name, _ in scalars), struct.Struct(layout), tuple(refs))

    def vector(self, at: int, dtype: np.dtype[Any] | None) -> np.ndarray:
        assert dtype is not None
        count = _U32(self.data, at)[0]
        start, width = at + 4, dtype.itemsize
        self.fits(start, count, width)
        vector: np.ndarray = np.ndarray((count,), dtype, self.data, start)
        if dtype.char == "?":
            vector = vector.view(np.uint8) != 0  # other bytes than 0 and 1 are no NumPy bool
            vector.flags.writeable = False
        elif (self.address + start) % width:
            vector = vector.copy()
            vector.flags.writeable = False
        return vector

    def string(self, at: int) -> str:
        count = _U32(self.data, at)[0]
        start = at + 4
        self.fits(start, count + 1, 1)
        if self.data[start + count]:
            raise Malformed("a string that ends with NUL", f"byte {self.data[start + count]}")
        self.charge(count)
        return str(self.data[start : start + count], "utf-8", "surrogateescape")

    def tables(self, type_name: str, at: int) -> tuple[Table, ...]:
        count = _U32(self.data, at)[0]
        start = at + 4
        self.fits(start, count, 4)
        self.charge(4 * count)
        found = []
        for index, distance in enumerate(struct.unpack_from(f"<{count}I", self.data, start)):
            try:
                if not distance:
                    raise Malformed("a table", "distance 0")
                found.append(self.table(type_name, start + 4 * index + distance))
            except Malformed as bad:
                raise bad.under(f"[{index}]") from None
        return tuple(found)

    def bring_inside(self, fields: dict[str, Any], data: str, offset: str, size: str) -> None:
        """Replace offset and size of bytes behind the FlatBuffer by a view on them."""
        start, count = fields[offset], fields[size]
        fields[offset] = fields[size] = 0
        # Offsets 0 and 1 say "not outside". Source: schema.fbs of TFLite, table Buffer.
        if start <= 1 or fields[data] is not None:
            return
        if start + count > self.size:
            found = f"bytes {start} to {start + count}{_TRUNCATED}"
            raise Malformed(f"{count} bytes within the file's {self.size}", found, f".{offset}")
        fields[data] = np.ndarray((count,), np.uint8, self.data, start)

    def fits(self, start: int, count: int, width: int) -> None:
        if start + count * width > self.size:
            room = max(0, self.size - start) // width
            raise Malformed(f"at most {room} elements up to the end of the file", f"{count}{_TRUNCATED}")

    def inside(self, what: str, start: int, end: int) -> None:
        if end > self.size:
            raise Malformed(f"{what} within the file's {self.size} bytes", f"bytes {start} to {end}{_TRUNCATED}")

    def charge(self, cost: int) -> None:
        self.budget -= cost
        if self.budget < 0:
            raise Malformed(f"tables that fit in {self.size} bytes without overlapping", "more")
