"""Which graphs an op calls, and the check that calls fit and end. Imports core.graph.graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from delegraph.core.errors import InvalidModel
from delegraph.core.graph.graph import Graph, Op

MAX_DEPTH = 32
"""How many graphs may be under way inside one another. Planning and running a call take stack of the interpreter;
models nest three or four deep."""

_CALLS = {  # op → the options that name a graph
    "IF": ("then_subgraph_index", "else_subgraph_index"),
    "WHILE": ("cond_subgraph_index", "body_subgraph_index"),
    "CALL_ONCE": ("init_subgraph_index",),
    "STABLEHLO_COMPOSITE": ("decomposition_subgraph_index",),
}


def called_graphs(op: Op) -> dict[str, int]:
    """Option name → index of the graph that it names; empty for an op that calls none."""
    if op.is_custom or op.name not in _CALLS:
        return {}
    return {name: int(getattr(op.options, name)) if op.options is not None else 0 for name in _CALLS[op.name]}


def check_calls(graphs: Sequence[Graph], source: str) -> None:
    """Every called graph exists and takes and gives what the op has; no graph calls itself, directly or not, and calls
    nest at most MAX_DEPTH deep.

    Raises:
        InvalidModel: naming the op and the option.
    """
    for graph in graphs:
        for op in graph.ops:
            for name, index in called_graphs(op).items():
                if not 0 <= index < len(graphs):
                    raise InvalidModel(f"{op.place}.{name}", f"a subgraph in [0, {len(graphs)})", str(index), source)
                if -1 in op.inputs:
                    raise InvalidModel(f"{op.place}.inputs", "no operand left out", str(op.inputs), source)
                _check_operands(graph, op, name, graphs[index], source)
    _check_depth(graphs, source)


def _check_operands(graph: Graph, op: Op, name: str, called: Graph, source: str) -> None:
    """The called graph takes and gives as many tensors as the op hands it, of the same types."""
    given, taken = op.inputs, op.outputs
    match name:
        case "then_subgraph_index" | "else_subgraph_index":
            given = op.inputs[1:]
        case "cond_subgraph_index":
            taken = called.outputs[:1]  # whatever it is: the run checks that it is one element
        case "init_subgraph_index":
            given = taken = ()
    found = len(called.inputs), len(called.outputs)
    if found != (len(given), len(taken)):
        raise InvalidModel(
            f"{op.place}.{name}",
            f"a subgraph with {len(given)} inputs and {len(taken)} outputs",
            f"{called.place} with {found[0]} and {found[1]}",
            source,
        )
    pairs = list(zip(given, called.inputs, strict=True))
    if name != "cond_subgraph_index":
        pairs += zip(taken, called.outputs, strict=True)
    for ours, theirs in pairs:
        wanted, dtype = graph.tensors[ours].dtype, called.tensors[theirs].dtype
        if wanted is not dtype:
            raise InvalidModel(
                f"{op.place}.{name}", f"{called.place} with tensors of the op's types", f"{dtype} for {wanted}", source
            )


def _check_depth(graphs: Sequence[Graph], source: str) -> None:
    """Walks the calls on a stack of its own: a file may nest deeper than the interpreter's stack goes."""
    depth: dict[int, int] = {}  # of graphs whose calls all end: how many are under way at most, with themselves
    for start in range(len(graphs)):
        path = {start: _called(graphs[start])}  # graphs under way → calls that were not looked at yet
        while path:
            index, waiting = next(reversed(path.items()))
            called = next(waiting, None)
            if called is None:
                below = [depth[i] for i in _called(graphs[index])]
                depth[index] = 1 + max(below, default=0)
                del path[index]
            elif called in path:
                cycle = [*list(path)[list(path).index(called) :], called]
                raise InvalidModel(f"subgraphs[{called}]", "subgraphs that don't call themselves", _way(cycle), source)
            elif called not in depth:
                path[called] = _called(graphs[called])
    deepest = max(depth, key=lambda i: (depth[i], -i), default=0)
    if depth and depth[deepest] > MAX_DEPTH:
        expected = f"calls of subgraphs at most {MAX_DEPTH} deep"
        raise InvalidModel(f"subgraphs[{deepest}]", expected, str(depth[deepest]), source)


def _called(graph: Graph) -> Iterator[int]:
    return (index for op in graph.ops for index in called_graphs(op).values())


def _way(path: Sequence[int]) -> str:
    shown = list(map(str, path)) if len(path) <= 8 else [*map(str, path[:4]), "...", *map(str, path[-3:])]
    return f"a cycle over {' -> '.join(shown)}"
