"""Small models for tests, built op by op: ``g = GraphBuilder(); x = g.input(...); y = g.op("ADD", [x, x], ...)``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Quantization
from delegraph.core.model.model import Model
from delegraph.core.model.schema_table import UNIONS
from delegraph.core.model.table import Table
from delegraph.core.ops import registry
from delegraph.core.ops.cases import operator_code, tensor_table, to_bytes


class GraphBuilder:
    """One subgraph under construction; ``model(*builders)`` joins several into a model."""

    def __init__(self, name: str = "main") -> None:
        self.name = name
        self.tensors: list[Table] = []
        self.data: dict[int, np.ndarray] = {}
        self.operators: list[tuple[str, Table]] = []
        self.inputs: list[int] = []
        self.outputs: list[int] = []

    def tensor(
        self,
        shape: Sequence[int],
        dtype: DType = DType.FLOAT32,
        quantization: Quantization | None = None,
        *,
        signature: Sequence[int] | None = None,
        is_variable: bool = False,
    ) -> int:
        index = len(self.tensors)
        table = tensor_table(f"t{index}", dtype, tuple(shape), quantization, 0)
        if signature is not None:
            table = table.replace(shape_signature=np.array(signature, np.int32))
        self.tensors.append(table.replace(is_variable=is_variable))
        return index

    def input(self, shape: Sequence[int], dtype: DType = DType.FLOAT32, **kwargs: Any) -> int:
        self.inputs.append(self.tensor(shape, dtype, **kwargs))
        return self.inputs[-1]

    def constant(self, value: Any, quantization: Quantization | None = None) -> int:
        array = np.asarray(value)
        index = self.tensor(array.shape, DType.of(array.dtype), quantization)
        self.data[index] = array
        return index

    def op(
        self,
        name: str,
        inputs: Sequence[int],
        shape: Sequence[int] | None = None,
        dtype: DType = DType.FLOAT32,
        *,
        outputs: Sequence[int] | None = None,
        **options: Any,
    ) -> int:
        """Adds an op with one new output of that shape (or the given outputs); returns the first output, or -1."""
        if outputs is None:
            outputs = [] if shape is None else [self.tensor(shape, dtype)]
        opdef = registry.find(name)
        assert opdef is not None, name
        fields: dict[str, Any] = {}
        if opdef.options:
            union = "builtin_options" if opdef.options in UNIONS["BuiltinOptions"] else "builtin_options_2"
            fields[union] = Table(opdef.options, **options)
        table = Table("Operator", inputs=np.array(inputs, np.int32), outputs=np.array(outputs, np.int32), **fields)
        self.operators.append((name, table))
        return outputs[0] if outputs else -1


def model(
    *graphs: GraphBuilder, signatures: dict[str, tuple[int, dict[str, int], dict[str, int]]] | None = None
) -> Model:
    """A model of these subgraphs; signatures: key → (subgraph, input names, output names)."""
    names = list(dict.fromkeys(name for g in graphs for name, _ in g.operators))
    buffers = [Table("Buffer")]
    subgraphs = []
    for g in graphs:
        tensors = list(g.tensors)
        for index, array in g.data.items():
            tensors[index] = tensors[index].replace(buffer=len(buffers))
            buffers.append(Table("Buffer", data=to_bytes(array, DType.of(array.dtype))))
        subgraphs.append(
            Table(
                "SubGraph",
                name=g.name,
                tensors=tuple(tensors),
                inputs=np.array(g.inputs, np.int32),
                outputs=np.array(g.outputs, np.int32),
                operators=tuple(t.replace(opcode_index=names.index(n)) for n, t in g.operators),
            )
        )
    codes = []
    for name in names:
        opdef = registry.find(name)
        assert opdef is not None
        codes.append(operator_code(opdef, opdef.versions[0]))
    fields: dict[str, Any] = {}
    if signatures:
        fields["signature_defs"] = tuple(
            Table(
                "SignatureDef",
                signature_key=key,
                subgraph_index=graph,
                inputs=tuple(Table("TensorMap", name=n, tensor_index=i) for n, i in inputs.items()),
                outputs=tuple(Table("TensorMap", name=n, tensor_index=i) for n, i in outputs.items()),
            )
            for key, (graph, inputs, outputs) in signatures.items()
        )
    root = Table(
        "Model", version=3, operator_codes=tuple(codes), subgraphs=tuple(subgraphs), buffers=tuple(buffers), **fields
    )
    return Model(root, "test model")
