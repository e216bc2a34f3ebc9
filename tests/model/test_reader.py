"""The reader: what it gives for sound files, and the place it names for each kind of damage."""

from __future__ import annotations

import io
import mmap
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.model.samples import changed, model_files, per_channel, sample
from tests.support import require, shared_path

from delegraph.core.errors import InvalidModel
from delegraph.core.model import Model, Table, read
from delegraph.core.model.schema_table import TABLES
from delegraph.core.model.writer import write

# What LiteRT refuses too, with the place that we name.
BROKEN = {
    "0_subgraphs.bin": "subgraphs",
    "invalid_model.bin": "",
    "lstm_calibrated2.bin": "subgraphs[0].tensors[23].shape[0]",
    "lstm_quantized2.bin": "subgraphs[0].tensors[23].shape[0]",
    "test_model_broken.bin": "",
    "transpose.bin": "version",
}


def test_every_shared_model_reads_or_is_known_to_be_broken() -> None:
    require("shared")
    n_read = 0
    for path in model_files():
        if path.name not in BROKEN:
            assert read(path).subgraphs, path
            n_read += 1
            continue
        with pytest.raises(InvalidModel) as error:
            read(path)
        assert (error.value.place, error.value.source) == (BROKEN[path.name], str(path))
    assert n_read > 300


def test_a_file_is_mapped_and_constants_are_views(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(write(sample()))
    model = read(path)
    data = model.buffers[1].data
    assert not data.flags.writeable and not data.flags.owndata
    assert isinstance(data.base, mmap.mmap)
    path.unlink()  # the map outlives the name
    assert model == sample()
    assert (model.source, model.directory) == (str(path), tmp_path)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_read_without_a_copy(kind: Any) -> None:
    data = kind(write(sample()))
    model = read(data)
    assert model == sample() and model.source == "model" and model.directory is None
    array = model.buffers[1].data
    assert np.shares_memory(array, np.frombuffer(data, np.uint8)) and not array.flags.writeable


def test_files_that_cannot_be_opened_raise_as_open_does(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent.tflite")
    with pytest.raises(IsADirectoryError):
        read(tmp_path)


def test_an_empty_file_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "empty.tflite"
    path.touch()
    with pytest.raises(InvalidModel, match="expected file identifier TFL3 at byte 4, found b''"):
        read(path)


def test_a_pipe_can_be_read() -> None:
    receiver, sender = os.pipe()
    with io.FileIO(sender, "w") as file:
        file.write(write(sample()))
    assert read(f"/dev/fd/{receiver}") == sample()
    os.close(receiver)


# --- Damaged bytes. The walker knows FlatBuffers on its own, so that it can't share the reader's errors. ---


def place_of(data: bytes, path: str) -> tuple[int, int]:
    """Where the field at path lies in its table (or its element in the vector), and what it refers to."""
    at, target, type_name = 0, struct.unpack_from("<I", data)[0], "Model"
    for step in path.replace("[", ".[").split("."):
        if step.startswith("["):
            at = target + 4 + 4 * int(step[1:-1])
        else:
            field = TABLES[type_name][step]
            vtable = target - struct.unpack_from("<i", data, target)[0]
            at = target + struct.unpack_from("<H", data, vtable + 4 + 2 * field.slot)[0]
            type_name = field.type_name
            if type_name == "BuiltinOptions":
                type_name = "Conv2DOptions"
        target = at + struct.unpack_from("<I", data, at)[0] if at + 4 <= len(data) else at
    return at, target


def damaged(path: str, value: int, *, where: str = "field", code: str = "I") -> bytes:
    """The sample with a number overwritten: the field itself, or the start of what it refers to."""
    data = bytearray(write(sample()))
    at, target = place_of(bytes(data), path)
    if where == "vtable":
        target -= struct.unpack_from("<i", data, target)[0]
    struct.pack_into(f"<{code}", data, at if where == "field" else target, value)
    return bytes(data)


HUGE = 2**32 - 1
OPERATOR = "subgraphs[0].operators[1]"
OPTIONS = "subgraphs[0].operators[0].builtin_options"


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"", ""),
        (write(sample())[:7], ""),
        (b"\0\0\0\0TFL2" + bytes(64), ""),
        (b"\xff\xff\xff\xffTFL3" + bytes(64), ""),
        (damaged("subgraphs", HUGE), "subgraphs"),
        (damaged("subgraphs", 0), "subgraphs"),
        (damaged("subgraphs", HUGE, where="target"), "subgraphs"),
        (damaged("subgraphs[1]", HUGE), "subgraphs[1]"),
        (damaged("subgraphs[1]", 0), "subgraphs[1]"),
        (
            damaged("subgraphs[0].operators[1]", -(2**31), where="target", code="i"),
            "subgraphs[0].operators[1]",
        ),
        (
            damaged("subgraphs[0].operators[1]", 2**31 - 1, where="target", code="i"),
            "subgraphs[0].operators[1]",
        ),
        (
            damaged("subgraphs[0].operators[0].inputs", HUGE, where="target"),
            "subgraphs[0].operators[0].inputs",
        ),
        (
            damaged(OPTIONS, 1, where="vtable", code="H"),
            OPTIONS,
        ),
        (damaged("subgraphs[0].tensors[2].name", 10**6, where="target"), "subgraphs[0].tensors[2].name"),
        (damaged("subgraphs[0].tensors[2].name", 2, where="target"), "subgraphs[0].tensors[2].name"),
        (damaged("buffers[1].data", HUGE, where="target"), "buffers[1].data"),
        (damaged("buffers[1].data", HUGE - 4), "buffers[1].data"),
    ],
)
def test_damaged_bytes_are_refused_with_their_place(data: bytes, place: str) -> None:
    with pytest.raises(InvalidModel) as error:
        read(data)
    assert error.value.place == place
    assert str(error.value).startswith(f"model: {place}: expected " if place else "model: expected ")


