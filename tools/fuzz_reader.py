"""Feed damaged models to the reader: it must give a model or InvalidModel, soon, whatever the bytes.

    python -m tools.fuzz_reader --seconds 60 --seed 1 [--keep DIR] [MODEL ...]

Each case takes one of the models (default: small ones of ../shared, and a handmade one), damages its bytes
or changes fields and writes it again. A model that reads must come back from the writer unchanged. Bytes that
fail are kept in DIR as SEED-CASE.tflite; the same seed, models and case number give the same bytes again.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from delegraph.core.errors import InvalidModel
from delegraph.core.model import Model, Table, control_dependencies, read
from delegraph.core.model.schema_table import TABLES, UNIONS
from delegraph.core.model.writer import write

ROOT = Path(__file__).resolve().parent.parent
LARGEST_SEED_BYTES = 20_000
# The reader's budget for 20 KB allows about 9,000 tables, which take a tenth of this.
CASE_LIMIT_S = 1.0


class Failure(NamedTuple):
    """A case that broke a rule, with what is needed to see it again."""

    seed: int
    case: int
    data: bytes
    reason: str


def seeds(paths: Sequence[Path] = ()) -> list[bytes]:
    """The models to start from: those at paths, else small ones of the shared folder, and a handmade one."""
    from tests.model.samples import model_files, sample

    found = paths or [path for path in model_files() if path.stat().st_size <= LARGEST_SEED_BYTES]
    return [write(sample()), write(sample(), inline_limit_bytes=0), *(path.read_bytes() for path in found)]


def cases(seed: int, models: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    """Damaged models without end, with their numbers; each depends on seed and number only."""
    number = 0
    while True:
        yield number, mutate(random.Random(f"{seed}:{number}"), models)
        number += 1


def fuzz(seconds: float, seed: int, models: Sequence[bytes]) -> tuple[int, int, list[Failure]]:
    """Run cases for a time; return how many there were, how many read as a model, and the failures."""
    end = time.monotonic() + seconds
    n_cases, n_read, failures = 0, 0, []
    for number, data in cases(seed, models):
        n_cases += 1
        try:
            n_read += judge(data)
        except Exception:
            failures.append(Failure(seed, number, data, traceback.format_exc()))
        if time.monotonic() >= end:
            break
    return n_cases, n_read, failures


def judge(data: bytes) -> bool:
    """Whether data reads as a model.

    Raises: whatever but InvalidModel comes out of the reader; AssertionError if the reader takes too long, or
    the model does not survive writing.
    """
    start = time.process_time()
    try:
        model = read(data)
    except InvalidModel as error:
        assert error.expected and error.found and str(error)
        return False
    finally:
        seconds = time.process_time() - start
        assert seconds < CASE_LIMIT_S, f"{seconds:.1f} s for {len(data)} bytes"
    for subgraph in model.subgraphs:
        for op in subgraph.operators or ():
            model.op_name(op)
    assert isinstance(model.metadata, dict)
    try:
        control_dependencies(model)
    except InvalidModel:
        pass
    written = write(model)
    again = read(written)
    assert again == model, "read, written and read: not the same"
    assert write(again) == written, "written again: other bytes"
    return True


def mutate(rng: random.Random, models: Sequence[bytes]) -> bytes:
    """One of the models, damaged in one to four ways."""
    data = bytearray(rng.choice(models))
    if rng.random() < 0.25:
        data = bytearray(_change_fields(rng, bytes(data)))
        if rng.random() < 0.7:
            return bytes(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(_DAMAGES)(rng, data, models)
    return bytes(data)


def _flip(rng: random.Random, data: bytearray, models: Sequence[bytes]) -> None:
    for _ in range(rng.choice((1, 1, 2, 8, 32))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set_byte(rng: random.Random, data: bytearray, models: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice((0, 1, 3, 4, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _set_u32(rng: random.Random, data: bytearray, models: Sequence[bytes]) -> None:
    """Replace an aligned word, as offsets and counts are."""
    if len(data) >= 4:
        at = rng.randrange(len(data) // 4) * 4
        values = (
            0,
            1,
            4,
            2**31 - 1,
            2**31,
            2**32 - 1,
            len(data),
            len(data) - at,
            rng.randrange(len(data) + 1),
        )
        struct.pack_into("<I", data, at, rng.choice(values))


def _shift_u32(rng: random.Random, data: bytearray, models: Sequence[bytes]) -> None:
    """Move an offset or a count a little, so that tables and vectors overlap."""
    if len(data) >= 4:
        at = rng.randrange(len(data) // 4) * 4
        value = struct.unpack_from("<I", data, at)[0] + rng.choice((-64, -8, -4, -2, -1, 1, 2, 4, 8, 64, 4096))
        struct.pack_into("<I", data, at, value % 2**32)


def _set_u16(rng: random.Random, data: bytearray, models: Sequence[bytes]) -> None:
    """Replace an aligned half word, as vtables are made of."""
    if len(data) >= 2:
        at = rng.randrange(len(data) // 2) * 2
        struct.pack_into("<H", data, at, rng.choice((0, 1, 2, 3, 4, 5, 6, 8, 12, 64, 0x7FFF, 0xFFFF)))


def _truncate(rng: random.Random, data: bytearray, models: Sequence[bytes]) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _copy_within(rng: random.Random, data: bytearray, models: Sequence[bytes]) -> None:
    if len(data) >= 8:
        n = rng.choice((4, 8, 16, 64, 256))
        source, target = (rng.randrange(len(data) // 4) * 4 for _ in range(2))
        piece = data[source : source + n]
        data[target : target + len(piece)] = piece


def _splice(rng: random.Random, data: bytearray, models: Sequence[bytes]) -> None:
    """Put a piece of another model in, in place of as many bytes or between them."""
    other = rng.choice(models)
    start = rng.randrange(len(other) + 1)
    piece = other[start : start + rng.choice((4, 16, 64, 1024))]
    at = rng.randrange(len(data) + 1)
    data[at : at + rng.choice((0, len(piece)))] = piece


def _repeat_offset(rng: random.Random, data: bytearray, models: Sequence[bytes]) -> None:
    """Let many offsets of a vector point to one place, as a bomb would."""
    if len(data) >= 64:
        at = rng.randrange(len(data) // 4 - 8) * 4
        target = at + struct.unpack_from("<I", data, at)[0]
        n = min(rng.choice((4, 32, 512)), (len(data) - at) // 4)
        for i in range(n):
            struct.pack_into("<I", data, at + 4 * i, (target - at - 4 * i) % 2**32)


_Damage = Callable[[random.Random, bytearray, Sequence[bytes]], None]
_DAMAGES: tuple[_Damage, ...] = (
    _flip, _set_byte, _set_u32, _set_u32, _shift_u32, _shift_u32, _set_u16, _truncate, _copy_within, _splice,
    _repeat_offset,
)  # fmt: skip


def _change_fields(rng: random.Random, data: bytes) -> bytes:
    """The model with a few fields set to other values of their types: sound bytes, broken meaning."""
    try:
        root = read(data).root
    except InvalidModel:
        return data
    for _ in range(rng.choice((1, 1, 3))):
        root = _changed(rng, root)
    return write(Model(root), rng.choice((0, 2**31 - 1)))


def _changed(rng: random.Random, table: Table) -> Table:
    fields = TABLES[table.type_name]
    if not fields:
        return table
    name = rng.choice(list(fields))
    value = getattr(table, name)
    if isinstance(value, Table) and rng.random() < 0.8:
        return table.replace(**{name: _changed(rng, value)})
    if isinstance(value, tuple) and value and rng.random() < 0.8:
        index = rng.randrange(len(value))
        return table.replace(**{name: (*value[:index], _changed(rng, value[index]), *value[index + 1 :])})
    return table.replace(**{name: _any_value(rng, table.type_name, name, value)})


def _any_value(rng: random.Random, type_name: str, name: str, value: Any) -> Any:
    field = TABLES[type_name][name]
    if field.kind == "scalar":
        return bool(rng.randrange(2)) if field.dtype == "bool" else _number(rng, field.dtype)
    if field.kind == "string":
        return rng.choice((None, "", "x" * 300, "\udcff\0"))
    if field.kind == "vector":
        if value is not None and value.size and rng.random() < 0.6:
            copy = value.copy()
            copy[rng.randrange(copy.size)] = _number(rng, field.dtype)
            return copy
        return rng.choice((None, [], [_number(rng, field.dtype) for _ in range(rng.choice((1, 4, 70)))]))
    if field.kind == "tables":
        return rng.choice((None, (), (value or ())[1:], (value or ()) * 2))
    if field.kind == "union":
        return rng.choice((None, Table(rng.choice(UNIONS[field.type_name]))))
    return rng.choice((None, Table(field.type_name)))


def _number(rng: random.Random, dtype: str) -> int | float | bool:
    if dtype == "bool":
        return bool(rng.randrange(2))
    if dtype.startswith("float"):
        return rng.choice((0.0, -0.0, 1.0, float("nan"), float("inf"), 1e-40, rng.uniform(-1e3, 1e3)))
    limits = np.iinfo(dtype)
    value = rng.choice((0, 1, -1, 2, 3, 7, 127, int(limits.min), int(limits.max), rng.randrange(64)))
    return min(max(value, int(limits.min)), int(limits.max))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Feed damaged models to the reader.")
    parser.add_argument("models", nargs="*", type=Path, help="models to damage")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=ROOT / "build" / "fuzz", help="folder for bytes that fail")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    n_cases, n_read, failures = fuzz(options.seconds, options.seed, seeds(options.models))
    rate = n_cases / (time.monotonic() - start)
    print(f"seed {options.seed}: {n_cases} cases, {rate:.0f} a second, {n_read} read, {len(failures)} failed")
    for failure in failures:
        options.keep.mkdir(parents=True, exist_ok=True)
        path = options.keep / f"{failure.seed}-{failure.case}.tflite"
        path.write_bytes(failure.data)
        print(f"{path}\n{failure.reason}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
