"""``dg.load`` and ``dg.compile``: from a file to a model that runs. Composition only."""

from __future__ import annotations

import os
from collections.abc import Sequence

from delegraph.compiled import FALLBACKS, CompiledModel, open_devices
from delegraph.core.errors import InvalidArgument, UnsupportedOp
from delegraph.core.graph.build import build
from delegraph.core.graph.graph import GraphSet
from delegraph.core.model.model import Model
from delegraph.core.model.reader import read
from delegraph.core.ops.prepare import prepare
from delegraph.core.ops.support import op_support

Source = Model | str | os.PathLike[str] | bytes | bytearray | memoryview


def load(source: Source) -> Model:
    """Reads a model: a path (the file is mapped), or its bytes.

    Raises:
        InvalidModel: the bytes are no valid TFLite model.
        OSError: the file can't be read.
    """
    return source if isinstance(source, Model) else read(source)


def compile(
    model: Source,
    *,
    devices: str | Sequence[str] = "cpu",
    numerics: str = "exact",
    threads: int | None = None,
    fallback: str = "allow",
    preserve_all_tensors: bool = False,
    plan: bool = True,
) -> CompiledModel:
    """A model ready to run.

    Args:
        model: a path, bytes, or what ``load`` returned.
        devices: device ids in order of preference; the reference device stands under them.
        numerics: "exact": integers bit-identical to LiteRT's reference kernels, floats within each op's bound;
            "fast": devices that round otherwise are taken too.
        threads: how many threads the CPU may use; None for all. (The reference device computes in NumPy, whose
            threads are set by its BLAS library's own environment variables.)
        fallback: "allow": what a device can't do, the next one does, and the record says so; "error": a typed error.
        preserve_all_tensors: keep every tensor of the main graph readable after a run.
        plan: plan the main graph now, for the shapes in the file; otherwise at the first call.

    Raises:
        InvalidModel: the model breaks a rule of the format, or its operands don't fit together.
        UnsupportedOp: an op that nothing here can run; names all of them.
        InvalidArgument: an argument out of its range.
    """
    if numerics not in ("exact", "fast"):
        raise InvalidArgument("numerics", "'exact' or 'fast'", repr(numerics))
    if fallback not in FALLBACKS:
        raise InvalidArgument("fallback", "'allow' or 'error'", repr(fallback))
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise InvalidArgument("threads", "a whole number of at least 1, or None", repr(threads))
    graphs = prepare(build(load(model)))
    check_ops(graphs)
    opened, unavailable = open_devices(devices, fallback=fallback)
    keep = (
        frozenset(i for op in graphs.main.all_ops for i in op.outputs if i >= 0)
        if preserve_all_tensors
        else frozenset()
    )
    compiled = CompiledModel(graphs, opened, unavailable, keep=keep)
    if plan:
        compiled.plan_main()
    return compiled


def check_ops(graphs: GraphSet) -> None:
    """Raises UnsupportedOp for the first op that can't run whatever its operands are, with a count of the others."""
    found = [
        (op, problem)
        for graph in graphs.graphs
        for op in graph.ops
        if (problem := op_support(op)) is not None
    ]
    if not found:
        return
    op, problem = found[0]
    others = sorted({other.name for other, _ in found[1:]} - {op.name})
    advice = problem.advice
    if others:
        advice = "; ".join(filter(None, [advice, f"also without a kernel: {', '.join(others)}"]))
    raise UnsupportedOp(op.place, op.name, problem.reason, advice)
