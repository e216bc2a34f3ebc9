"""Constants that lie in other files beside the model's: ``Tensor.external_buffer``.

Imports Model. Source: schema.fbs of TFLite, tables ExternalBuffer and ExternalBufferGroup.
"""

from __future__ import annotations

import mmap

import numpy as np

from delegraph.core.errors import InvalidModel
from delegraph.core.model.model import Model
from delegraph.core.model.table import Table


def external_data(model: Model, tensor: Table) -> np.ndarray | None:
    """The bytes of a tensor whose constant lies in another file, or None if it has no external buffer.

    Returns: read-only uint8, a view on the mapped file, as the file has them: ``ExternalBuffer.packing`` says
    how they are packed, and is the caller's to understand.

    Only files within the model's directory are opened, links followed.

    Raises:
        InvalidModel: no such external buffer, a file outside the model's directory, or bytes beyond its end.
        OSError: the file can't be opened.
    """
    if not tensor.external_buffer:
        return None
    buffers = model.root.external_buffers or ()
    groups = model.root.external_buffer_groups or ()
    index = next((i for i, buffer in enumerate(buffers) if buffer.id == tensor.external_buffer), None)
    if index is None:
        raise InvalidModel("external_buffers", f"id {tensor.external_buffer}", "none", model.source)
    buffer, place = buffers[index], f"external_buffers[{index}]"
    if buffer.group >= len(groups):
        expected = f"a group index in [0, {len(groups)})"
        raise InvalidModel(f"{place}.group", expected, str(buffer.group), model.source)

    name = groups[buffer.group].name or ""
    if model.directory is None:
        raise InvalidModel(place, "a model read from a file, beside which others lie", "bytes", model.source)
    directory = model.directory.resolve()
    try:
        path = (directory / name).resolve()
        allowed = path.is_relative_to(directory) and path != directory
    except (ValueError, RuntimeError):  # a NUL in the name, a loop of links
        allowed = False
    if not allowed:
        where = f"external_buffer_groups[{buffer.group}].name"
        raise InvalidModel(where, "a file within the model's directory", repr(name), model.source)

    with open(path, "rb") as file:
        size = path.stat().st_size
        end = buffer.offset + buffer.length
        if end > size:
            found = f"bytes {buffer.offset} to {end}"
            raise InvalidModel(place, f"bytes within the {size} of {name!r}", found, model.source)
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    return np.ndarray((buffer.length,), np.uint8, content, buffer.offset)
