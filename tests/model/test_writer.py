"""The writer: what it writes reads back the same, and there is one way to write it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.model.samples import changed, model_files, sample
from tests.support import require

from delegraph.core.errors import InvalidModel
from delegraph.core.model import Model, Table, read
from delegraph.core.model.schema_table import UNIONS
from delegraph.core.model.writer import write, write_file


def test_every_shared_model_comes_back() -> None:
    require("shared")
    n_models = 0
    for path in model_files():
        try:
            model = read(path)
        except InvalidModel:
            continue  # test_reader says which
        written = write(model)
        again = read(written)
        assert again == model, path
        assert write(again) == written, path
        outside = read(write(model, inline_limit_bytes=0))
        assert outside == model and write(outside) == written, path
        n_models += 1
    assert n_models > 300


def test_equal_models_give_equal_bytes() -> None:
    assert write(sample()) == write(sample())
    spelled_out = changed(sample().root, "subgraphs[0].operators[0].opcode_index", 0)
    assert write(Model(spelled_out)) == write(sample())


def test_constants_lie_on_multiples_of_16() -> None:
    data = write(sample())
    start = np.frombuffer(data, np.uint8).ctypes.data
    for buffer in read(data).buffers[1:]:
        assert (buffer.data.ctypes.data - start) % 16 == 0


@pytest.mark.parametrize("union", ["BuiltinOptions", "BuiltinOptions2"])
def test_options_without_fields_keep_their_type(union: str) -> None:
    field = "builtin_options" if union == "BuiltinOptions" else "builtin_options_2"
    for name in UNIONS[union]:
        operators = [Table("Operator", **{field: Table(name)})]
        subgraph = Table("SubGraph", operators=operators)
        codes = [Table("OperatorCode")]
        model = Model(Table("Model", version=3, operator_codes=codes, subgraphs=[subgraph]))
        if "subgraph" in repr(list(Table(name))):
            continue  # refers to a subgraph by its default, 0
        assert getattr(read(write(model)).subgraphs[0].operators[0], field) == Table(name)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("description", "\udcff\udc80 not UTF-8"),
        ("description", ""),
        ("description", "with a NUL\0 within"),
        ("subgraphs[0].tensors[3].shape_signature", []),
        ("subgraphs[0].operators[0].mutating_variable_inputs", [True, False, True]),
        ("subgraphs[0].operators[0].debug_metadata_index", 0),
        ("subgraphs[0].operators[0].builtin_options", Table("LeakyReluOptions", alpha=-0.0)),
        ("subgraphs[0].operators[0].builtin_options", Table("LeakyReluOptions", alpha=float("nan"))),
        ("subgraphs[0].operators[0].builtin_options", Table("AddOptions", pot_scale_int16=False)),
        ("subgraphs[0].operators[0].builtin_options", Table("ResizeBilinearOptions", new_height=7)),
        ("subgraphs[0].operators[0].builtin_options", Table("RandomOptions", seed=-(2**63), seed2=2**63 - 1)),
        ("signature_defs[0].deprecated_tag", "serve"),
        ("buffers[0]", Table("Buffer", data=b"")),
    ],
)
def test_values_come_back(path: str, value: Any) -> None:
    model = Model(changed(sample().root, path, value))
    assert read(write(model)) == model
    assert read(write(model)) != sample()


def test_large_constants_lie_behind_the_flatbuffer() -> None:
    model = sample()
    inline, outside = write(model), write(model, inline_limit_bytes=25)
    assert write(model, inline_limit_bytes=26 + 7) != outside or len(inline) != len(outside)
    again = read(outside)
    assert again == model
    assert all(b.offset == b.size == 0 for b in again.buffers)
    assert again.subgraphs[0].operators[2].large_custom_options_offset == 0
    ends = [bytes([1, 2, 3]), *(bytes(b.data) for b in model.buffers[1:])]
    tail = b"".join(end + bytes(-len(end) % 16) for end in ends)
    assert outside.endswith(tail)
    assert (len(outside) - len(tail)) % 16 == 0


def test_one_table_in_two_places_is_two_in_the_file() -> None:
    same = Table("Buffer", data=b"abc")
    twice = Model(changed(sample().root, "buffers", [Table("Buffer"), *sample().buffers[1:], same, same]))
    for limit in (0, 2**20):
        written = write(twice, inline_limit_bytes=limit)
        assert read(written) == twice
        assert write(read(written), inline_limit_bytes=limit) == written


def test_a_tensor_with_an_offset_of_one_has_no_data() -> None:
    """Some writers leave the placeholder 1 in buffers that turned out to have no bytes."""
    with_offset = Table("Buffer", offset=1, size=1)
    model = read(write(Model(changed(sample().root, "buffers[0]", with_offset))))
    assert model == sample()


def test_write_file_replaces_the_file_it_was_read_from(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    for limit in (2**20, 0, 2**20):
        write_file(sample(), path, inline_limit_bytes=limit)
        assert path.read_bytes() == write(sample(), inline_limit_bytes=limit)
        model = read(path)
        write_file(model, path)
        assert model == read(path) == sample()
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.tflite"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(b"old")

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_file(sample(), path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.tflite"]


def test_identifier_and_root_are_where_tools_look_for_them() -> None:
    data = write(sample())
    assert data[4:8] == b"TFL3"
    assert struct.unpack_from("<I", data)[0] < len(data)
