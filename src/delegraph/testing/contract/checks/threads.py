"""Threads: a Delegate, a Device and a Program serve several at once, a Context one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable

from delegraph.testing.contract.check import check
from delegraph.testing.contract.execution import WAIT_S
from delegraph.testing.contract.finding import Broken, Skipped, expect, fail
from delegraph.testing.contract.packs import KeptPacks
from delegraph.testing.contract.subject import Subject

N_THREADS = 4
N_RUNS = 12


def at_once(work: Callable[[int], None]) -> None:
    """``work(i)`` on several threads that start together. Raises what the first of them raised."""
    start = threading.Barrier(N_THREADS)
    problems: list[Exception] = []

    def body(i: int) -> None:
        try:
            start.wait(WAIT_S)
            work(i)
        except Exception as exc:
            problems.append(exc)

    threads = [threading.Thread(target=body, args=(i,), daemon=True) for i in range(N_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * WAIT_S)
    if any(thread.is_alive() for thread in threads):
        fail(f"not ended after {2 * WAIT_S:g} s")
    for problem in problems:
        if isinstance(problem, Broken | Skipped):
            raise problem
        fail(f"on one of {N_THREADS} threads: {type(problem).__name__}: {problem}")


@check("threads.contexts", "Contexts of one program run on several threads at once.")
def contexts(subject: Subject) -> None:
    bench = subject.bench()
    lanes = [bench.lane() for _ in range(N_THREADS)]
    for k in range(N_THREADS):
        bench.expected(k)

    def work(i: int) -> None:
        for _ in range(N_RUNS):
            lanes[i].check(i, f"on one of {N_THREADS} threads")

    at_once(work)


@check("threads.programs", "Several programs of a device run on several threads at once.")
def programs(subject: Subject) -> None:
    specimen = subject.workbench()
    benches = [subject.bench(specimen) for _ in range(N_THREADS)]

    def work(i: int) -> None:
        lane = benches[i].lane()
        for k in range(N_RUNS // 2):
            lane.check((i + k) % 5, f"a program for each of {N_THREADS} threads")

    at_once(work)


@check("threads.device", "A device compiles, loads, allocates and answers on several threads at once.")
def device(subject: Subject) -> None:
    specimen = subject.workbench()
    view = specimen.view
    verdicts = [answer.verdict for answer in subject.answers(view)]

    def work(i: int) -> None:
        same = [answer.verdict for answer in subject.device.supports(view)] == verdicts
        expect(same, "supports() says something else on another thread")
        packs = KeptPacks()
        artifact = subject.device.compile(specimen.segment, packs, {})
        subject.device.load(artifact, specimen.segment, packs).close()
        subject.bench(specimen).check_once(i, "compiled and loaded while other threads did so too")

    at_once(work)


@check("threads.moved", "A context may be used by one thread after the other.")
def moved(subject: Subject) -> None:
    lane = subject.bench().lane()
    lane.check(0)
    turn = threading.Lock()

    def work(i: int) -> None:
        with turn:
            lane.check(i, "on another thread than the one that made the context")

    at_once(work)
