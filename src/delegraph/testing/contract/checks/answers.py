"""Right answers, compared with the reference kernels: integers to the bit, floats within the ops' bounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from delegraph.core.abi.values import Verdict
from delegraph.core.errors import DelegraphError
from delegraph.core.graph.dtype import DType
from delegraph.core.ops.opdef import Operand, Result
from delegraph.testing.contract import cases, glue
from delegraph.testing.contract.cases import Piece
from delegraph.testing.contract.check import check
from delegraph.testing.contract.expected import expectation
from delegraph.testing.contract.finding import skip
from delegraph.testing.contract.sketch import Shape, Sketch, Specimen, UnusableSketch
from delegraph.testing.contract.subject import USUAL_SHAPE, Subject

AT_MOST = 24
"""How many ops of a kind are tried."""

PER_GRAPH = 12

SHAPES: tuple[Shape, ...] = ((), (1,), (0, 3), (1, 3, 5, 7), (1, 1, 1, 131))


@check(
    "answers.plain",
    "A graph with several outputs, a shared constant and tensors read more than once is computed right.",
)
def plain(subject: Subject) -> None:
    lane = subject.bench().lane()
    for k in range(3):
        lane.check(k, f"feed {k}")


@check("answers.float", "Every float op that the device says YES to is within the op's bound.")
def floats(subject: Subject) -> None:
    _ops(subject, "float")


@check("answers.quantized", "Every quantized op that the device says YES to equals the reference to the bit.")
def quantized(subject: Subject) -> None:
    _ops(subject, "quantized")


@check("answers.integer", "Every integer or boolean op that the device says YES to equals the reference to the bit.")
def integer(subject: Subject) -> None:
    _ops(subject, "integer")


def _ops(subject: Subject, kind: str) -> None:
    found = subject.pieces(kind)
    if not found:
        skip(f"the device says YES to no {kind} op that was tried")
    order = np.random.default_rng(17).permutation(len(found))
    chosen = cases.with_data([found[int(i)] for i in order], AT_MOST)
    for start in range(0, len(chosen), PER_GRAPH):
        for specimen in _accepted(subject, chosen[start : start + PER_GRAPH]):
            lane = subject.bench(specimen).lane()
            for k in range(2):
                lane.check(k, f"feed {k}")


def _accepted(subject: Subject, some: Sequence[Piece]) -> Iterator[Specimen]:
    """These ops in as few graphs as check() takes."""
    specimen = cases.bundle(some)
    if subject.takes(specimen):
        yield specimen
    elif len(some) > 1:
        middle = len(some) // 2
        yield from _accepted(subject, some[:middle])
        yield from _accepted(subject, some[middle:])


@check(
    "answers.deviating", "An op that DEVIATES is near the reference all the same: another rounding, not another result."
)
def deviating(subject: Subject) -> None:
    exact = {piece.case for piece in subject.pieces()}
    found = [piece for piece in subject.pieces(None, Verdict.DEVIATES) if piece.case not in exact]
    if not found:
        skip("the device deviates on no op that was tried")
    for specimen in _accepted(subject, cases.with_data(found, PER_GRAPH)):
        subject.bench(specimen).check_once()


@check("answers.graphs_float", "Generated float graphs (chains, diamonds, forks, joins) are computed right.")
def graphs_float(subject: Subject) -> None:
    _graphs(subject, ["float32"], "float")


@check("answers.graphs_quantized", "Generated quantized graphs (chains, diamonds, forks, joins) are computed right.")
def graphs_quantized(subject: Subject) -> None:
    _graphs(subject, ["int8", "uint8", "int16"], "quantized")


def _graphs(subject: Subject, names: Sequence[str], kind: str) -> None:
    n_tried = 0
    for name in names:
        palette = subject.palette(name)
        if palette:
            kind_of = glue.type_of(name, USUAL_SHAPE)
            some = [glue.chain(palette, kind_of), *(glue.random_graph(palette, kind_of, seed) for seed in (1, 2))]
            for specimen in [s for s in some if subject.takes(s, Verdict.YES)]:
                _check(subject, specimen)
                n_tried += 1
            break
    for specimen in _woven(subject, kind):
        _check(subject, specimen)
        n_tried += 1
    if not n_tried:
        skip(f"the device says YES to no {kind} op that graphs are made of")


def _check(subject: Subject, specimen: Specimen) -> None:
    lane = subject.bench(specimen).lane()
    for k in range(2):
        lane.check(k, f"feed {k}")


def _woven(subject: Subject, kind: str, at_most: int = 2) -> Iterator[Specimen]:
    """Cases of ops in the middle of a graph: what they read is made by an op before them, and read once more behind."""
    n_found = 0
    for piece in subject.pieces(kind):
        if n_found == at_most:
            return
        for slot, operand in enumerate(piece.case.inputs):
            if operand is None or operand.constant or not _may_be_anything(operand):
                continue
            specimen = _around(subject, piece, slot)
            if specimen is not None:
                n_found += 1
                yield specimen
            break


def _may_be_anything(operand: Operand) -> bool:
    """Whether any value will do: reals and quantized numbers, not indices and shapes."""
    return operand.dtype is None and (operand.data.dtype == np.float32 or operand.quantization is not None)


def _around(subject: Subject, piece: Piece, slot: int) -> Specimen | None:
    operand = piece.case.inputs[slot]
    assert operand is not None
    sketch = Sketch(f"{piece.op.name} between other ops")
    try:
        result = Result(DType.of(operand.data.dtype), operand.quantization)
        a = sketch.input(operand.data.shape, result.dtype, result.quantization)
        b = sketch.input(operand.data.shape, result.dtype, result.quantization)
        (t,) = sketch.op("MAXIMUM" if operand.quantization is not None else "ADD", [a, b], [result])
        sketch.case(piece.op, piece.case, piece.makes, {slot: t})
        sketch.op("MINIMUM", [t, b], [result])
        specimen = sketch.specimen()
        expectation(specimen, specimen.feed(0))
    except (UnusableSketch, DelegraphError):  # the op wants other values there, or other neighbours
        return None
    return specimen if subject.takes(specimen, Verdict.YES) else None


@check("answers.shapes", "Scalars, empty tensors and odd sizes are computed right wherever the device takes them.")
def shapes(subject: Subject) -> None:
    n_tried = 0
    for name in glue.TYPES:
        palette = subject.palette(name)
        if palette:
            for shape in SHAPES:
                specimen = glue.pair(palette, glue.type_of(name, shape))
                if subject.takes(specimen, Verdict.YES):
                    subject.bench(specimen).check_once()
                    n_tried += 1
            break
    if not n_tried:
        skip("the device says YES to no op that such graphs are made of")
