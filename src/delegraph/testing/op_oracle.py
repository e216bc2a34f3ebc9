"""The op-by-op oracle: each op of a model, cut out, in LiteRT and here on LiteRT's own inputs.

A whole run of the model in LiteRT's reference kernels keeps every tensor. Each op is then cut out with the project's
own writer and run in LiteRT on those tensors, and by the op's own kernel on the same; the results are compared within
the op's bound. Errors can't add up from op to op, so each is judged for itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from delegraph.core.errors import DelegraphError, UnsupportedOp
from delegraph.core.graph.build import build
from delegraph.core.graph.graph import Array, Graph, Op
from delegraph.core.model.extract import as_main, extract
from delegraph.core.model.model import Model
from delegraph.core.model.writer import write
from delegraph.core.ops import registry
from delegraph.core.ops.errata import NOT_IN_REFERENCE
from delegraph.core.ops.nodes import node_of, spec_of, with_shapes
from delegraph.core.ops.opdef import Node, TensorSpec
from delegraph.core.ops.support import node_support
from delegraph.testing.conformance import Verdict, compare
from delegraph.testing.oracle import Job, Oracle, OracleError, OracleResult, Resolver, recipe_inputs


@dataclass(frozen=True)
class OpVerdict:
    """An op of a model. form: its types. verdict.outcome as in conformance, or "skipped" with the reason."""

    model: str
    graph: int
    op: int
    form: str
    verdict: Verdict


def judge_model(model: Model, oracle: Oracle, seed: int = 0) -> Iterator[OpVerdict]:
    """A verdict on each op of each graph (each graph runs as the main one, on random inputs of the recipe).

    Raises:
        OracleError: LiteRT can't run the model at all.
    """
    for index in range(len(model.subgraphs)):
        yield from _judge_graph(as_main(model, index), index, oracle, seed)


def _judge_graph(model: Model, index: int, oracle: Oracle, seed: int) -> Iterator[OpVerdict]:
    graph = build(model).main
    if not graph.ops:
        return
    data = write(model)
    try:
        tensors = _tensors(graph, data, oracle, seed)
    except OracleError as exc:
        if index == 0:
            raise
        for op in graph.ops:
            yield OpVerdict(model.source, index, op.index, "", _skip(op, f"LiteRT can't run the graph: {exc}"))
        return
    jobs: list[tuple[Op, Node, list[Any], Job]] = []
    for op in graph.ops:
        try:
            prepared = _prepare(model, graph, op, tensors)
        except UnsupportedOp as exc:
            yield OpVerdict(model.source, index, op.index, "", Verdict(op.name, op.place, "we refused", str(exc)))
            continue
        if isinstance(prepared, str):
            yield OpVerdict(model.source, index, op.index, "", _skip(op, prepared))
            continue
        jobs.append((op, *prepared))
    results = oracle.run_many([job for *_, job in jobs])
    for (op, node, operands, _), result in zip(jobs, results, strict=True):
        yield OpVerdict(model.source, index, op.index, _form(node), _verdict(op, node, operands, result))


def _tensors(graph: Graph, data: bytes, oracle: Oracle, seed: int) -> dict[int, Array]:
    """Every tensor of a run of the graph in LiteRT. Random numbers are no good as indices or loop counters in some
    graphs: those get zeros in integer inputs instead."""
    inputs = recipe_inputs(oracle.describe(data).inputs, seed)
    try:
        found = oracle.run(data, inputs, keep_all=True)
    except OracleError:
        inputs = [x if x.dtype.kind == "f" else np.zeros_like(x) for x in inputs]
        found = oracle.run(data, inputs, keep_all=True)
    return {**found.tensors, **dict(zip(graph.inputs, inputs, strict=True))}


def _skip(op: Op, reason: str) -> Verdict:
    return Verdict(op.name, op.place, "skipped", reason)


def _form(node: Node) -> str:
    opdef = registry.find(node.op.name)
    form = None if opdef is None else opdef.form(node)
    return "" if form is None else str(form)


def _prepare(model: Model, graph: Graph, op: Op, tensors: dict[int, Array]) -> tuple[Node, list[Any], Job] | str:
    """The op's node, its operands and the oracle's job; or why it is skipped. Raises UnsupportedOp."""
    opdef = registry.find(op.name)
    if opdef is not None and opdef.host:
        return "core runs it itself"
    specs: dict[int, TensorSpec] = {}
    operands: list[Any] = []
    fed: list[int] = []
    for i in op.inputs:
        if i < 0:
            operands.append(None)
            continue
        tensor = graph.tensors[i]
        if tensor.is_constant and i not in graph.inputs:
            specs[i] = spec_of(tensor)
            operands.append(tensor.constant)
            continue
        if i not in tensors:
            return f"LiteRT keeps no value of tensor {i}"
        specs[i] = spec_of(tensor, tuple(tensors[i].shape))
        operands.append(tensors[i])
        if i not in fed:
            fed.append(i)
    if opdef is None:
        problem = node_support(op, Node(op, (), (), model.root))
        assert problem is not None
        raise problem.error(op)
    node = node_of(graph, op, opdef, specs)
    problem = node_support(op, node)
    if problem is not None:
        raise problem.error(op)
    shapes = {i: tensors[i].shape for i in fed}
    cut = extract(model, 0, [op.index], fed, [i for i in op.outputs if i >= 0], shapes)
    resolver: Resolver = "builtin" if op.name in NOT_IN_REFERENCE else "reference"
    return node, operands, Job(write(cut), [tensors[i] for i in fed], resolver=resolver)


def _verdict(op: Op, node: Node, operands: Sequence[Any], result: OracleResult | OracleError) -> Verdict:
    if isinstance(result, OracleError):
        return Verdict(op.name, op.place, "oracle refused", str(result))
    opdef = registry.find(op.name)
    assert opdef is not None
    try:
        shapes = tuple(opdef.shapes(node))
        if all(shape is not None for shape in shapes):
            node = with_shapes(node, tuple(s for s in shapes if s is not None))
        form = opdef.form(node)
        assert form is not None
        with np.errstate(all="ignore"):
            found = [np.asarray(r) for r in form.prepare(node)(*operands)]
    except DelegraphError as exc:
        return Verdict(op.name, op.place, "we refused", str(exc))
    return compare(opdef, op.place, node, operands, result.outputs, found)
