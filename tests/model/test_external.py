"""Constants in other files, and control dependencies in metadata."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.model.samples import changed, sample

from delegraph.core.errors import InvalidModel
from delegraph.core.model import Model, Table, control_dependencies, external_data, read
from delegraph.core.model.writer import write_file

TENSOR = "subgraphs[0].tensors[3]"


def external(directory: Path, name: str, offset: int = 2, length: int = 4) -> tuple[Model, Table]:
    """A model in directory whose tensor 3 lies in another file, and that tensor."""
    root = sample().root.replace(
        external_buffer_groups=[Table("ExternalBufferGroup", name=name)],
        external_buffers=[Table("ExternalBuffer", id=5, offset=offset, length=length, packing="plain")],
    )
    path = directory / "m.tflite"
    write_file(Model(changed(root, f"{TENSOR}.external_buffer", 5)), path)
    model = read(path)
    return model, model.subgraphs[0].tensors[3]


def test_bytes_come_from_the_other_file(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.bin").write_bytes(bytes(range(8)))
    model, tensor = external(tmp_path, "weights/w.bin")
    data = external_data(model, tensor)
    assert data is not None and data.tolist() == [2, 3, 4, 5] and not data.flags.writeable
    assert external_data(model, model.subgraphs[0].tensors[0]) is None


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "link", "", ".", "a\0b", "sub/../../secret"])
def test_no_file_outside_the_directory_is_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(8))
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "link").symlink_to(tmp_path / "secret")
    model, tensor = external(directory, name)
    with pytest.raises(InvalidModel, match="a file within the model's directory"):
        external_data(model, tensor)


def test_bytes_beyond_the_end_and_absent_files_are_refused(tmp_path: Path) -> None:
    model, tensor = external(tmp_path, "w.bin", offset=6)
    with pytest.raises(FileNotFoundError):
        external_data(model, tensor)
    (tmp_path / "w.bin").write_bytes(bytes(8))
    with pytest.raises(InvalidModel, match=r"external_buffers\[0\]: expected bytes within the 8 of 'w.bin'"):
        external_data(model, tensor)


def test_a_model_from_bytes_has_no_files_beside_it(tmp_path: Path) -> None:
    model, tensor = external(tmp_path, "w.bin")
    with pytest.raises(InvalidModel, match="a model read from a file"):
        external_data(Model(model.root), tensor)


# --- Control dependencies ---


def with_dependencies(content: bytes) -> Model:
    root = sample().root
    root = root.replace(
        metadata=[
            *root.metadata,
            Table("Metadata", name="model_control_dependencies", buffer=len(root.buffers)),
        ],
        buffers=[*root.buffers, Table("Buffer", data=content)],
    )
    return Model(root)


def test_control_dependencies_are_pairs_for_each_subgraph() -> None:
    # Version 1, 2 subgraphs; 2 edges: 0 -> 1 and 1 -> 3, zigzag-coded; no edges.
    model = with_dependencies(bytes([1, 2, 2, 0, 2, 2, 6, 0]))
    assert control_dependencies(model) == (((0, 1), (1, 3)), ())
    assert control_dependencies(sample()) == ((), ())


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "end"),
        (bytes([2, 2, 0, 0]), "version"),
        (bytes([1, 3, 0, 0, 0]), "subgraphs"),
        (bytes([1, 2, 1, 0]), "end"),
        (bytes([1, 2, 1, 0, 8, 0]), "operators"),
        (bytes([1, 2, 1, 1, 0, 0]), "operators"),
        (bytes([1, 2, 0, 0, 0]), "end"),
        (bytes([0x80] * 6), "number"),
        (bytes([1, 2, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]), "end"),
    ],
)
def test_broken_control_dependencies_are_refused(content: bytes, what: str) -> None:
    with pytest.raises(InvalidModel) as error:
        control_dependencies(with_dependencies(content))
    assert error.value.place == f"metadata['model_control_dependencies'].{what}"


def test_metadata_is_read_only_bytes_by_name() -> None:
    metadata = with_dependencies(b"\1\2\0\0").metadata
    assert list(metadata) == ["min_runtime_version", "model_control_dependencies"]
    assert metadata["min_runtime_version"].tobytes() == b"1.14.0\0"
    assert metadata["min_runtime_version"].dtype == np.uint8
