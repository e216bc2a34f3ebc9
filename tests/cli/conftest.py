"""Calls of the command line in this process, and tiny models whose output is what an input was given."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from delegraph.cli import main
from delegraph.core.graph.dtype import DType
from delegraph.core.model.model import Model
from delegraph.core.model.table import Table
from delegraph.core.model.writer import write


@dataclass(frozen=True)
class Result:
    """What a call left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Result]


@pytest.fixture
def delegraph(capsys: pytest.CaptureFixture[str]) -> Call:
    """``delegraph("run", path, ...)`` in this process."""

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(int(code), captured.out, captured.err)

    return call


@dataclass(frozen=True)
class Given:
    """A tensor of a test model; scale 0 for none."""

    dtype: DType
    shape: tuple[int, ...]
    scale: float = 0
    zero_point: int = 0
    name: str = "x"


MakeModel = Callable[..., Path]


@pytest.fixture
def passing(tmp_path: Path) -> MakeModel:
    """Writes a model without ops, whose outputs are its inputs: the output shows what preprocessing made."""

    def make(*tensors: Given, metadata: bytes = b"", behind: bytes = b"", name: str = "model.tflite") -> Path:
        path = tmp_path / name
        path.write_bytes(write(passing_model(tensors, metadata)) + behind)
        return path

    return make


def passing_model(tensors: Sequence[Given], metadata: bytes = b"") -> Model:
    buffers = [Table("Buffer")]
    fields: dict[str, Any] = {}
    if metadata:
        buffers.append(Table("Buffer", data=metadata))
        fields["metadata"] = [Table("Metadata", name="TFLITE_METADATA", buffer=1)]
    indices = list(range(len(tensors)))
    graph = Table("SubGraph", tensors=[_tensor(t) for t in tensors], inputs=indices, outputs=indices)
    return Model(Table("Model", version=3, subgraphs=[graph], buffers=buffers, **fields))


def _tensor(given: Given) -> Table:
    fields: dict[str, Any] = {}
    if given.scale:
        fields["quantization"] = Table("QuantizationParameters", scale=[given.scale], zero_point=[given.zero_point])
    if -1 in given.shape:
        fields["shape_signature"] = list(given.shape)
    shape = [abs(n) for n in given.shape]
    return Table("Tensor", name=given.name, type=given.dtype.value, shape=shape, **fields)
