"""Every field of every table of every shared model, against LiteRT's own generated reader (pure Python)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.model.samples import model_files, sample
from tests.support import require

from delegraph.core.errors import InvalidModel
from delegraph.core.model import Table, read
from delegraph.core.model.schema_table import TABLES
from delegraph.core.model.writer import write

# Fields that the generated reader leaves out, because they are marked deprecated.
DEPRECATED = {"new_height", "new_width", "deprecated_tag"}


@pytest.mark.parametrize("path", model_files(), ids=lambda path: path.name)
def test_fields_are_litert_s(path: Path) -> None:
    require("shared")
    require("litert")
    try:
        model = read(path)
    except InvalidModel:
        return  # test_reader says which
    compare(model.root, _unpacked(path.read_bytes()), "model")
    compare(model.root, _unpacked(write(model)), "written")


def test_fields_of_the_sample_are_litert_s() -> None:
    require("litert")
    compare(sample().root, _unpacked(write(sample())), "sample")


def _unpacked(data: bytes) -> Any:
    from ai_edge_litert import schema_py_generated as litert

    model = litert.ModelT.InitFromPackedBuf(data, 0)
    for buffer in model.buffers or ():
        if buffer.offset > 1:  # what our reader does too: bytes behind the FlatBuffer become the buffer's own
            buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def compare(ours: Table, theirs: Any, place: str) -> None:
    """Raises AssertionError unless all fields are the same."""
    assert type(theirs).__name__ == f"{ours.type_name}T", place
    for name, value in ours:
        if name in DEPRECATED:
            continue
        their_name = re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name)
        _compare_value(value, getattr(theirs, their_name), f"{place}.{name}")
    assert len(vars(theirs)) == sum(
        1 + (field.kind == "union") for name, field in TABLES[ours.type_name].items() if name not in DEPRECATED
    ), place


def _compare_value(ours: Any, theirs: Any, place: str) -> None:
    if isinstance(ours, Table):
        compare(ours, theirs, place)
    elif isinstance(ours, tuple):
        assert len(ours) == len(theirs), place
        for i, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            compare(mine, other, f"{place}[{i}]")
    elif isinstance(ours, np.ndarray):
        # The generated reader gives 0 for an empty vector.
        theirs = np.asarray([] if isinstance(theirs, int) else theirs, ours.dtype)
        assert ours.tobytes() == theirs.tobytes(), place
    elif isinstance(ours, str):
        assert ours.encode("utf-8", "surrogateescape") == theirs, place
    elif ours is None:
        assert theirs is None, place
    else:
        assert ours == theirs or ours != ours, place
