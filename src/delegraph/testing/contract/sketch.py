"""Small graphs, drawn op by op, as segments to try on a device. Imports core up to runtime.plan.

>>> s = Sketch("sum")
>>> x, y = s.input((2, 3)), s.input((2, 3))
>>> (z,) = s.op("ADD", [x, y], [Result(DType.FLOAT32)])
>>> s.specimen().segment.inputs
(0, 1)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from delegraph.core.abi.values import GraphView, Segment
from delegraph.core.errors import DelegraphError
from delegraph.core.graph.build import build
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Graph, Quantization
from delegraph.core.model.model import Model
from delegraph.core.model.schema_table import UNIONS
from delegraph.core.model.table import Table
from delegraph.core.ops import registry
from delegraph.core.ops.cases import integers, operator_code, reals, tensor_table, to_bytes
from delegraph.core.ops.nodes import infer_op
from delegraph.core.ops.opdef import Case, Node, OpDef, Result, TensorSpec
from delegraph.core.runtime.plan import make_segment

Shape = tuple[int, ...]
Make = Callable[[int], Array]
"""(number of the feed) → a value for an input."""


class UnusableSketch(Exception):
    """The graph is none that a device would ever be asked to run, with the reason."""


@dataclass(frozen=True, eq=False)
class Specimen:
    """A segment with values for its inputs. makes: for each of ``segment.inputs``."""

    name: str
    segment: Segment
    makes: tuple[Make, ...]
    expected: dict[int, Any] = field(default_factory=dict)
    """Number of the feed → what it has to give; filled by ``expected.of_feed``."""

    @property
    def view(self) -> GraphView:
        return GraphView(self.segment.graph, self.segment.nodes)

    @property
    def delivered(self) -> tuple[int, ...]:
        """Outputs, then variables: what a context is bound to."""
        return self.segment.outputs + self.segment.variables

    def feed(self, k: int) -> list[Array]:
        """The k-th set of input values, read-only."""
        found = [np.array(make(k), order="C") for make in self.makes]
        for array in found:
            array.flags.writeable = False
        return found


@dataclass
class Sketch:
    """A graph under construction. Tensors are referred to by number."""

    name: str
    tensors: list[Table] = field(default_factory=list)
    operators: list[tuple[OpDef, int, Table]] = field(default_factory=list)
    data: dict[int, Array] = field(default_factory=dict)
    makes: dict[int, Make] = field(default_factory=dict)

    def input(
        self,
        shape: Shape,
        dtype: DType = DType.FLOAT32,
        quantization: Quantization | None = None,
        make: Make | None = None,
        **fields: Any,
    ) -> int:
        """An input; ``make`` gives its values (by default random ones of the type)."""
        index = self._tensor(shape, dtype, quantization, **fields)
        self.makes[index] = make or random_values(shape, dtype, index, is_quantized=quantization is not None)
        return index

    def constant(
        self, value: Array, quantization: Quantization | None = None, dtype: DType | None = None, **fields: Any
    ) -> int:
        dtype = dtype or DType.of(value.dtype)
        index = self._tensor(fields.pop("shape", value.shape), dtype, quantization, **fields)
        self.data[index] = to_bytes(value, dtype)
        return index

    def op(
        self,
        name: str,
        inputs: Sequence[int],
        results: Sequence[Result],
        options: Mapping[str, Any] | None = None,
        version: int | None = None,
    ) -> list[int]:
        """Adds an op; returns its outputs. Raises UnusableSketch for one that has no OpDef."""
        opdef = registry.find(name)
        if opdef is None:
            raise UnusableSketch(f"there is no OpDef {name}")
        outputs = [self._tensor((), result.dtype, result.quantization) for result in results]
        fields: dict[str, Any] = {}
        if opdef.options:
            union = "builtin_options" if opdef.options in UNIONS["BuiltinOptions"] else "builtin_options_2"
            fields[union] = Table(opdef.options, **(options or {}))
        table = Table("Operator", inputs=np.array(inputs, np.int32), outputs=np.array(outputs, np.int32), **fields)
        self.operators.append((opdef, version or opdef.versions[0], table))
        return outputs

    def case(self, opdef: OpDef, case: Case, makes: Sequence[Make | None], given: Mapping[int, int]) -> list[int]:
        """Adds a case of an OpDef. makes: for each operand that is no constant, its values. given: operand → a tensor
        of the graph that takes its place."""
        slots = []
        for i, operand in enumerate(case.inputs):
            if operand is None or i in given:
                slots.append(given.get(i, -1))
                continue
            dtype = operand.dtype or DType.of(operand.data.dtype)
            shape = operand.data.shape if operand.shape is None else operand.shape
            fields: dict[str, Any] = {} if operand.sparsity is None else {"sparsity": operand.sparsity}
            if operand.constant:
                slots.append(self.constant(operand.data, operand.quantization, dtype, shape=shape, **fields))
                continue
            fields |= {"is_variable": True} if i in opdef.variables else {}
            slots.append(self.input(shape, dtype, operand.quantization, makes[i], **fields))
        while slots and slots[-1] == -1:
            slots.pop()
        return self.op(opdef.name, slots, case.outputs, case.options, case.version)

    def specimen(self, outputs: Sequence[int] | None = None) -> Specimen:
        """The graph as a segment. outputs: what it delivers; by default all that no op reads.

        Raises:
            UnusableSketch: no device would be asked to run it.
        """
        read = {int(i) for _, _, table in self.operators for i in table.inputs}
        made = [int(i) for _, _, table in self.operators for i in table.outputs]
        wanted = [i for i in made if i not in read] if outputs is None else list(outputs)
        try:
            graph, _, specs = self._inferred(wanted)
            for index, spec in specs.items():  # once more, with the shapes that a converter would have written
                self.tensors[index] = self.tensors[index].replace(shape=np.array(spec.shape, np.int32))
            graph, nodes, specs = self._inferred(wanted)
        except DelegraphError as exc:
            raise UnusableSketch(str(exc)) from exc
        segment = make_segment(graph, nodes, specs, set(wanted))
        unknown = [i for i in segment.inputs if i not in self.makes]
        if unknown:
            raise UnusableSketch(f"nothing makes tensor {unknown[0]}")
        return Specimen(self.name, segment, tuple(self.makes[i] for i in segment.inputs))

    def only_node(self) -> Node:
        """The node of a graph of one op. Raises UnusableSketch."""
        try:
            _, (node,), _ = self._inferred([int(i) for _, _, table in self.operators for i in table.outputs])
        except DelegraphError as exc:
            raise UnusableSketch(str(exc)) from exc
        return node

    def _inferred(self, outputs: Sequence[int]) -> tuple[Graph, list[Node], dict[int, TensorSpec]]:
        graph = build(self._model(outputs)).main
        nodes: list[Node] = []
        specs: dict[int, TensorSpec] = {}
        for op in graph.ops:
            opdef = registry.find(op.name)
            assert opdef is not None
            node = infer_op(graph, op, opdef, specs)
            if node is None or opdef.host:
                raise UnusableSketch(f"core runs {op.name} itself")
            if any(not spec.dtype.is_plain for spec in (*node.outputs, *(s for s in node.inputs if s is not None))):
                raise UnusableSketch("strings and handles never leave core")
            if any(specs[i].value is not None for i in op.outputs):
                raise UnusableSketch(f"the result of {op.name} is known before the run")
            nodes.append(node)
        return graph, nodes, specs

    def _model(self, outputs: Sequence[int]) -> Model:
        tensors, buffers = list(self.tensors), [Table("Buffer")]
        for index, data in self.data.items():
            tensors[index] = tensors[index].replace(buffer=len(buffers))
            buffers.append(Table("Buffer", data=data))
        codes = list(dict.fromkeys((opdef.name, version) for opdef, version, _ in self.operators))
        operators = tuple(t.replace(opcode_index=codes.index((o.name, v))) for o, v, t in self.operators)
        subgraph = Table(
            "SubGraph",
            name="main",
            tensors=tuple(tensors),
            inputs=np.array([i for i in self.makes if not tensors[i].is_variable], np.int32),
            outputs=np.array(outputs, np.int32),
            operators=operators,
        )
        found = {opdef.name: opdef for opdef, _, _ in self.operators}
        root = Table(
            "Model",
            version=3,
            operator_codes=tuple(operator_code(found[name], version) for name, version in codes),
            subgraphs=(subgraph,),
            description="delegraph contract",
            buffers=tuple(buffers),
        )
        return Model(root, self.name)

    def _tensor(self, shape: Shape, dtype: DType, quantization: Quantization | None, **fields: Any) -> int:
        table = tensor_table(f"t{len(self.tensors)}", dtype, shape, quantization, 0)
        self.tensors.append(table.replace(**fields) if fields else table)
        return len(self.tensors) - 1


def random_values(shape: Shape, dtype: DType, seed: int, *, is_quantized: bool = False) -> Make:
    """Values of a type: reals in [-4, 4), small plain integers, quantized ones over their whole range."""

    def make(k: int) -> Array:
        rng = np.random.default_rng((seed, k))
        if dtype.is_float:
            return reals(rng, shape).astype(dtype.numpy)
        if dtype is DType.BOOL:
            return np.asarray(rng.random(shape) < 0.5)
        return integers(rng, dtype, shape) if is_quantized else integers(rng, dtype, shape, 0, 50)

    return make
