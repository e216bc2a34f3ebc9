"""The ABI's values as JSON and back, each field checked on the way in. Imports core.abi, wire.

Segments and views travel as ``.tflite`` with their large constants in shared memory; the other end builds the same
segment with numbers of its own (``segment_model``), and keeps index and place of each op for messages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np

from delegraph.core.abi.native.isolation.wire import BadMessage
from delegraph.core.abi.native.segment_model import SegmentModel
from delegraph.core.abi.values import (
    DelegateError,
    DeviceInfo,
    ErrorCode,
    Estimate,
    GraphView,
    Limits,
    Link,
    Options,
    Segment,
    Support,
    Verdict,
)
from delegraph.core.errors import InvalidArgument
from delegraph.core.graph.build import build
from delegraph.core.graph.graph import Array, Graph
from delegraph.core.model.reader import read
from delegraph.core.model.table import Table
from delegraph.core.ops import registry
from delegraph.core.ops.nodes import node_of, spec_of
from delegraph.core.ops.opdef import Node

_ALIGNMENT = 64


def field(header: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    """A field of a message. Raises BadMessage unless it is there and of that type (a bool is no int)."""
    value = header.get(name)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        raise BadMessage(f"expected {name} as {kind}, found {value!r:.100}")
    return value


def plain_options(options: Options) -> dict[str, Any]:
    """Options that can travel. Raises InvalidArgument for a value that JSON has no form for."""
    for name, value in options.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            expected = "plain values (numbers, texts, lists and maps of them)"
            raise InvalidArgument(f"option {name!r}", expected, repr(value)) from None
    return dict(options)


# ---- small values ----


def info_to_json(info: DeviceInfo) -> dict[str, Any]:
    return {**asdict(info), "fingerprint": dict(info.fingerprint)}


def info_of_json(raw: Any) -> DeviceInfo:
    raw = _object(raw)
    found: dict[str, Any] = {}
    for part in fields(DeviceInfo):
        match part.name:
            case "dtypes" | "features":
                found[part.name] = _texts(field(raw, part.name, list))
            case "fingerprint":
                pairs = field(raw, part.name, dict)
                found[part.name] = dict(zip(_texts(list(pairs)), _texts(list(pairs.values())), strict=True))
            case "to_device" | "from_device":
                link = field(raw, part.name, dict)
                found[part.name] = Link(field(link, "latency_ns", int), field(link, "bytes_per_s", int))
            case "limits":
                found[part.name] = _limits(field(raw, part.name, dict))
            case "launch_ns":
                found[part.name] = field(raw, part.name, int)
            case "available" | "is_virtual" | "may_hang" | "load_may_jit":
                found[part.name] = field(raw, part.name, bool)
            case _:
                found[part.name] = field(raw, part.name, str)
    return DeviceInfo(**found)


def _limits(raw: dict[str, Any]) -> Limits:
    numbers = {
        name: None if raw.get(name) is None else field(raw, name, int)
        for name in ("max_segments", "weight_budget_bytes")
    }
    return Limits(prefix_only=field(raw, "prefix_only", bool), min_ops=field(raw, "min_ops", int), **numbers)


def support_to_json(support: Support) -> dict[str, Any]:
    return {**asdict(support), "verdict": support.verdict.value}


def support_of_json(raw: Any) -> Support:
    raw = _object(raw)
    try:
        verdict = Verdict(raw.get("verdict"))
    except ValueError:
        raise BadMessage(f"expected a verdict, found {raw.get('verdict')!r:.100}") from None
    words = ("constraint", "reason", "advice", "value", "limit")
    return Support(verdict, *(field(raw, word, str) for word in words))


def estimate_to_json(estimate: Estimate | None) -> list[int] | None:
    return None if estimate is None else [int(estimate.time_ns), int(estimate.energy_nj)]


def estimate_of_json(raw: Any) -> Estimate | None:
    if raw is None:
        return None
    if not isinstance(raw, list) or len(raw) != 2 or not all(type(n) is int and n >= 0 for n in raw):
        raise BadMessage(f"expected an estimate, found {raw!r:.100}")
    return Estimate(*raw)


def error_of_json(raw: Any, device: str) -> DelegateError:
    raw = _object(raw)
    try:
        code = ErrorCode(raw.get("code"))
    except ValueError:
        raise BadMessage(f"expected an error code, found {raw.get('code')!r:.100}") from None
    return DelegateError(device, code, field(raw, "message", str)[:10000])


def _object(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise BadMessage(f"expected an object, found {raw!r:.100}")
    return raw


def _texts(values: Sequence[Any]) -> tuple[str, ...]:
    if not all(isinstance(value, str) for value in values):
        raise BadMessage(f"expected texts, found {values!r:.100}")
    return tuple(values)


# ---- segments ----


def segment_to_json(model: SegmentModel) -> tuple[dict[str, Any], int]:
    """The header of a segment, and the bytes of shared memory that ``fill`` writes its large constants to."""
    places, end = [], 0
    for tensor, data in model.external.items():
        places.append([tensor, end, data.size])
        end += -(-data.size // _ALIGNMENT) * _ALIGNMENT
    header = {
        "constants": places,
        "constants_bytes": end,
        "ops": [[node.op.index, node.op.place] for node in model.nodes],
        "inputs": list(model.inputs),
        "outputs": list(model.outputs),
        "variables": list(model.variables),
    }
    return header, end


def fill(header: Mapping[str, Any], model: SegmentModel, memory: Array) -> None:
    """Copies the large constants to where the header says."""
    for tensor, start, size in header["constants"]:
        np.copyto(memory[start : start + size], model.external[tensor])


def segment_of_json(header: Mapping[str, Any], tflite: bytes, memory: Array | None) -> Segment:
    """The segment on the other end. memory: where its large constants are; stays mapped while it is in use."""
    graph = build(read(tflite)).main
    tensors = list(graph.tensors)
    for tensor, start, size in header["constants"]:
        assert memory is not None
        data = memory[start : start + size]
        data.flags.writeable = False
        tensors[tensor] = replace(tensors[tensor], data=data)
    ops = tuple(
        replace(op, index=index, place=place) for op, (index, place) in zip(graph.ops, header["ops"], strict=True)
    )
    graph = replace(graph, tensors=tuple(tensors), ops=ops)
    specs = {tensor.index: spec_of(tensor) for tensor in tensors}
    inputs, outputs, variables = (tuple(header[name]) for name in ("inputs", "outputs", "variables"))
    nodes = tuple(_node(graph, op) for op in ops)
    return Segment(graph, nodes, inputs, outputs, variables, {i: specs[i] for i in {*inputs, *outputs, *variables}})


def view_of(segment: Segment) -> GraphView:
    return GraphView(segment.graph, segment.nodes)


def _node(graph: Graph, op: Any) -> Node:
    opdef = registry.find(op.name)
    if opdef is not None:
        return node_of(graph, op, opdef, {})
    return Node(  # a custom op that is registered in the parent only
        op,
        tuple(None if i < 0 else spec_of(graph.tensors[i]) for i in op.inputs),
        tuple(spec_of(graph.tensors[i]) for i in op.outputs if i >= 0),
        op.options if op.options is not None else Table("AbsOptions"),
    )
