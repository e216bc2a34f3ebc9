"""Values of core as structs of the C ABI: what a call lends to a plug-in. Imports structs, segment_model.

A ctypes struct holds no reference on what it points to. Each ``Lent`` keeps everything that hangs on it; whoever makes
a call holds it until the call has ended, and the constants of a segment until its program is released.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Mapping, Sequence
from ctypes import POINTER, c_char_p, c_float, c_int32, c_int64, c_uint8, pointer
from typing import Any

import numpy as np

from delegraph.core.abi import host
from delegraph.core.abi.native import structs
from delegraph.core.abi.native.segment_model import SegmentModel, SegmentTensor
from delegraph.core.abi.protocols import Packs
from delegraph.core.abi.values import Artifact, Options
from delegraph.core.errors import InvalidArgument
from delegraph.core.graph.graph import Array
from delegraph.core.model.schema_table import ENUMS
from delegraph.core.model.table import Table
from delegraph.core.ops.opdef import Node

_CODES = ENUMS["BuiltinOperator"]
ALIGNMENT = 16
"""Of constants and payloads, in bytes."""

_BOOL, _INT, _FLOAT, _TEXT, _INTS = 1, 2, 3, 4, 5


class Lent:
    """Structs and what they point to, kept alive together."""

    def __init__(self) -> None:
        self._held: list[Any] = []

    def keep(self, value: Any) -> Any:
        self._held.append(value)
        return value

    def text(self, value: str) -> bytes:
        data: bytes = self.keep(value.replace("\0", "\\0").encode("utf-8", "replace"))
        return data

    def texts(self, values: Sequence[str]) -> Any:
        return self.keep((c_char_p * len(values))(*(self.text(value) for value in values)))

    def numbers(self, kind: Any, values: Any) -> Any:
        array: Array = self.keep(np.ascontiguousarray(values, np.dtype(kind)))
        return ctypes.cast(array.ctypes.data, POINTER(kind))

    def table(self, kind: Any, items: Sequence[Any]) -> Any:
        """An array of pointers to these structs."""
        self._held += items
        return self.keep((POINTER(kind) * max(1, len(items)))(*map(pointer, items)))

    def options(self, values: Mapping[str, Any]) -> list[structs.Option]:
        return [self.option(name, value) for name, value in values.items()]

    def option(self, name: str, value: Any) -> structs.Option:
        """Raises InvalidArgument for a value that C has no type for."""
        if isinstance(value, np.generic):
            value = value.item()
        named = {"name": self.text(name)}
        match value:
            case bool():
                return structs.Option(**named, type=_BOOL, int_value=int(value))
            case int() if -(2**63) <= value < 2**63:
                return structs.Option(**named, type=_INT, int_value=value)
            case float():
                return structs.Option(**named, type=_FLOAT, float_value=value)
            case str():
                return structs.Option(**named, type=_TEXT, text=self.text(value))
            case list() | tuple() | np.ndarray() if _are_whole(value):
                return structs.Option(**named, type=_INTS, ints=self.numbers(c_int64, value), n_ints=len(value))
        raise InvalidArgument(f"option {name!r}", "a bool, int, float, str or whole numbers, of 64 bits", repr(value))


class LentOptions(Lent):
    """A user's options. array, count: as the functions take them."""

    def __init__(self, values: Options) -> None:
        super().__init__()
        found = self.options(values)
        self.array = self.table(structs.Option, found)
        self.count = len(found)


class LentConstants(Lent):
    """The constants of a segment. Outlives the segment where a program holds it. packs: asked for their digests."""

    def __init__(self, model: SegmentModel, packs: Packs | None = None) -> None:
        super().__init__()
        self.by_tensor: dict[int, structs.Constant] = {}
        for i, tensor in enumerate(model.tensors):
            if tensor.data is None:
                continue
            digest = None if packs is None else self.keep(_digest(tensor, packs))
            self.by_tensor[i] = structs.Constant(
                tensor=i,
                data=self.keep(_aligned(tensor.data)).ctypes.data,
                size_bytes=tensor.data.nbytes,
                digest=digest,
                is_external=int(tensor.is_external),
            )
        self.array = self.table(structs.Constant, list(self.by_tensor.values()))


