"""compile(): what it takes, what it gives, and that two compilations agree."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from delegraph.core.abi.values import Artifact, DelegateError, ErrorCode, Verdict
from delegraph.core.graph.graph import Array
from delegraph.testing.contract import glue
from delegraph.testing.contract.check import check
from delegraph.testing.contract.execution import Bench
from delegraph.testing.contract.finding import expect, fail
from delegraph.testing.contract.packs import KeptPacks
from delegraph.testing.contract.sketch import Specimen
from delegraph.testing.contract.subject import Subject


def _specimens(subject: Subject) -> Iterator[Specimen]:
    """Graphs of several forms that the device takes."""
    yield subject.workbench()
    yield subject.weighted()
    for name in glue.TYPES:
        palette = subject.palette(name, Verdict.DEVIATES)
        if palette:
            kind = glue.type_of(name, (1, 3, 5, 7))
            candidates = [glue.chain(palette, kind, 1), glue.chain(palette, kind), glue.random_graph(palette, kind, 3)]
            yield from (specimen for specimen in candidates if subject.takes(specimen))
            return


@check("compile.accepts", "compile() takes every segment that supports() and check() take; load() takes what it gives.")
def accepts(subject: Subject) -> None:
    for specimen in _specimens(subject):
        packs = KeptPacks()
        try:
            artifact = subject.device.compile(specimen.segment, packs, {})
        except DelegateError as exc:
            fail(f"{specimen.name}, which check() takes: {exc}")
        try:
            subject.device.load(artifact, specimen.segment, packs).close()
        except DelegateError as exc:
            fail(f"{specimen.name} was compiled, and can't be loaded: {exc}")


@check(
    "compile.artifact",
    "compile() gives an Artifact: a format that is named, a payload of bytes, the names of its packs.",
)
def artifact_is_bytes(subject: Subject) -> None:
    bench = subject.bench(subject.weighted())
    found = bench.artifact
    expect(isinstance(found, Artifact), f"it gives {type(found).__name__}")
    expect(isinstance(found.format, str) and bool(found.format), f"format is {found.format!r}")
    expect(isinstance(found.payload, bytes | memoryview), f"payload is {type(found.payload).__name__}")
    names = found.packs
    expect(isinstance(names, tuple) and all(isinstance(n, str) and n for n in names), f"packs is {names!r}")
    expect(len(set(names)) == len(names), "packs has a name twice")


@check("compile.packs", "load() asks for no pack that the artifact does not name.")
def names_packs(subject: Subject) -> None:
    bench = subject.bench(subject.weighted())
    assert isinstance(bench.packs, KeptPacks)
    packs = KeptPacks(bench.packs.kept)
    bench.loaded(bench.artifact, packs)
    unnamed = sorted(set(packs.asked).difference(bench.artifact.packs))
    expect(not unnamed, f"it asked for {(unnamed or [''])[0]!r}; the artifact names {list(bench.artifact.packs)}")


@check(
    "compile.pack_names", "Packs of equal names have equal bytes: segments with other constants don't get each other's."
)
def pack_names(subject: Subject) -> None:
    first, *others = subject.look_alikes()
    for other in others:
        apart = KeptPacks(), KeptPacks()
        for specimen, packs in zip((first, other), apart, strict=True):
            subject.bench(specimen, packs=packs).close()
        one, two = (packs.bytes_of_all() for packs in apart)
        for name in one.keys() & two.keys():
            expect(one[name] == two[name], f"{name!r} has other bytes in a segment with other constants")
        for pair in ((first, other), (other, first)):
            shared = KeptPacks()
            benches = [Bench.make(subject.device, s, shared, is_loose=subject.is_loose(s)) for s in pair]
            when = "sharing packs with a segment that has other constants"
            for bench in (*benches, benches[0].loaded(benches[0].artifact, shared)):
                bench.check_once(when=when)


@check("compile.same_results", "Two compilations of a segment give programs with the same results, to the bit.")
def same_results(subject: Subject) -> None:
    specimen = subject.workbench()
    one = _outputs(subject, specimen)
    for when in ("the second compilation", "one after opening anew"):
        if when == "one after opening anew":
            subject.reopened()
        for i, (a, b) in enumerate(zip(one, _outputs(subject, specimen), strict=True)):
            same = a.tobytes() == b.tobytes()
            expect(same, f"{when} differs in output {i}, by at most {_distance(a, b)}")


def _outputs(subject: Subject, specimen: Specimen) -> list[Array]:
    bench = subject.bench(specimen)
    found = bench.lane().run(0)
    bench.close()
    return found


def _distance(a: Array, b: Array) -> float:
    with np.errstate(all="ignore"):
        return float(np.nanmax(np.abs(a.astype(np.float64) - b.astype(np.float64)), initial=0.0))


@check("compile.deadline", "With a deadline in the past compile() fails with TIMEOUT, or gives an artifact that works.")
def deadline(subject: Subject) -> None:
    specimen, packs = subject.workbench(), KeptPacks()
    try:
        artifact = subject.device.compile(specimen.segment, packs, {}, deadline=time.monotonic() - 1.0)
    except DelegateError as exc:
        expect(exc.code is ErrorCode.TIMEOUT, f"it failed with {exc.code.name}: {exc}")
        return
    program = subject.device.load(artifact, specimen.segment, packs)
    bench = Bench(subject.device, specimen, packs, artifact, program, subject.is_loose(specimen))
    bench.check_once(when="compiled with a deadline in the past")


@check("compile.leaves_segment", "compile(), load() and runs leave the segment's constants and the packs as they are.")
def leaves_segment(subject: Subject) -> None:
    specimen = subject.weighted()
    values = {
        (node.op.index, slot): spec.value
        for node in specimen.segment.nodes
        for slot, spec in enumerate(node.inputs)
        if spec is not None and spec.value is not None
    }
    before = {place: value.tobytes() for place, value in values.items()}
    bench = subject.bench(specimen)
    assert isinstance(bench.packs, KeptPacks)
    packs = bench.packs.bytes_of_all()
    lane = bench.lane()
    for k in range(2):
        lane.run(k)
        for (op, slot), value in values.items():
            expect(value.tobytes() == before[op, slot], f"operand {slot} of op {op}, a constant, was changed")
        for name, data in packs.items():
            expect(bench.packs.kept[name].tobytes() == data, f"the pack {name!r} was changed by a run")
