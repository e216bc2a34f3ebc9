"""The graph as the rest of delegraph sees it: typed, immutable, in execution order. Imports core.model.

Tensor and op numbers are those of the file throughout: a preparation pass may drop ops and turn tensors into
constants, but never renumbers, so TFLite's indices and explanations stay true.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from delegraph.core.graph.constants import decode
from delegraph.core.graph.dtype import DType
from delegraph.core.model.table import Table

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Quantization:
    """How integers stand for reals: ``real = scale * (q - zero_point)``.

    scales: float32 [1] per tensor or [C] per channel; zero_points: int64, as long as scales; axis: the channel's
    axis (0 per tensor). block_size and block_scales (the index of a float16 tensor) are set for blockwise weights.
    Source: schema.fbs, table QuantizationParameters.
    """

    scales: Array
    zero_points: Array
    axis: int = 0
    block_size: int = 0
    block_scales: int = -1

    @classmethod
    def per_tensor(cls, scale: float, zero_point: int = 0) -> Quantization:
        return cls(np.array([scale], np.float32), np.array([zero_point], np.int64))

    @classmethod
    def per_channel(cls, scales: Any, axis: int = 0, zero_points: Any = None) -> Quantization:
        scales = np.asarray(scales, np.float32)
        zeros = np.zeros(scales.size, np.int64) if zero_points is None else np.asarray(zero_points, np.int64)
        return cls(scales, zeros, axis)

    @property
    def is_per_tensor(self) -> bool:
        return self.scales.size == 1 and not self.block_size

    @property
    def scale(self) -> np.float32:
        """The (first) scale, as float32: arithmetic on it rounds as TFLite's ``params.scale`` does."""
        return np.float32(self.scales[0])

    @property
    def zero_point(self) -> int:
        return int(self.zero_points[0])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantization) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return (
            self.scales.tobytes(),
            self.zero_points.tobytes(),
            self.axis,
            self.block_size,
            self.block_scales,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """An edge of the graph.

    shape: as the file says (1 for an unknown dimension); shape_signature: with -1 for unknown dimensions, or the
    shape when the file has none. data: the constant's bytes as they lie in the file (uint8, read-only view), or None.
    is_variable: state that lives across runs.
    """

    index: int
    name: str
    dtype: DType
    shape: Shape
    shape_signature: Shape
    has_shape_signature: bool = False
    quantization: Quantization | None = None
    data: Array | None = None
    is_variable: bool = False
    sparsity: Table | None = None
    buffer_index: int = 0

    @property
    def is_constant(self) -> bool:
        return self.data is not None

    @property
    def constant(self) -> Array | None:
        """The constant as a read-only array of ``shape`` and ``dtype.numpy``: a view on the file for types of whole
        bytes, unpacked anew for int4, uint4, int2 and strings; 1-D with the stored values only when sparse."""
        if self.data is None:
            return None
        return decode(self.data, self.dtype, self.shape, is_sparse=self.sparsity is not None)

    def with_constant(self, value: Array) -> Tensor:
        """A copy that holds this value (of dtype ``self.dtype.numpy``)."""
        data = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        data.flags.writeable = False
        return replace(self, data=data, shape=tuple(value.shape), sparsity=None)


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """A node of the graph.

    index: position in the file's operator list. name: the builtin's name or the custom op's code. inputs: tensor
    indices, -1 for an optional one that was left out. options: the options Table, or None when the file has none (all
    defaults then). custom_options: raw bytes of a custom op.
    """

    index: int
    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table | None = None
    custom_options: bytes = b""
    is_custom: bool = False
    intermediates: tuple[int, ...] = ()
    place: str = ""


@dataclass(frozen=True, slots=True)
class Folded:
    """An op that a preparation pass removed, and into what: ``DEQUANTIZE`` of a constant became that constant."""

    op: Op
    reason: str


@dataclass(frozen=True, eq=False)
class Graph:
    """One subgraph. ``ops`` are in execution order (the file's order, which TFLite executes as it stands)."""

    index: int
    name: str
    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    folded: tuple[Folded, ...] = field(default=())
    all_ops: tuple[Op, ...] = field(default=())

    @property
    def place(self) -> str:
        return f"subgraphs[{self.index}]"

    @cached_property
    def producers(self) -> Mapping[int, Op]:
        """Tensor index → the op that makes it."""
        return {tensor: op for op in self.ops for tensor in op.outputs if tensor >= 0}

    @cached_property
    def consumers(self) -> Mapping[int, tuple[Op, ...]]:
        """Tensor index → the ops that read it, in order, each once."""
        found: dict[int, dict[int, Op]] = {}
        for op in self.ops:
            for tensor in op.inputs:
                if tensor >= 0:
                    found.setdefault(tensor, {})[op.index] = op
        return {tensor: tuple(ops.values()) for tensor, ops in found.items()}

    def with_changes(self, *, tensors: Mapping[int, Tensor], drop: Mapping[int, str]) -> Graph:
        """A copy with some tensors replaced and some ops folded (op index → reason)."""
        return replace(
            self,
            tensors=tuple(tensors.get(t.index, t) for t in self.tensors),
            ops=tuple(op for op in self.ops if op.index not in drop),
            folded=self.folded + tuple(Folded(op, drop[op.index]) for op in self.ops if op.index in drop),
        )


@dataclass(frozen=True, slots=True)
class Signature:
    """A named entry point: names of inputs and outputs → tensor index, in one graph."""

    key: str
    graph: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class GraphSet:
    """All graphs of a model (0 is the main one; control flow refers to the others by index) and its signatures."""

    source: str
    graphs: tuple[Graph, ...]
    signatures: Mapping[str, Signature]

    @property
    def main(self) -> Graph:
        return self.graphs[0]

    def replace_graphs(self, graphs: tuple[Graph, ...]) -> GraphSet:
        return replace(self, graphs=graphs)
