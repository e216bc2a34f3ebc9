"""Model to bytes: one canonical file for each model, built by FlatBuffers' own package from the schema table.

Canonical: tables and vectors in the schema's order and none shared, fields of a table by falling width,
defaults left out, vtables shared. Equal models give equal bytes, and ``write(read(write(m))) == write(m)``.

A FlatBuffer ends at 2 GiB. Where the constants don't fit, they lie behind it, each on a multiple of 16, and
``Buffer.offset`` and ``size`` (``Operator.large_custom_options_*``) say where, from the start of the file.
Source: schema.fbs of TFLite, tables Buffer and Operator.
"""

from __future__ import annotations

import os
import secrets
from typing import Any

import flatbuffers
import numpy as np
from flatbuffers import number_types

from delegraph.core.errors import InternalError
from delegraph.core.model.field import Field
from delegraph.core.model.model import Model
from delegraph.core.model.reader import IDENTIFIER, OUTSIDE
from delegraph.core.model.schema_table import TABLES, UNIONS
from delegraph.core.model.table import Table

INLINE_LIMIT_BYTES = 2**31 - 2**27  # leaves 128 MiB of the 2 GiB for everything but constants
_ALIGNMENT = 16
_FLAGS = {
    "bool": number_types.BoolFlags,
    "int8": number_types.Int8Flags,
    "uint8": number_types.Uint8Flags,
    "int16": number_types.Int16Flags,
    "uint16": number_types.Uint16Flags,
    "int32": number_types.Int32Flags,
    "uint32": number_types.Uint32Flags,
    "int64": number_types.Int64Flags,
    "uint64": number_types.Uint64Flags,
    "float32": number_types.Float32Flags,
    "float64": number_types.Float64Flags,
}
_N_SLOTS = {name: max((field.slot + 1 for field in fields.values()), default=0) for name, fields in TABLES.items()}


def write(model: Model, inline_limit_bytes: int = INLINE_LIMIT_BYTES) -> bytes:
    """The model as the bytes of a .tflite file.

    If buffers and custom options sum up to more than inline_limit_bytes, they lie behind the FlatBuffer.
    The rules between tables are not checked; ``read`` does that.
    """
    return b"".join(_pieces(model, inline_limit_bytes))


def write_file(model: Model, path: str | os.PathLike[str], inline_limit_bytes: int = INLINE_LIMIT_BYTES) -> None:
    """Write the model to path; who reads path meanwhile, or after a crash, sees the old file or the new one.

    The model may be a view on the very file that is replaced.

    Raises: OSError
    """
    pieces = _pieces(model, inline_limit_bytes)
    temporary = f"{os.fspath(path)}.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "xb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _pieces(model: Model, inline_limit_bytes: int) -> list[bytes | bytearray | memoryview]:
    """The file in pieces, so that constants behind the FlatBuffer are never copied together."""
    large = _large(model)
    if sum(data.size for data in large) <= inline_limit_bytes:
        return [_build(model, [])]
    # Distances don't depend on the offsets' values, so the length found with any offsets is the final one.
    n_bytes = len(_build(model, _offsets(large, _ALIGNMENT)))
    head = _build(model, _offsets(large, n_bytes + _padding(n_bytes)))
    if len(head) != n_bytes:
        raise InternalError("writer", f"the FlatBuffer has {len(head)} bytes, {n_bytes} before")
    pieces: list[bytes | bytearray | memoryview] = [head, bytes(_padding(n_bytes))]
    for data in large:
        pieces += [_as_bytes(data), bytes(_padding(data.size))]
    return pieces


def _large(model: Model) -> list[np.ndarray]:
    """The bytes that may lie behind the FlatBuffer, in the order in which the schema meets their tables."""
    operators = (op for subgraph in model.subgraphs for op in subgraph.operators or ())
    found = (getattr(owner, OUTSIDE[owner.type_name][0]) for owner in (*operators, *model.buffers))
    return [data for data in found if data is not None and data.size]


def _offsets(large: list[np.ndarray], start: int) -> list[int]:
    """Where in the file each of these lies, the first at start."""
    offsets = []
    for data in large:
        offsets.append(start)
        start += data.size + _padding(data.size)
    return offsets


def _padding(n_bytes: int) -> int:
    return -n_bytes % _ALIGNMENT


def _build(model: Model, offsets: list[int]) -> bytearray:
    """The FlatBuffer, with large bytes at these offsets behind it, or within if there are none."""
    inline = 0 if offsets else sum(data.size + _ALIGNMENT for data in _large(model))
    builder = flatbuffers.Builder(inline + 65536)  # large enough at once: growing copies everything
    root = _Writer(builder, offsets).table(model.root)
    builder.Finish(root, file_identifier=IDENTIFIER)
    file: bytearray = builder.Output()
    return file


class _Writer:
    """Writes tables from the end of the file to its start, children before parents, as FlatBuffers need.

    So it meets the tables of large bytes in the opposite of their order, and takes offsets from the end.
    """

    def __init__(self, builder: flatbuffers.Builder, offsets: list[int]) -> None:
        self.builder = builder
        self.offsets = offsets

    def table(self, table: Table) -> int:
        """Write a table with all that hangs on it; return the builder's offset of it."""
        schema = TABLES[table.type_name]
        values = dict(table.fields)
        if self.offsets and table.type_name in OUTSIDE:
            data, offset, size = OUTSIDE[table.type_name]
            if data in values and values[data].size:
                values[offset], values[size] = self.offsets.pop(), values.pop(data).size
        inline: list[tuple[Any, int, Any]] = []  # (kind of number, slot, value)
        for name in reversed(schema):
            if name not in values:
                continue
            field, value = schema[name], values[name]
            if field.kind == "scalar":
                inline.append((_FLAGS[field.dtype], field.slot, value))
                continue
            inline.append((number_types.UOffsetTFlags, field.slot, self.child(field, value)))
            if field.kind == "union":
                member = UNIONS[field.type_name].index(value.type_name) + 1
                inline.append((number_types.Uint8Flags, field.slot - 1, member))
        inline.sort(key=lambda entry: (-entry[0].bytewidth, entry[1]))
        self.builder.StartObject(_N_SLOTS[table.type_name])
        for flags, slot, value in inline:
            if flags is number_types.UOffsetTFlags:
                self.builder.PrependUOffsetTRelative(value)
            else:
                self.builder.Prepend(flags, value)
            self.builder.Slot(slot)
        return int(self.builder.EndObject())

    def child(self, field: Field, value: Any) -> int:
        """Write what a field refers to; return the builder's offset of it."""
        if field.kind == "string":
            return int(self.builder.CreateString(value, "utf-8", "surrogateescape"))
        if field.kind == "vector":
            return self.vector(value, max(field.align, value.itemsize))
        return self.tables(value) if field.kind == "tables" else self.table(value)

    def vector(self, values: np.ndarray, alignment: int) -> int:
        builder, n_bytes = self.builder, values.nbytes
        builder.StartVector(values.itemsize, values.size, alignment)
        # NOTE: Builder has a call for this, but it takes no alignment.
        builder.head -= n_bytes
        little = values.astype(values.dtype.newbyteorder("<"), copy=False)
        builder.Bytes[builder.head : builder.head + n_bytes] = _as_bytes(little)
        return int(builder.EndVector())

    def tables(self, values: tuple[Table, ...]) -> int:
        offsets = [self.table(value) for value in reversed(values)]
        self.builder.StartVector(4, len(offsets), 4)
        for offset in offsets:
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())


def _as_bytes(values: np.ndarray) -> memoryview:
    return np.ascontiguousarray(values).view(np.uint8).data