def test_every_truncation_is_refused_or_reads() -> None:
    data = write(sample())
    for n in range(len(data)):
        with pytest.raises(InvalidModel):
            read(data[:n])


def test_a_truncated_file_is_said_to_end_early() -> None:
    data = write(sample())
    for n in range(8, len(data)):
        with pytest.raises(InvalidModel) as error:
            read(data[:n])
        assert error.value.found.endswith(": the file ends early, it may be truncated"), error.value
        assert "a tables" not in str(error.value)


def test_an_unknown_union_type_is_refused() -> None:
    data = bytearray(write(sample()))
    at, _ = place_of(bytes(data), "subgraphs[0].operators[0]")
    table = at + struct.unpack_from("<I", data, at)[0]
    vtable = table - struct.unpack_from("<i", data, table)[0]
    slot = TABLES["Operator"]["builtin_options"].slot - 1
    data[table + struct.unpack_from("<H", data, vtable + 4 + 2 * slot)[0]] = 127
    with pytest.raises(InvalidModel, match=r"operators\[0\].builtin_options: expected a union type in \[0, 126\]"):
        read(data)


def test_overlapping_tables_end_at_a_budget() -> None:
    """All n subgraphs are the same one, whose n tensors are one tensor: n * n tables in 8 n bytes."""
    n = 20_000
    data = bytearray(b"\0\0\0\0TFL3")

    def table(*fields: int) -> int:
        """A table of u32 fields (0: absent); one that refers to what is written next holds 4 if it is last."""
        slots = [4 + 4 * i if field else 0 for i, field in enumerate(fields)]
        vtable = struct.pack(f"<HH{len(slots)}H", 4 + 2 * len(slots), 4 + 4 * len(slots), *slots)
        vtable += bytes(-len(vtable) % 4)
        data.extend(vtable + struct.pack(f"<i{len(fields)}I", len(vtable), *fields))
        return len(data) - 4 - 4 * len(fields)

    def vector_to_what_follows() -> None:
        # Behind the offsets comes a vtable of 8 bytes, then the table.
        data.extend(struct.pack("<I", n) + b"".join(struct.pack("<I", 4 * (n - i) + 8) for i in range(n)))

    struct.pack_into("<I", data, 0, table(3, 0, 4))
    vector_to_what_follows()
    table(4)
    vector_to_what_follows()
    data += bytes(4)
    table()
    with pytest.raises(InvalidModel) as error:
        read(data)
    assert error.value.place.startswith("subgraphs[")
    assert error.value.expected.endswith("without overlapping")


