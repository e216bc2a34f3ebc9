"""What can be said of a model without running it: ops with their types and work, constants, what is not supported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from delegraph.cli.tensors import quantization_json
from delegraph.core.errors import DelegraphError, InvalidModel
from delegraph.core.graph.graph import Graph, GraphSet, Op, Tensor
from delegraph.core.ops import registry
from delegraph.core.ops.foreign import maker_of
from delegraph.core.ops.nodes import infer_op, node_of, spec_of
from delegraph.core.ops.support import node_support, op_support, types_of

if TYPE_CHECKING:
    from delegraph.core.ops.opdef import Node, OpDef, TensorSpec


@dataclass(frozen=True)
class OpFacts:
    """One op. types: as ``int8, int8, int32 -> int8``. macs: None where shapes are not known before a run.

    reason: why nothing here runs it, "" if something does; advice: what to do then. maker: the tool that made a
    foreign op.
    """

    op: Op
    graph: int
    types: str
    macs: int | None
    reason: str = ""
    advice: str = ""
    maker: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "graph": self.graph,
            "op": self.op.index,
            "name": self.op.name,
            "is_custom": self.op.is_custom,
            "version": self.op.version,
            "types": self.types,
            "inputs": list(self.op.inputs),
            "outputs": list(self.op.outputs),
            "macs": self.macs,
            "is_supported": not self.reason,
        }


@dataclass(frozen=True)
class Kind:
    """Ops of one name and types: a line of the histogram. versions: (lowest, highest)."""

    name: str
    types: str
    is_custom: bool
    n_ops: int
    versions: tuple[int, int]
    macs: int
    reason: str

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "types": self.types,
            "is_custom": self.is_custom,
            "count": self.n_ops,
            "versions": list(self.versions),
            "macs": self.macs,
            "is_supported": not self.reason,
        }


@dataclass(frozen=True)
class Refusal:
    """A reason why ops of one name can't run here."""

    name: str
    n_ops: int
    reason: str
    advice: str
    maker: str

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "count": self.n_ops,
            "reason": self.reason,
            "advice": self.advice or None,
            "made_by": self.maker or None,
        }


def op_facts(graphs: GraphSet) -> list[OpFacts]:
    """Every op of every graph, in the file's order."""
    return [facts for graph in graphs.graphs for facts in _graph_facts(graph)]


def _graph_facts(graph: Graph) -> Iterator[OpFacts]:
    specs = {i: spec_of(graph.tensors[i], graph.tensors[i].shape) for i in graph.inputs}
    for op in graph.ops:
        yield _facts(graph, op, specs)


def _facts(graph: Graph, op: Op, specs: dict[int, TensorSpec]) -> OpFacts:
    problem = op_support(op)
    opdef = registry.find(op.name)
    if problem is not None or opdef is None:
        maker = maker_of(op.name) if op.is_custom else None
        reason = problem.reason if problem is not None else "no OpDef"
        advice = problem.advice if problem is not None else ""
        return OpFacts(op, graph.index, _types(graph, op), None, reason, advice, maker[0] if maker else "")
    try:
        if not all(_is_known(graph, i, specs) for i in op.inputs):
            return _facts_of_types(graph, op, opdef, specs)
        node, is_inferred = _node(graph, op, opdef, specs)
        problem = node_support(op, node)
        macs = opdef.count(node).macs if is_inferred and not opdef.host else 0 if opdef.host else None
    except InvalidModel as exc:
        reason = f"{exc.place}: expected {exc.expected}, found {exc.found}"
        return OpFacts(op, graph.index, _types(graph, op), None, reason)
    except DelegraphError as exc:
        return OpFacts(op, graph.index, _types(graph, op), None, str(exc))
    except Exception as exc:  # an OpDef that meets operands it was not made for: say so, and go on with the others
        return OpFacts(op, graph.index, _types(graph, op), None, f"its operands are not usable ({exc!r})")
    reason, advice = (problem.reason, problem.advice) if problem is not None else ("", "")
    return OpFacts(op, graph.index, types_of(node), macs, reason, advice)


def _node(graph: Graph, op: Op, opdef: OpDef, specs: dict[int, TensorSpec]) -> tuple[Node, bool]:
    """The op's node, and whether its shapes are known."""
    node = None if opdef.host else infer_op(graph, op, opdef, specs)
    return (node, True) if node is not None else (node_of(graph, op, opdef, specs), False)


