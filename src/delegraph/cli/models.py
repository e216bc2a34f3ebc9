"""Models for commands: reading with a spinner, and what the metadata and label files inside say."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from delegraph.cli import labels as label_files
from delegraph.cli import metadata, render
from delegraph.cli.labels import Labels
from delegraph.cli.metadata import ModelMetadata, TensorMetadata
from delegraph.cli.tensors import Port

if TYPE_CHECKING:
    from delegraph.core.model.model import Model


def load_model(path: str) -> Model:
    """The model in a file.

    Raises:
        OSError: it can't be read.
        InvalidModel: it is none.
    """
    from delegraph.core.model.reader import read

    with render.status(f"reading {os.path.basename(path)}"):
        return read(path)


def metadata_of(model: Model) -> tuple[ModelMetadata, list[str]]:
    """The model's metadata (empty if it has none), and warnings about what was wrong with it."""
    data = model.metadata.get(metadata.NAME)
    if data is None or not len(data):
        return ModelMetadata(), []
    try:
        return metadata.parse(data.tobytes()), []
    except metadata.MalformedError as exc:
        return ModelMetadata(), [f"the model's {metadata.NAME} is damaged and was ignored ({exc})"]


def tensor_metadata(about: ModelMetadata, graph: int) -> tuple[Sequence[TensorMetadata], Sequence[TensorMetadata]]:
    """(inputs, outputs) of a graph, in the order of its own lists; empty if nothing is said."""

    def of(found: Sequence[Sequence[TensorMetadata]]) -> Sequence[TensorMetadata]:
        return found[graph] if graph < len(found) else ()

    return of(about.inputs), of(about.outputs)


def labels_for(path: str, ports: Sequence[Port], given: Labels | None) -> tuple[list[Labels | None], list[str]]:
    """Labels of each output (the user's for all of them, or the model's own), and warnings."""
    if given is not None:
        return [given] * len(ports), []
    found: list[Labels | None] = []
    warnings: list[str] = []
    for port in ports:
        try:
            found.append(label_files.embedded_labels(path, port.metadata.label_files))
        except ValueError as exc:
            found.append(None)
            warnings.append(f"labels ignored: {exc}")
    return found, warnings