# --- Sound bytes whose meaning is broken. ---

CSR = "subgraphs[0].tensors[5].sparsity"
QUANTIZED = "subgraphs[0].tensors[1].quantization"
NEGATIVE_CODE = Table("OperatorCode", deprecated_builtin_code=-1, builtin_code=-1)
DENSE_3 = Table("DimensionMetadata", dense_size=3)
SCALES_2 = Table("QuantizationParameters", scale=[1.0, 2.0], zero_point=[0, 0])


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        ("version", 2, "version"),
        ("subgraphs", (), "subgraphs"),
        ("operator_codes[0]", NEGATIVE_CODE, "operator_codes[0].builtin_code"),
        ("metadata[0].buffer", 5, "="),
        ("metadata_buffer", [0, 5], "metadata_buffer[1]"),
        ("subgraphs[0].inputs[1]", 7, "="),
        ("subgraphs[0].inputs[1]", -1, "="),
        ("subgraphs[0].outputs[0]", 7, "="),
        ("subgraphs[0].operators[0].opcode_index", 4, "="),
        ("subgraphs[0].operators[0].inputs[1]", 99, "="),
        ("subgraphs[0].operators[2].inputs[1]", -2, "="),
        ("subgraphs[0].operators[3].outputs[0]", -1, "="),
        ("subgraphs[0].operators[3].intermediates", [7], "subgraphs[0].operators[3].intermediates[0]"),
        ("subgraphs[0].operators[1].builtin_options.then_subgraph_index", 2, "="),
        ("subgraphs[0].operators[1].builtin_options.else_subgraph_index", -1, "="),
        ("subgraphs[0].tensors[3].type", 23, "="),
        ("subgraphs[0].tensors[3].shape[2]", -1, "="),
        ("subgraphs[0].tensors[3].shape", [1] * 65, "="),
        ("subgraphs[0].tensors[3].shape", [2**31 - 1] * 3, "="),
        ("subgraphs[0].tensors[3].buffer", 5, "="),
        ("subgraphs[0].tensors[3].buffer", 1, "="),
        ("subgraphs[0].tensors[3].external_buffer", 1, "="),
        ("subgraphs[0].tensors[2].shape[0]", 4, "subgraphs[0].tensors[2].buffer"),
        (f"{QUANTIZED}.zero_point", [0], "="),
        (f"{QUANTIZED}.quantized_dimension", 4, "="),
        (f"{QUANTIZED}.quantized_dimension", 1, f"{QUANTIZED}.scale"),
        ("subgraphs[0].tensors[3].quantization", SCALES_2, "subgraphs[0].tensors[3].quantization.scale"),
        (
            "subgraphs[0].tensors[0].quantization.details",
            Table("BlockwiseQuantization", scales=7),
            "subgraphs[0].tensors[0].quantization.details.scales",
        ),
        (
            "subgraphs[0].tensors[0].quantization.details",
            Table("MultiAxisQuantization", zero_points=-2),
            "subgraphs[0].tensors[0].quantization.details.zero_points",
        ),
        (f"{CSR}.traversal_order", [0, 0], "="),
        (f"{CSR}.dim_metadata", (), "="),
        (f"{CSR}.dim_metadata[0]", DENSE_3, f"{CSR}.dim_metadata[0].dense_size"),
        (f"{CSR}.dim_metadata[1].array_segments", None, "="),
        (
            f"{CSR}.dim_metadata[1].array_segments.values",
            [0, 2, 1],
            f"{CSR}.dim_metadata[1].array_segments",
        ),
        (
            f"{CSR}.dim_metadata[1].array_indices.values",
            [0, 2],
            f"{CSR}.dim_metadata[1].array_indices[1]",
        ),
        ("signature_defs[0].subgraph_index", 2, "="),
        ("signature_defs[0].inputs[0].tensor_index", 7, "="),
        ("signature_defs[0].outputs[0].tensor_index", 7, "="),
        ("external_buffers", [Table("ExternalBuffer", id=1)], "external_buffers[0].group"),
    ],
)  # fmt: skip
def test_broken_meaning_is_refused_with_its_place(path: str, value: Any, place: str) -> None:
    root = changed(sample().root, path, value)
    with pytest.raises(InvalidModel) as error:
        read(write(Model(root)))
    assert error.value.place == (path if place == "=" else place)