def _is_known(graph: Graph, tensor: int, specs: Mapping[int, TensorSpec]) -> bool:
    """Whether a tensor's shape is known before a run: not behind an op that nothing here understands, say."""
    return tensor < 0 or tensor in specs or tensor not in graph.producers


def _facts_of_types(graph: Graph, op: Op, opdef: OpDef, specs: Mapping[int, TensorSpec]) -> OpFacts:
    """What can be said of an op whose input shapes are not known: whether there is a kernel for its types."""
    node = node_of(graph, op, opdef, specs)
    problem = node_support(op, node) if not opdef.host and opdef.form(node) is None else None
    macs = 0 if opdef.host else None
    return OpFacts(op, graph.index, types_of(node), macs, problem.reason if problem is not None else "")


def _types(graph: Graph, op: Op) -> str:
    def names(indices: Sequence[int]) -> str:
        return ", ".join("none" if i < 0 else str(graph.tensors[i].dtype) for i in indices)

    return f"{names(op.inputs)} -> {names(op.outputs)}"


def histogram(facts: Sequence[OpFacts]) -> list[Kind]:
    """Ops by name and types, the most frequent first."""
    groups: dict[tuple[str, str, bool], list[OpFacts]] = {}
    for each in facts:
        groups.setdefault((each.op.name, each.types, each.op.is_custom), []).append(each)
    kinds = [
        Kind(
            name,
            types,
            is_custom,
            len(group),
            (min(f.op.version for f in group), max(f.op.version for f in group)),
            sum(f.macs or 0 for f in group),
            next((f.reason for f in group if f.reason), ""),
        )
        for (name, types, is_custom), group in groups.items()
    ]
    return sorted(kinds, key=lambda kind: (-kind.n_ops, kind.name, kind.types))


def refusals(facts: Sequence[OpFacts]) -> list[Refusal]:
    """Why ops can't run here, by name and reason, in the file's order."""
    counts = Counter((f.op.name, f.reason, f.advice, f.maker) for f in facts if f.reason)
    return [Refusal(name, n, reason, advice, maker) for (name, reason, advice, maker), n in counts.items()]


def constant_bytes(graphs: GraphSet) -> dict[str, int]:
    """Bytes of constants by type, the largest first; a buffer that several tensors share counts once."""
    found: Counter[str] = Counter()
    seen: set[int] = set()
    for tensor in (tensor for graph in graphs.graphs for tensor in graph.tensors):
        if tensor.data is None or (tensor.buffer_index and tensor.buffer_index in seen):
            continue
        seen.add(tensor.buffer_index)
        found[str(tensor.dtype)] += tensor.data.size
    return dict(found.most_common())


def total_macs(facts: Sequence[OpFacts], graph: int = 0) -> tuple[int, int]:
    """(multiply-accumulates of one run of a graph, number of its ops for which they are not known)."""
    of_graph = [each.macs for each in facts if each.graph == graph]
    return sum(macs or 0 for macs in of_graph), of_graph.count(None)


def tensor_role(graph: Graph, tensor: Tensor, readers: Mapping[int, Sequence[Op]]) -> str:
    """What a tensor is in its graph, in words."""
    if tensor.index in graph.inputs:
        return "input"
    if tensor.data is not None:
        return "constant"
    if tensor.is_variable:
        return "variable"
    if tensor.index in graph.outputs:
        return "output"
    return "between ops" if tensor.index in readers else "not read"


def tensor_json(graph: Graph, tensor: Tensor) -> dict[str, Any]:
    producer = graph.producers.get(tensor.index)
    return {
        "index": tensor.index,
        "name": tensor.name,
        "dtype": str(tensor.dtype),
        "shape": list(tensor.shape_signature),
        "quantization": quantization_json(tensor.quantization),
        "role": tensor_role(graph, tensor, graph.consumers),
        "constant_bytes": tensor.data.size if tensor.data is not None else None,
        "producer": producer.index if producer is not None else None,
        "consumers": [op.index for op in graph.consumers.get(tensor.index, ())],
        "is_sparse": tensor.sparsity is not None,
    }
