"""Artifacts: through bytes, into another process, damaged, foreign, without their packs."""

from __future__ import annotations

import mmap

import numpy as np

from delegraph.core.abi.values import Artifact, DelegateError, ErrorCode
from delegraph.testing.contract import spawning
from delegraph.testing.contract.check import check
from delegraph.testing.contract.execution import Bench
from delegraph.testing.contract.finding import expect, fail, skip
from delegraph.testing.contract.packs import KeptPacks
from delegraph.testing.contract.subject import Subject

N_FLIPS = 64


def _bench(subject: Subject) -> Bench:
    return subject.bench(subject.weighted())


def _kept(bench: Bench) -> KeptPacks:
    assert isinstance(bench.packs, KeptPacks)
    return KeptPacks(bench.packs.kept)


def _refused_or_right(bench: Bench, artifact: Artifact, packs: KeptPacks, what: str) -> bool:
    """Whether load() refused. Fails the check for another error, and for a program that is wrong."""
    try:
        loaded = bench.loaded(artifact, packs)
    except DelegateError as exc:
        if exc.code is not ErrorCode.ARTIFACT_REFUSED:
            fail(f"{what}: load() fails with {exc.code.name}, not with ARTIFACT_REFUSED: {exc}")
        return True
    except Exception as exc:
        fail(f"{what}: load() raised {type(exc).__name__}, not ARTIFACT_REFUSED: {exc}")
    try:
        problem = loaded.complaint(loaded.lane().run(0), 0)
    except DelegateError as exc:
        fail(f"{what}: load() took it, and its run fails: {exc}")
    if problem:
        fail(f"{what}: load() took it, and it gives wrong answers: {problem}")
    return False


@check("artifact.round_trip", "An artifact loads from a copy of its bytes, and gives the right answers.")
def round_trip(subject: Subject) -> None:
    bench = _bench(subject)
    found = bench.artifact
    copy = Artifact(found.format, bytes(found.payload), tuple(found.packs))
    bench.loaded(copy, _kept(bench)).check_once(when="loaded from a copy of its bytes")


@check("artifact.mapped", "An artifact loads from read-only mapped memory, is left as it is, and may be loaded twice.")
def mapped(subject: Subject) -> None:
    bench = _bench(subject)
    payload = bytes(bench.artifact.payload)
    memory = mmap.mmap(-1, max(1, len(payload)))
    memory.write(payload)
    view = memoryview(memory).toreadonly()[: len(payload)]
    artifact = Artifact(bench.artifact.format, view, bench.artifact.packs)
    for when in ("loaded from mapped memory", "loaded from it once more"):
        bench.loaded(artifact, _kept(bench)).check_once(when=when)
    expect(bytes(view) == payload, "the payload was changed")


@check("artifact.new_process", "An artifact loads in another process, and gives the right answers there.", spawns=True)
def new_process(subject: Subject) -> None:
    bench = _bench(subject)
    bench.close()
    subject.close(subject.device)  # hardware may be open only once
    outputs = spawning.run_artifact(subject, bench)
    problem = bench.complaint(outputs, 0)
    expect(not problem, f"in another process: {problem}")


@check("artifact.damaged", "An artifact with a changed byte is refused (ARTIFACT_REFUSED), or works all the same.")
def damaged(subject: Subject) -> None:
    bench = _bench(subject)
    payload = bytes(bench.artifact.payload)
    if not payload:
        skip("the payload is empty")
    rng = np.random.default_rng(11)
    drawn = rng.permutation(len(payload))[:N_FLIPS]
    for position in sorted({0, len(payload) - 1, *map(int, drawn)}):
        changed = bytearray(payload)
        changed[position] ^= 1 << int(rng.integers(8))
        artifact = Artifact(bench.artifact.format, bytes(changed), bench.artifact.packs)
        _refused_or_right(bench, artifact, _kept(bench), f"byte {position} of {len(payload)} changed")


@check("artifact.truncated", "An artifact that ends too early is refused (ARTIFACT_REFUSED), or works all the same.")
def truncated(subject: Subject) -> None:
    bench = _bench(subject)
    payload = bytes(bench.artifact.payload)
    if not payload:
        skip("the payload is empty")
    for size in sorted({0, 1, 4, 16, len(payload) // 2, len(payload) - 1}):
        if size < len(payload):
            artifact = Artifact(bench.artifact.format, payload[:size], bench.artifact.packs)
            _refused_or_right(bench, artifact, _kept(bench), f"cut to {size} of {len(payload)} bytes")


@check(
    "artifact.foreign",
    "An artifact of another format or maker is refused (ARTIFACT_REFUSED), or works all the same.",
)
def foreign(subject: Subject) -> None:
    bench = _bench(subject)
    noise = np.random.default_rng(12).integers(0, 256, 777, np.uint8).tobytes()
    own = bench.artifact
    for what, artifact in (
        ("another format", Artifact(f"{own.format}.other", bytes(own.payload), own.packs)),
        ("noise in its own format", Artifact(own.format, noise, own.packs)),
        ("noise in another format", Artifact("other-7", noise)),
        ("another maker's text", Artifact(own.format, b"\x7fELF or something like it" * 9, own.packs)),
    ):
        _refused_or_right(bench, artifact, _kept(bench), what)


@check(
    "artifact.other_segment", "The artifact of another segment is refused (ARTIFACT_REFUSED), or works all the same."
)
def other_segment(subject: Subject) -> None:
    bench, other = subject.bench(), _bench(subject)
    if bench.specimen is other.specimen or bench.specimen.name == other.specimen.name:
        skip("the device takes one kind of graph only")
    kept = KeptPacks({**_kept(bench).kept, **_kept(other).kept})
    _refused_or_right(bench, other.artifact, kept, "the artifact of another segment")


@check("artifact.missing_pack", "load() without one of its packs fails with ARTIFACT_REFUSED, or works all the same.")
def missing_pack(subject: Subject) -> None:
    bench = _bench(subject)
    if not bench.artifact.packs:
        skip("the artifact needs no packs")
    _refused_or_right(bench, bench.artifact, KeptPacks(is_lost=True), "no pack is there")
