"""Graphs that call one another: how deep, and what happens beyond, when compiling and when running."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
from tests.graphs import GraphBuilder, model

import delegraph as dg
from delegraph.core.graph.calls import MAX_DEPTH
from delegraph.core.graph.dtype import DType
from delegraph.core.model.model import Model
from delegraph.core.model.writer import write


def nested_if(depth: int) -> Model:
    """``depth`` graphs; each but the last adds 1 to x and hands it on, whatever the condition says."""
    graphs = []
    for level in range(depth):
        g = GraphBuilder(f"level {level}")
        c, x = g.input([1], DType.BOOL), g.input([2])
        y = g.op("ADD", [x, g.constant(np.ones(2, np.float32))], [2])
        if level + 1 < depth:
            y = g.op("IF", [c, c, y], [2], then_subgraph_index=level + 1, else_subgraph_index=level + 1)
        g.outputs = [y]
        graphs.append(g)
    return model(*graphs)


def nested_while(depth: int) -> Model:
    """Loops inside loops, each of one turn; the innermost body doubles y. Graph 2k+1 is a condition, 2k+2 a body."""
    graphs = []
    main = GraphBuilder("main")
    i, y = main.input([1], DType.INT32), main.input([2])
    outputs = [main.tensor([1], DType.INT32), main.tensor([2])]
    main.op("WHILE", [i, y], outputs=outputs, cond_subgraph_index=1, body_subgraph_index=2)
    main.outputs = outputs
    graphs.append(main)
    for level in range(depth - 1):
        cond, body = GraphBuilder("cond"), GraphBuilder("body")
        i, y = cond.input([1], DType.INT32), cond.input([2])
        limit = cond.constant(np.array([level + 1], np.int32))
        cond.outputs = [cond.op("LESS", [i, limit], [1], DType.BOOL)]
        i, y = body.input([1], DType.INT32), body.input([2])
        if level + 2 < depth:
            inner = [body.tensor([1], DType.INT32), body.tensor([2])]
            step = body.op("ADD", [i, body.constant(np.array([1], np.int32))], [1], DType.INT32)
            k = 2 * level + 3
            body.op("WHILE", [step, y], outputs=inner, cond_subgraph_index=k, body_subgraph_index=k + 1)
            body.outputs = inner
        else:
            step = body.op("ADD", [i, body.constant(np.array([1], np.int32))], [1], DType.INT32)
            body.outputs = [step, body.op("ADD", [y, y], [2])]
        graphs += [cond, body]
    return model(*graphs)


def nested_call_once(depth: int) -> Model:
    """Initialisers that have initialisers; the last one sets v, which main returns."""
    graphs = []
    for level in range(depth):
        g = GraphBuilder(f"level {level}")
        if level + 1 < depth:
            g.op("CALL_ONCE", [], init_subgraph_index=level + 1)
        handle = g.op("VAR_HANDLE", [], [1], DType.RESOURCE, shared_name="v")
        if level + 1 == depth:
            g.op("ASSIGN_VARIABLE", [handle, g.constant(np.array([3, 4], np.float32))])
        elif level == 0:
            g.outputs = [g.op("READ_VARIABLE", [handle], [2])]
        graphs.append(g)
    return model(*graphs)


def far_down(frames: int, call: Callable[[], object]) -> object:
    """``call`` with that many more frames on the stack."""
    return call() if frames == 0 else far_down(frames - 1, call)


X = np.array([1, 2], np.float32)


def test_calls_may_nest_as_deep_as_the_limit_says() -> None:
    """Far down a caller's stack, too: 400 frames of the 1000 that the interpreter has by default are the caller's."""
    assert sys.getrecursionlimit() >= 1000

    def run() -> None:
        ifs = dg.compile(nested_if(MAX_DEPTH))
        np.testing.assert_array_equal(ifs(np.array([True]), X), X + MAX_DEPTH)
        loops = dg.compile(nested_while(MAX_DEPTH))
        np.testing.assert_array_equal(loops(np.array([0], np.int32), X)[1], 2 * X)
        np.testing.assert_array_equal(dg.compile(nested_call_once(MAX_DEPTH))(), [3, 4])

    far_down(400, run)


@pytest.mark.parametrize("nested", [nested_if, nested_while, nested_call_once])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 1500])
def test_deeper_ones_are_refused(nested: Callable[[int], Model], depth: int) -> None:
    expected = rf"subgraphs\[0\]: expected calls of subgraphs at most {MAX_DEPTH} deep, found {depth}$"
    with pytest.raises(dg.InvalidModel, match=expected):
        dg.compile(nested(depth))
    with pytest.raises(ValueError, match=expected):
        dg.Interpreter(model_content=write(nested(depth))).allocate_tensors()


@pytest.mark.parametrize("length", [1, 2, 1500])
def test_a_cycle_of_graphs_is_refused(length: int) -> None:
    graphs = []
    for level in range(length):
        g = GraphBuilder(f"level {level}")
        c, x = g.input([1], DType.BOOL), g.input([2])
        after = (level + 1) % length
        g.outputs = [g.op("IF", [c, c, x], [2], then_subgraph_index=after, else_subgraph_index=after)]
        graphs.append(g)
    with pytest.raises(dg.InvalidModel, match="subgraphs that don't call themselves, found a cycle over 0 -> "):
        dg.compile(model(*graphs))


def test_many_ways_to_one_graph_are_looked_at_once() -> None:
    """Each level calls the next one twice: 2^30 ways through 30 levels."""
    assert dg.compile(nested_if(30)).receipt().events == ()
