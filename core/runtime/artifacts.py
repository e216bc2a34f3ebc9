"""Artifacts through the store: what one process compiled, the next one loads. Imports core.abi, core.runtime.

An artifact's key names everything that it depends on: the segment (ops, options, types, shapes, quantization, and the
digests of its constants), the delegate with its version, the device's fingerprint, the options, the ABI.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from delegraph.core.abi.protocols import Packs
from delegraph.core.abi.values import ABI_VERSION, Artifact, DeviceInfo, Options, Segment
from delegraph.core.graph.graph import Quantization
from delegraph.core.model.table import Table
from delegraph.core.ops.nodes import spec_of
from delegraph.core.ops.opdef import TensorSpec
from delegraph.core.runtime.key import Key

if TYPE_CHECKING:
    from delegraph.core.runtime.store import Store

_ALIGNMENT = 64


def artifact_key(
    segment: Segment, delegate: str, version: str, device: DeviceInfo, options: Options, packs: Packs
) -> Key:
    """The key of a segment's artifact on a device."""
    return Key(
        "artifact",
        {
            "segment": segment_digest(segment, packs),
            "delegate": delegate,
            "version": version,
            "device": device.id,
            "driver": device.driver,
            "fingerprint": json.dumps(dict(device.fingerprint), sort_keys=True, default=repr),
            "options": json.dumps(dict(options), sort_keys=True, default=repr),
            "abi": f"{ABI_VERSION[0]}.{ABI_VERSION[1]}",
        },
    )


def load_artifact(store: Store, key: Key) -> Artifact | None:
    """The artifact of that key, its payload mapped; None when there is none that can be read."""
    entry = store.get(key)
    if entry is None:
        return None
    data = memoryview(entry.payload.data)
    head_size = int.from_bytes(data[:4], "little")
    try:
        head = json.loads(bytes(data[4 : 4 + head_size]))
        start = -(-(4 + head_size) // _ALIGNMENT) * _ALIGNMENT
        return Artifact(str(head["format"]), data[start:], tuple(map(str, head["packs"])))
    except (ValueError, KeyError, TypeError):
        store.remove(key)
        return None


def save_artifact(store: Store, key: Key, artifact: Artifact) -> None:
    """Keeps an artifact: ``u32 size, JSON {format, packs}``, padded to 64 bytes, then the payload."""
    head = json.dumps({"format": artifact.format, "packs": list(artifact.packs)}).encode()
    prefix = len(head).to_bytes(4, "little") + head
    padding = bytes(-len(prefix) % _ALIGNMENT)
    store.put(key, prefix + padding, artifact.payload)


def segment_digest(segment: Segment, packs: Packs) -> str:
    """SHA-256 over everything that a segment's code may depend on, as hex: all that ``core.abi.native.segment_model``
    hands on but names. Tensors are numbered in order of their first use, so that equal segments of different models
    have equal digests."""
    hasher = hashlib.sha256()
    number: dict[int, int] = {-1: -1}

    def note(*parts: object) -> None:
        for part in parts:
            data = part if isinstance(part, bytes) else repr(part).encode()
            hasher.update(len(data).to_bytes(8, "little") + data)

    def tensor(index: int, spec: TensorSpec | None) -> None:
        known = index in number
        note("tensor", number.setdefault(index, len(number)))
        if known or spec is None:
            return
        note(*_spec_parts(spec, packs))
        if spec.quantization is not None and spec.quantization.block_scales >= 0:
            of_the_graph(spec.quantization.block_scales)

    def of_the_graph(index: int) -> None:
        tensor(index, None if index < 0 or index in number else spec_of(segment.graph.tensors[index]))

    for node in segment.nodes:
        note("op", node.op.name, node.op.version, node.op.is_custom, node.op.custom_options)
        note(node.op.options is None, *_table_parts(node.options))
        for index, spec in zip(node.op.inputs, node.inputs, strict=True):
            tensor(index, spec)
        for index, spec in zip([i for i in node.op.outputs if i >= 0], node.outputs, strict=True):
            tensor(index, spec)
        note("intermediates", len(node.op.intermediates))
        for index in node.op.intermediates:
            of_the_graph(index)
    for name, tensors in (
        ("inputs", segment.inputs),
        ("outputs", segment.outputs),
        ("variables", segment.variables),
    ):
        note(name, len(tensors))
        for index in tensors:
            tensor(index, segment.specs.get(index))
    return hasher.hexdigest()


def _spec_parts(spec: TensorSpec, packs: Packs) -> Iterable[object]:
    yield spec.dtype.name
    yield spec.shape
    yield spec.is_variable
    yield from _quantization_parts(spec.quantization)
    if spec.sparsity is not None:
        yield from _table_parts(spec.sparsity)
    yield "constant" if spec.value is not None else "computed"
    if spec.value is not None:
        yield packs.digest(spec.value)


def _quantization_parts(quantization: Quantization | None) -> Iterable[object]:
    if quantization is None:
        yield "not quantized"
        return
    yield np.asarray(quantization.scales, np.float32).tobytes()
    yield np.asarray(quantization.zero_points, np.int64).tobytes()
    yield (quantization.axis, quantization.block_size, quantization.block_scales >= 0)


def _table_parts(table: Table) -> Iterable[object]:
    yield table.type_name
    for name, value in table:
        yield name
        if isinstance(value, Table):
            yield from _table_parts(value)
        elif isinstance(value, np.ndarray):
            yield value.dtype.str
            yield value.tobytes()
        elif isinstance(value, tuple):
            yield len(value)
            for item in value:
                yield from _table_parts(item) if isinstance(item, Table) else (item,)
        else:
            yield value
