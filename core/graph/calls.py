"""Which graphs an op calls, and the check that calls fit and end. Imports core.graph.graph."""

from __future__ import annotations

from collections.abc import Sequence

from delegraph.core.errors import InvalidModel
from delegraph.core.graph.graph import Graph, Op

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
    """Every called graph exists and takes and gives what the op has; no graph calls itself, directly or not.

    Raises:
        InvalidModel: naming the op and the option.
    """
    for graph in graphs:
        for op in graph.ops:
            for name, index in called_graphs(op).items():
                if not 0 <= index < len(graphs):
                    raise InvalidModel(f"{op.place}.{name}", f"a subgraph in [0, {len(graphs)})", str(index), source)
                _check_operands(op, name, graphs[index], source)
    done: set[int] = set()
    for graph in graphs:
        _check_ends(graph.index, graphs, (), done, source)


def _check_operands(op: Op, name: str, called: Graph, source: str) -> None:
    n_in, n_out = len(op.inputs), len(op.outputs)
    match name:
        case "then_subgraph_index" | "else_subgraph_index":
            n_in -= 1
        case "cond_subgraph_index":
            n_out = 1
        case "init_subgraph_index":
            n_in = n_out = 0
    found = len(called.inputs), len(called.outputs)
    if found != (n_in, n_out):
        raise InvalidModel(
            f"{op.place}.{name}",
            f"a subgraph with {n_in} inputs and {n_out} outputs",
            f"{called.place} with {found[0]} and {found[1]}",
            source,
        )


def _check_ends(index: int, graphs: Sequence[Graph], path: tuple[int, ...], done: set[int], source: str) -> None:
    if index in done:
        return
    if index in path:
        raise InvalidModel(
            f"subgraphs[{index}]",
            "subgraphs that don't call themselves",
            f"a cycle over {list(path)}",
            source,
        )
    for op in graphs[index].ops:
        for called in called_graphs(op).values():
            _check_ends(called, graphs, (*path, index), done, source)
    done.add(index)