class LentGraph(Lent):
    """Nodes and tensors of a segment or a view."""

    def __init__(self, model: SegmentModel, constants: LentConstants) -> None:
        super().__init__()
        self.keep(constants)
        tensors = [self._tensor(t, constants.by_tensor.get(i)) for i, t in enumerate(model.tensors)]
        nodes = [self._node(node, model.number) for node in model.nodes]
        self.struct = structs.Graph(
            tensors=self.table(structs.Tensor, tensors),
            n_tensors=len(tensors),
            nodes=self.table(structs.Node, nodes),
            n_nodes=len(nodes),
        )

    def _tensor(self, tensor: SegmentTensor, constant: structs.Constant | None) -> structs.Tensor:
        spec, quantization = tensor.spec, tensor.spec.quantization
        fields: dict[str, Any] = {}
        if quantization is not None:
            fields = {
                "scales": self.numbers(c_float, quantization.scales),
                "zero_points": self.numbers(c_int64, quantization.zero_points),
                "n_scales": len(quantization.scales),
                "axis": quantization.axis,
                "block_size": quantization.block_size,
            }
        if constant is not None:
            fields["constant"] = pointer(constant)
        return structs.Tensor(
            dtype=spec.dtype.value,
            name=self.text(tensor.name),
            shape=self.numbers(c_int64, spec.shape),
            rank=len(spec.shape),
            size_bytes=spec.size_bytes,
            is_variable=int(spec.is_variable),
            is_sparse=int(spec.sparsity is not None and constant is not None),
            **fields,
        )

    def _node(self, node: Node, number: Mapping[int, int]) -> structs.Node:
        op, fields = node.op, {}
        if op.custom_options:
            fields["custom_options"] = self.numbers(c_uint8, np.frombuffer(op.custom_options, np.uint8))
            fields["n_custom_options"] = len(op.custom_options)
        options = self.options(_plain_options(node.options))
        return structs.Node(
            op=_CODES["CUSTOM"] if op.is_custom else _CODES[op.name],
            name=self.text(op.name),
            version=op.version,
            index=op.index,
            inputs=self.numbers(c_int32, [number[i] for i in op.inputs]),
            n_inputs=len(op.inputs),
            outputs=self.numbers(c_int32, [number[i] for i in op.outputs]),
            n_outputs=len(op.outputs),
            options=self.table(structs.Option, options),
            n_options=len(options),
            **fields,
        )


class LentSegment(Lent):
    """A segment, with its .tflite."""

    def __init__(self, model: SegmentModel, constants: LentConstants) -> None:
        super().__init__()
        graph = self.keep(LentGraph(model, constants))
        data = model.to_bytes()
        outputs = model.outputs + model.variables
        self.struct = structs.Segment(
            graph=pointer(graph.struct),
            inputs=self.numbers(c_int32, model.inputs),
            n_inputs=len(model.inputs),
            outputs=self.numbers(c_int32, outputs),
            n_outputs=len(outputs),
            n_variables=len(model.variables),
            tflite=ctypes.cast(self.keep(ctypes.create_string_buffer(data, len(data))), POINTER(c_uint8)),
            tflite_size_bytes=len(data),
            constants=constants.array,
            n_constants=len(constants.by_tensor),
        )


class LentArtifact(Lent):
    """An artifact for load; its payload stays where it is."""

    def __init__(self, artifact: Artifact) -> None:
        super().__init__()
        payload: Array = self.keep(_aligned(np.frombuffer(artifact.payload, np.uint8)))
        self.struct = structs.Artifact(
            format=self.text(artifact.format),
            payload=payload.ctypes.data if payload.size else None,
            size_bytes=payload.size,
            packs=self.texts(artifact.packs),
            n_packs=len(artifact.packs),
        )


class LentBuffers(Lent):
    """Arrays as dg_buffers."""

    def __init__(self, memories: Sequence[Array]) -> None:
        super().__init__()
        self.structs = [structs.Buffer(data=self.keep(m).ctypes.data, size_bytes=m.nbytes) for m in memories]
        self.array = self.table(structs.Buffer, self.structs)
        self.count = len(self.structs)


def _are_whole(values: Any) -> bool:
    return all(isinstance(v, int | np.integer) and -(2**63) <= v < 2**63 for v in values)


def _aligned(data: Array) -> Array:
    """The bytes where C may read any element type: as they are, or (rare in files) moved."""
    if data.ctypes.data % ALIGNMENT == 0:
        return data
    moved = host.allocate(data.size, ALIGNMENT).memory
    np.copyto(moved, data)
    return moved


def _digest(tensor: SegmentTensor, packs: Packs) -> bytes:
    if tensor.spec.value is not None and tensor.spec.dtype.is_plain:
        return bytes.fromhex(packs.digest(tensor.spec.value))
    assert tensor.data is not None
    return hashlib.sha256(tensor.data.data).digest()


def _plain_options(options: Table) -> dict[str, Any]:
    """The fields of an options table that C has a type for."""
    return {
        name: value
        for name, value in options
        if isinstance(value, bool | int | float | str)
        or (isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.ndim == 1)
    }
