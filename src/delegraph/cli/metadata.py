"""What a model's TFLITE_METADATA says that the command line uses: normalisation, sample rate, label files.

A small bounded reader of the FlatBuffer (identifier M001)::

    ModelMetadata.subgraph_metadata > SubGraphMetadata.input/output_tensor_metadata > TensorMetadata

Source: metadata_schema.fbs of tflite-support; AudioProperties as written by its version 1.3. The bytes are somebody
else's: whatever is wrong with them gives MalformedError, never a crash or a long loop (vectors and strings are
bounded, and the nesting is that of this code).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

NAME = "TFLITE_METADATA"
MAX_ITEMS = 256
MAX_TEXT = 1 << 16
MAX_TABLES = 4096  # in all: vectors of crafted bytes may overlap

_NORMALIZATION = 1  # ProcessUnitOptions
_AUDIO = 4  # ContentProperties
_LABEL_FILES = (2, 3)  # AssociatedFileType TENSOR_AXIS_LABELS, TENSOR_VALUE_LABELS


class MalformedError(Exception):
    """The metadata breaks the format; the message says where."""


@dataclass(frozen=True)
class TensorMetadata:
    """What is said of one input or output. mean, std: normalisation ``(x - mean) / std``, empty if none.

    label_files: (name, locale) of the files with class names. sample_rate: of audio, 0 if unknown.
    """

    name: str = ""
    description: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    label_files: tuple[tuple[str, str], ...] = ()
    sample_rate: int = 0


@dataclass(frozen=True)
class ModelMetadata:
    """What is said of a model; inputs and outputs in the order of each subgraph's own lists."""

    name: str = ""
    description: str = ""
    version: str = ""
    author: str = ""
    license: str = ""
    inputs: tuple[tuple[TensorMetadata, ...], ...] = field(default=())
    outputs: tuple[tuple[TensorMetadata, ...], ...] = field(default=())


def parse(data: bytes) -> ModelMetadata:
    """The metadata in these bytes.

    Raises:
        MalformedError: they are none.
    """
    try:
        return _model(_root(data))
    except (struct.error, UnicodeDecodeError, IndexError, OverflowError) as exc:
        raise MalformedError(str(exc)) from exc


def _model(table: _Table) -> ModelMetadata:
    graphs = list(table.tables(3))
    return ModelMetadata(
        name=table.text(0),
        description=table.text(1),
        version=table.text(2),
        author=table.text(4),
        license=table.text(5),
        inputs=tuple(tuple(map(_tensor, graph.tables(2))) for graph in graphs),
        outputs=tuple(tuple(map(_tensor, graph.tables(3))) for graph in graphs),
    )


def _tensor(table: _Table) -> TensorMetadata:
    mean, std = next(_normalizations(table), ((), ()))
    content = table.table(3)
    audio = content.table(1) if content is not None and content.byte(0) == _AUDIO else None
    return TensorMetadata(
        name=table.text(0),
        description=table.text(1),
        mean=mean,
        std=std,
        label_files=tuple((file.text(0), file.text(3)) for file in table.tables(6) if file.byte(2) in _LABEL_FILES),
        sample_rate=audio.uint(0) if audio is not None else 0,
    )


def _normalizations(table: _Table) -> Iterator[tuple[tuple[float, ...], tuple[float, ...]]]:
    for unit in table.tables(4):
        options = unit.table(1)
        if unit.byte(0) == _NORMALIZATION and options is not None:
            mean, std = options.floats(0), options.floats(1)
            if mean and std and all(map(math.isfinite, mean + std)) and all(std):
                yield mean, std


def _root(data: bytes) -> _Table:
    if data[4:8] != b"M001":
        raise MalformedError(f"expected the identifier b'M001' at byte 4, found {data[4:8]!r}")
    return _Table(_Source(data), _read(data, "<I", 0))


def _read(data: bytes, form: str, place: int) -> int:
    if place < 0:
        raise MalformedError(f"a distance leads before the start, to {place}")
    (value,) = struct.unpack_from(form, data, place)
    return int(value)


@dataclass
class _Source:
    """The bytes, and how many tables have been read from them."""

    data: bytes
    n_tables: int = 0

    def count_table(self) -> None:
        self.n_tables += 1
        if self.n_tables > MAX_TABLES:
            raise MalformedError(f"expected at most {MAX_TABLES} tables, found more")


class _Table:
    """One FlatBuffer table; fields by slot, absent ones as empty or zero. Raises struct.error outside the bytes."""

    def __init__(self, source: _Source, place: int) -> None:
        source.count_table()
        data = source.data
        self._source, self._data, self._place = source, data, place
        self._vtable = place - _read(data, "<i", place)
        self._n_slots = (_read(data, "<H", self._vtable) - 4) // 2

    def _field(self, slot: int) -> int:
        if slot >= self._n_slots:
            return 0
        offset = _read(self._data, "<H", self._vtable + 4 + 2 * slot)
        return self._place + offset if offset else 0

    def byte(self, slot: int) -> int:
        place = self._field(slot)
        return _read(self._data, "<B", place) if place else 0

    def uint(self, slot: int) -> int:
        place = self._field(slot)
        return _read(self._data, "<I", place) if place else 0

    def _follow(self, slot: int, make: Callable[[int], T], absent: T) -> T:
        place = self._field(slot)
        return make(place + _read(self._data, "<I", place)) if place else absent

    def table(self, slot: int) -> _Table | None:
        place = self._field(slot)
        return _Table(self._source, place + _read(self._data, "<I", place)) if place else None

    def text(self, slot: int) -> str:
        return self._follow(slot, self._text, "")

    def _text(self, place: int) -> str:
        n = self._count(place, MAX_TEXT)
        (text,) = struct.unpack_from(f"{n}s", self._data, place + 4)
        return bytes(text).decode()

    def floats(self, slot: int) -> tuple[float, ...]:
        return self._follow(slot, self._floats, ())

    def _floats(self, place: int) -> tuple[float, ...]:
        return struct.unpack_from(f"<{self._count(place, MAX_ITEMS)}f", self._data, place + 4)

    def tables(self, slot: int) -> Iterator[_Table]:
        return self._follow(slot, self._tables, iter(()))

    def _tables(self, place: int) -> Iterator[_Table]:
        for item in range(place + 4, place + 4 + 4 * self._count(place, MAX_ITEMS), 4):
            yield _Table(self._source, item + _read(self._data, "<I", item))

    def _count(self, place: int, limit: int) -> int:
        n = _read(self._data, "<I", place)
        if n > limit:
            raise MalformedError(f"expected at most {limit} items at byte {place}, found {n}")
        return n
