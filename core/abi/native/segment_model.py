"""A segment as a model of its own: how it travels to a C plug-in or to another process. Imports core.abi.values.

Tensors are renumbered to those in use, in the order inputs, then node by node; the same segment always gives the same
numbers and the same bytes. Shapes are the concrete ones. A constant above the limit is left out of the FlatBuffer: its
tensor refers to a buffer without data, and its bytes travel beside the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from delegraph.core.abi.values import GraphView, Segment
from delegraph.core.errors import InvalidArgument
from delegraph.core.graph.calls import called_graphs
from delegraph.core.graph.constants import encode_strings, pack
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Graph, Op, Quantization
from delegraph.core.model.model import Model
from delegraph.core.model.schema_table import ENUMS, UNIONS
from delegraph.core.model.table import Table
from delegraph.core.ops.nodes import spec_of
from delegraph.core.ops.opdef import Node, TensorSpec

INLINE_LIMIT_BYTES = 1024
"""Constants of at most this size lie within the FlatBuffer."""

_CODES = ENUMS["BuiltinOperator"]


@dataclass(frozen=True, slots=True, eq=False)
class SegmentTensor:
    """A tensor of a segment. source: its number in the graph. data: of a constant, its bytes (uint8, read-only) as a
    buffer of a .tflite holds them."""

    source: int
    name: str
    spec: TensorSpec
    data: Array | None = None

    @property
    def is_external(self) -> bool:
        return self.data is not None and self.data.size > INLINE_LIMIT_BYTES


@dataclass(frozen=True, eq=False)
class SegmentModel:
    """A segment in numbers of its own. inputs, outputs, variables: as the segment's, renumbered."""

    nodes: tuple[Node, ...]
    tensors: tuple[SegmentTensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    variables: tuple[int, ...]
    name: str

    @cached_property
    def number(self) -> Mapping[int, int]:
        """Number in the graph → number here; -1 stays."""
        return {-1: -1, **{tensor.source: i for i, tensor in enumerate(self.tensors)}}

    @property
    def constants(self) -> dict[int, Array]:
        """Number here → the bytes of a constant."""
        return {i: tensor.data for i, tensor in enumerate(self.tensors) if tensor.data is not None}

    @property
    def external(self) -> dict[int, Array]:
        """Those of the constants that ``model()`` leaves out."""
        return {i: data for i, data in self.constants.items() if self.tensors[i].is_external}

    def model(self, *, inline_all: bool = False) -> Model:
        """A model with one subgraph. inline_all: with every constant inside, as other runtimes need it."""
        buffers = [Table("Buffer")]
        tensors = []
        for tensor in self.tensors:
            buffer = 0
            if tensor.data is not None:
                buffer = len(buffers)
                inside = inline_all or not tensor.is_external
                buffers.append(Table("Buffer", data=tensor.data) if inside else Table("Buffer"))
            tensors.append(_tensor(tensor, buffer, self.number))
        codes = list(dict.fromkeys((n.op.name, n.op.is_custom, n.op.version) for n in self.nodes))
        subgraph = Table(
            "SubGraph",
            name=self.name,
            tensors=tuple(tensors),
            inputs=np.array(self.inputs, np.int32),
            outputs=np.array(self.outputs + self.variables, np.int32),
            operators=tuple(
                self._operator(node.op, codes.index((node.op.name, node.op.is_custom, node.op.version)))
                for node in self.nodes
            ),
        )
        root = Table(
            "Model",
            version=3,
            operator_codes=tuple(_code(*code) for code in codes),
            subgraphs=(subgraph,),
            description="delegraph segment",
            buffers=tuple(buffers),
        )
        return Model(root, "segment")

    def to_bytes(self) -> bytes:
        """The model as a .tflite, without its large constants."""
        from delegraph.core.model.writer import write

        return write(self.model())

    def _operator(self, op: Op, code: int) -> Table:
        fields: dict[str, Any] = {}
        if op.options is not None:
            union = "builtin_options" if op.options.type_name in UNIONS["BuiltinOptions"] else "builtin_options_2"
            fields[union] = op.options
        if op.custom_options:
            fields["custom_options"] = op.custom_options
        if op.intermediates:
            fields["intermediates"] = self._numbers(op.intermediates)
        return Table(
            "Operator",
            opcode_index=code,
            inputs=self._numbers(op.inputs),
            outputs=self._numbers(op.outputs),
            **fields,
        )

    def _numbers(self, tensors: Iterable[int]) -> Array:
        return np.array([self.number[i] for i in tensors], np.int32)


def segment_model(segment: Segment | GraphView) -> SegmentModel:
    """The segment (of a view: with every tensor that nothing makes as input, all that its nodes make as outputs).

    Raises:
        InvalidArgument: an op that calls other graphs.
    """
    for node in segment.nodes:
        if called_graphs(node.op):
            raise InvalidArgument("segment", "ops that call no graphs", f"{node.place}")
    if isinstance(segment, GraphView):
        inputs, outputs = _ends(segment.nodes)
        return _renumbered(segment.graph, segment.nodes, inputs, outputs, (), {})
    return _renumbered(segment.graph, segment.nodes, segment.inputs, segment.outputs, segment.variables, segment.specs)


def _ends(nodes: Sequence[Node]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the nodes read without making it or knowing its value, and what they make."""
    made = dict.fromkeys(i for node in nodes for i in node.op.outputs if i >= 0)
    read = {
        i: None
        for node in nodes
        for i, spec in zip(node.op.inputs, node.inputs, strict=True)
        if spec is not None and spec.value is None and i not in made
    }
    return tuple(read), tuple(made)


def _renumbered(
    graph: Graph,
    nodes: Sequence[Node],
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
    variables: tuple[int, ...],
    named: Mapping[int, TensorSpec],
) -> SegmentModel:
    specs: dict[int, TensorSpec] = {i: named[i] for i in inputs if i in named}
    specs |= {i: spec_of(graph.tensors[i]) for i in inputs if i not in specs}
    made = {i for node in nodes for i in node.op.outputs}
    for node in nodes:
        reads = [(i, spec) for i, spec in zip(node.op.inputs, node.inputs, strict=True) if spec is not None]
        makes = zip((i for i in node.op.outputs if i >= 0), node.outputs, strict=True)
        for i, spec in (*reads, *makes):
            specs.setdefault(i, spec)
        for i in node.op.intermediates:
            if i >= 0:
                specs.setdefault(i, spec_of(graph.tensors[i]))
    for i in (*outputs, *variables):
        specs.setdefault(i, named.get(i) or spec_of(graph.tensors[i]))
    for spec in list(specs.values()):
        quantization = spec.quantization
        if quantization is not None and quantization.block_scales >= 0:
            specs.setdefault(quantization.block_scales, spec_of(graph.tensors[quantization.block_scales]))
    not_constant = made | set(inputs)
    number = {old: new for new, old in enumerate(specs)}
    tensors = tuple(
        SegmentTensor(i, graph.tensors[i].name, spec, None if i in not_constant else _data(spec))
        for i, spec in specs.items()
    )
    return SegmentModel(
        tuple(nodes),
        tensors,
        tuple(number[i] for i in inputs),
        tuple(number[i] for i in outputs),
        tuple(number[i] for i in variables),
        graph.name or "main",
    )


def _data(spec: TensorSpec) -> Array | None:
    if spec.value is None:
        return None
    if spec.dtype is DType.STRING:
        return encode_strings(spec.value)
    if spec.dtype.bits in (2, 4):
        return pack(spec.value, spec.dtype)
    data = np.ascontiguousarray(spec.value).reshape(-1).view(np.uint8)
    data.flags.writeable = False
    return data


def _tensor(tensor: SegmentTensor, buffer: int, number: Mapping[int, int]) -> Table:
    spec = tensor.spec
    fields: dict[str, Any] = {}
    if spec.quantization is not None:
        fields["quantization"] = _quantization(spec.quantization, number)
    if spec.sparsity is not None and tensor.data is not None:
        fields["sparsity"] = spec.sparsity
    return Table(
        "Tensor",
        name=tensor.name,
        type=spec.dtype.value,
        shape=np.array(spec.shape, np.int32),
        buffer=buffer,
        has_rank=True,
        is_variable=spec.is_variable,
        **fields,
    )


def _quantization(quantization: Quantization, number: Mapping[int, int]) -> Table:
    details = None
    if quantization.block_size:
        details = Table(
            "BlockwiseQuantization",
            scales=number.get(quantization.block_scales, -1),
            zero_points=-1,
            block_size=quantization.block_size,
        )
    return Table(
        "QuantizationParameters",
        scale=np.asarray(quantization.scales, np.float32),
        zero_point=np.asarray(quantization.zero_points, np.int64),
        quantized_dimension=quantization.axis,
        details=details,
    )


def _code(name: str, is_custom: bool, version: int) -> Table:
    if is_custom:
        code = _CODES["CUSTOM"]
        return Table("OperatorCode", deprecated_builtin_code=code, builtin_code=code, custom_code=name, version=version)
    if name not in _CODES:
        raise InvalidArgument("segment", "operators of TFLite's schema", name)
    code = _CODES[name]
    return Table("OperatorCode", deprecated_builtin_code=min(code, 127), builtin_code=code, version=version)