def test_two_external_buffers_of_one_id_are_refused() -> None:
    two = [Table("ExternalBuffer", id=1)] * 2
    root = sample().root.replace(external_buffer_groups=[Table("ExternalBufferGroup")], external_buffers=two)
    with pytest.raises(InvalidModel, match=r"external_buffers\[1\].id: expected an id of its own, found 1"):
        read(write(Model(root)))


def test_the_message_says_all() -> None:
    root = changed(sample().root, "subgraphs[0].operators[0].inputs[1]", 99)
    with pytest.raises(InvalidModel) as error:
        read(write(Model(root)))
    place = "subgraphs[0].operators[0].inputs[1]"
    assert str(error.value) == f"model: {place}: expected a tensor index in [-1, 7), found 99"


@pytest.mark.parametrize(
    ("shape", "type_name", "n_bytes"),
    [
        ([3], "INT4", 2), ([5], "INT2", 2), ([2, 2], "UINT4", 2), ([], "FLOAT64", 8),
        ([2], "COMPLEX128", 32), ([7], "BOOL", 7), ([3], "BFLOAT16", 6), ([3], "FLOAT8_E5M2", 3), ([0, 4], "INT32", 0),
        ([2], "STRING", 17), ([1], "RESOURCE", 5),
    ],
)  # fmt: skip
def test_sizes_of_constants(shape: list[int], type_name: str, n_bytes: int) -> None:
    from delegraph.core.model.schema_table import ENUMS

    root = sample().root
    constant = Table("Tensor", shape=shape, type=ENUMS["TensorType"][type_name], buffer=2)
    root = changed(root, "subgraphs[0].tensors[2]", constant)
    read(write(Model(changed(root, "buffers[2].data", bytes(n_bytes)))))
    if type_name not in ("STRING", "RESOURCE"):
        with pytest.raises(InvalidModel, match=r"tensors\[2\].buffer: expected \d+ bytes"):
            read(write(Model(changed(root, "buffers[2].data", bytes(n_bytes + 1)))))


def test_what_older_files_do_is_let_through() -> None:
    root = sample().root
    beyond_rank = per_channel(3).replace(quantized_dimension=3)
    read(write(Model(changed(root, "subgraphs[0].tensors[2].quantization", beyond_rank))))
    read(write(Model(Table("Model", version=3, subgraphs=[Table("SubGraph", tensors=[Table("Tensor")])]))))


def test_a_buffer_outside_the_file_is_refused() -> None:
    for field, value in (("offset", 2**40), ("size", 2**63)):
        data = write(sample(), inline_limit_bytes=0)
        at, _ = _scalar_place(data, "buffers[1]", "Buffer", field)
        broken = data[:at] + struct.pack("<Q", value) + data[at + 8 :]
        with pytest.raises(InvalidModel) as error:
            read(broken)
        assert error.value.place == "buffers[1].offset"


def _scalar_place(data: bytes, table: str, type_name: str, field: str) -> tuple[int, int]:
    _, target = place_of(data, table)
    vtable = target - struct.unpack_from("<i", data, target)[0]
    return target + struct.unpack_from("<H", data, vtable + 4 + 2 * TABLES[type_name][field].slot)[0], target


def test_reading_a_large_file_touches_little_of_it(tmp_path: Path) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc")
    n_bytes = 64 * 2**20
    root = changed(sample().root, "buffers[4].data", bytes(n_bytes))
    path = tmp_path / "large.tflite"
    path.write_bytes(write(Model(root)))
    del root

    command, environment = (
        [sys.executable, "-c", TOUCHED, str(path)],
        {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    touched_bytes, size = map(int, done.stdout.split())
    assert touched_bytes < n_bytes // 4 and size == n_bytes


TOUCHED = """
import mmap, sys
from pathlib import Path
from delegraph.core.model import read

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

before = resident_bytes()
model = read(Path(sys.argv[1]))
print(resident_bytes() - before, model.metadata["min_runtime_version"].size)
"""


def test_shared_path_holds_what_the_tests_say() -> None:
    require("shared")
    assert (shared_path() / "models" / "real" / "person_detect.tflite").is_file()
