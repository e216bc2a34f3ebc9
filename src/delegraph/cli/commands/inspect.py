"""``delegraph inspect``: what is in a model, and what of it nothing here can run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from delegraph.cli import render
from delegraph.cli.options import Whole, import_option
from delegraph.cli.settings import Settings, common_options

if TYPE_CHECKING:
    from delegraph.cli.inspection import OpFacts
    from delegraph.cli.metadata import ModelMetadata
    from delegraph.core.graph.graph import Graph, GraphSet, Tensor
    from delegraph.core.model.model import Model


@click.command(short_help="Show what is in a model, and what can't run here.")
@click.argument("model")
@click.option("--ops", "with_ops", is_flag=True, help="List every op of the subgraph.")
@click.option("--tensors", "with_tensors", is_flag=True, help="List every tensor of the subgraph.")
@click.option("--subgraph", type=Whole(min=0), default=0, show_default=True, help="For --ops and --tensors.")
@import_option
@common_options
@click.pass_obj
def command(settings: Settings, model: str, with_ops: bool, with_tensors: bool, subgraph: int) -> None:
    """Show what is in MODEL: inputs, outputs, signatures, ops, constants, metadata.

    Ops that nothing here can run are listed with the reason. Nothing is run.
    """
    from delegraph.cli.inspection import op_facts
    from delegraph.cli.models import load_model, metadata_of
    from delegraph.core.errors import InvalidArgument
    from delegraph.core.graph.build import build

    settings.model = model
    file = load_model(model)
    about, warnings = metadata_of(file)
    for text in warnings:
        render.warn(text)
    with render.status("reading the ops"):
        graphs = build(file)
        if subgraph >= len(graphs.graphs):
            last = len(graphs.graphs) - 1
            raise InvalidArgument("--subgraph", f"a number up to {last}", str(subgraph), "--subgraph 0")
        facts = op_facts(graphs)
    report = _report(model, file, graphs, facts, about)
    graph = graphs.graphs[subgraph]
    if settings.as_json:
        render.write_json(report | _listings(graph, facts, with_ops, with_tensors))
        return
    _show(report, graphs)
    if with_ops:
        _show_ops(graph, facts)
    if with_tensors:
        _show_tensors(graph)


def _report(path: str, model: Model, graphs: GraphSet, facts: list[OpFacts], about: ModelMetadata) -> dict[str, Any]:
    """What ``--json`` writes without --ops and --tensors; documented in docs/cli.md."""
    from delegraph.cli.inspection import constant_bytes, histogram, refusals, total_macs

    main = graphs.main
    macs, n_unknown = total_macs(facts)
    metadata = model.metadata
    runtime = metadata.get("min_runtime_version")
    return {
        "model": path,
        "file_bytes": os.path.getsize(path),
        "schema_version": int(model.root.version),
        "description": model.root.description or None,
        "min_runtime_version": None if runtime is None else runtime.tobytes().rstrip(b"\0").decode(errors="replace"),
        "inputs": [_tensor(main.tensors[i]) for i in main.inputs],
        "outputs": [_tensor(main.tensors[i]) for i in main.outputs],
        "signatures": [_signature(graphs, key) for key in graphs.signatures],
        "subgraphs": [_subgraph(graph, facts) for graph in graphs.graphs],
        "n_buffers": len(model.buffers),
        "constant_bytes": constant_bytes(graphs),
        "macs": macs,
        "n_ops_without_macs": n_unknown,
        "ops": [kind.to_json() for kind in histogram(facts)],
        "unsupported": [refusal.to_json() for refusal in refusals(facts)],
        "metadata": {name: len(data) for name, data in metadata.items()},
        "about": {key: getattr(about, key) or None for key in ("name", "description", "version", "author", "license")},
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    from delegraph.cli.tensors import quantization_json

    return {
        "name": tensor.name,
        "index": tensor.index,
        "dtype": str(tensor.dtype),
        "shape": list(tensor.shape_signature),
        "quantization": quantization_json(tensor.quantization),
    }


def _signature(graphs: GraphSet, key: str) -> dict[str, Any]:
    signature = graphs.signatures[key]
    tensors = graphs.graphs[signature.graph].tensors

    def named(indices: Any) -> list[dict[str, Any]]:
        return [{**_tensor(tensors[i]), "name": name} for name, i in indices.items()]

    return {
        "key": key,
        "subgraph": signature.graph,
        "inputs": named(signature.inputs),
        "outputs": named(signature.outputs),
    }


def _subgraph(graph: Graph, facts: list[OpFacts]) -> dict[str, Any]:
    from delegraph.cli.inspection import total_macs

    macs, n_unknown = total_macs(facts, graph.index)
    return {
        "index": graph.index,
        "name": graph.name,
        "n_ops": len(graph.ops),
        "n_tensors": len(graph.tensors),
        "macs": macs,
        "n_ops_without_macs": n_unknown,
    }


def _listings(graph: Graph, facts: list[OpFacts], with_ops: bool, with_tensors: bool) -> dict[str, Any]:
    from delegraph.cli.inspection import tensor_json

    found: dict[str, Any] = {}
    if with_ops:
        found["op_list"] = [each.to_json() for each in facts if each.graph == graph.index]
    if with_tensors:
        found["tensor_list"] = [tensor_json(graph, tensor) for tensor in graph.tensors]
    return found


def _show(report: dict[str, Any], graphs: GraphSet) -> None:
    about = report["about"]
    n_unknown = report["n_ops_without_macs"]
    complete = f" at least, not known for {n_unknown} op{'s' if n_unknown > 1 else ''}" if n_unknown else ""
    constants = ", ".join(f"{dtype} {render.size(n)}" for dtype, n in report["constant_bytes"].items())
    subgraphs = report["subgraphs"]
    render.pairs(
        [
            ("model", report["model"]),
            ("file", f"{render.size(report['file_bytes'])}, schema version {report['schema_version']}"),
            ("description", report["description"]),
            ("needs runtime", report["min_runtime_version"]),
            ("name", about["name"]),
            ("about", about["description"]),
            ("version", about["version"]),
            ("author", about["author"]),
            ("licence", about["license"]),
            ("subgraphs", len(subgraphs)),
            ("ops", sum(each["n_ops"] for each in subgraphs)),
            ("tensors", sum(each["n_tensors"] for each in subgraphs)),
            ("buffers", report["n_buffers"]),
            ("constants", constants),
            ("MACs", f"{render.count(report['macs'])}{complete}"),
            ("metadata", ", ".join(f"{name} ({render.size(n)})" for name, n in report["metadata"].items())),
        ]
    )
    _show_ports(graphs)
    _show_kinds(report["ops"])
    _show_unsupported(report["unsupported"])


def _show_ports(graphs: GraphSet) -> None:
    from delegraph.cli.tensors import quantization_text

    columns = ("", "name", "type", "shape", "real value")

    def rows(kind: str, graph: Graph, named: list[tuple[str, int]]) -> list[tuple[str, ...]]:
        tensors = [(name, graph.tensors[i]) for name, i in named]
        return [
            (kind, name, str(t.dtype), render.shape(t.shape_signature), quantization_text(t.quantization))
            for name, t in tensors
        ]

    main = graphs.main
    render.line()
    render.table(
        columns,
        rows("input", main, [(main.tensors[i].name, i) for i in main.inputs])
        + rows("output", main, [(main.tensors[i].name, i) for i in main.outputs]),
    )
    for key, signature in graphs.signatures.items():
        render.line()
        render.heading(f"signature {key!r}, subgraph {signature.graph}")
        graph = graphs.graphs[signature.graph]
        render.table(
            columns,
            rows("input", graph, list(signature.inputs.items()))
            + rows("output", graph, list(signature.outputs.items())),
        )


def _show_kinds(kinds: list[dict[str, Any]]) -> None:
    render.line()
    rows = [
        (
            kind["count"],
            kind["name"] + (" (custom)" if kind["is_custom"] else ""),
            kind["types"],
            "-".join(map(str, sorted(set(kind["versions"])))),
            render.count(kind["macs"]) if kind["macs"] else "",
            "yes" if kind["is_supported"] else "no",
        )
        for kind in kinds
    ]
    columns = ("ops", "name", "types", "version", "MACs", "runs here")
    render.table(columns, rows, right=("ops", "version", "MACs"))


def _show_unsupported(found: list[dict[str, Any]]) -> None:
    if not found:
        return
    render.line()
    render.heading("ops that nothing here can run")
    rows = [(each["count"], each["name"], each["reason"], each["advice"]) for each in found]
    render.table(("ops", "name", "reason", "what to do"), rows, right=("ops",))
    if any("register_op" in (each["advice"] or "") for each in found):
        render.line("a file that registers ops of your own is run with --import FILE")


def _show_ops(graph: Graph, facts: list[OpFacts]) -> None:
    render.line()
    render.heading(f"ops of subgraph {graph.index}")
    rows = [
        (
            each.op.index,
            each.op.name,
            each.op.version,
            " ".join("-" if i < 0 else str(i) for i in each.op.inputs),
            " ".join(map(str, each.op.outputs)),
            each.types,
            "?" if each.macs is None else render.count(each.macs),
            "no" if each.reason else "yes",
        )
        for each in facts
        if each.graph == graph.index
    ]
    columns = ("op", "name", "version", "inputs", "outputs", "types", "MACs", "runs here")
    render.table(columns, rows, right=("op", "version", "MACs"))


def _show_tensors(graph: Graph) -> None:
    from delegraph.cli.inspection import tensor_role
    from delegraph.cli.tensors import quantization_text

    render.line()
    render.heading(f"tensors of subgraph {graph.index}")
    rows = [
        (
            t.index,
            t.name,
            str(t.dtype),
            render.shape(t.shape_signature),
            tensor_role(graph, t, graph.consumers),
            "" if t.data is None else render.size(t.data.size),
            quantization_text(t.quantization),
        )
        for t in graph.tensors
    ]
    columns = ("tensor", "name", "type", "shape", "role", "constant", "real value")
    render.table(columns, rows, right=("tensor", "constant"))
