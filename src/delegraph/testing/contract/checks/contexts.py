"""Contexts and programs: many runs, side by side, one after the other."""

from __future__ import annotations

import gc
import time
import weakref

from delegraph.core.graph.graph import Array
from delegraph.testing.contract.check import check
from delegraph.testing.contract.execution import wait
from delegraph.testing.contract.finding import expect, skip
from delegraph.testing.contract.subject import Subject

N_RUNS = 40
LETTING_GO_S = 2.0
"""How long memory may still be held after the call that lets go of it: a thread of the device's may be ending."""


@check("context.many_runs", "A context runs any number of times, each time with the right answers.")
def many_runs(subject: Subject) -> None:
    lane = subject.bench().lane()
    for i in range(N_RUNS):
        lane.check(i % 5, f"run {i}")


@check("context.same_bits", "The same inputs give the same bits, run after run and in every context.")
def same_bits(subject: Subject) -> None:
    bench = subject.bench()
    one, two = bench.lane(), bench.lane()
    first = [a.tobytes() for a in one.run(0)]
    for where, lane in (("in the same context", one), ("in another context", two)):
        lane.run(1)
        for i, (a, b) in enumerate(zip(first, lane.run(0), strict=True)):
            expect(a == b.tobytes(), f"output {i} differs {where}")


@check(
    "context.unbind", "Memory that was bound is let go by unbind(), else by the next bind(); bound again, it computes."
)
def unbind(subject: Subject) -> None:
    lane = subject.bench().lane()
    release = getattr(lane.context, "unbind", None)
    is_late = False
    for k in range(3):
        lane.check(k, "after unbind() and another binding" if k else "")
        if release is not None:
            release()
        imported = [weakref.ref(cell.image) for cell in (*lane.inputs, *lane.outputs) if cell.is_imported]
        lane.drop()
        is_late = is_late or not _all_die(imported, LETTING_GO_S if k == 0 else 0.0)
        lane.rebind()
        expect(_all_die(imported, LETTING_GO_S), "an array is still held after other memory was bound")
    if is_late:
        skip("the device lets go of an array only when another one is bound")


def _all_die(arrays: list[weakref.ref[Array]], limit_s: float) -> bool:
    end = time.monotonic() + limit_s
    while any(array() is not None for array in arrays):
        gc.collect()
        if time.monotonic() > end:
            return all(array() is None for array in arrays)
        time.sleep(0.001)
    return True


@check("context.apart", "Contexts of one program keep nothing in common: their runs may be interleaved.")
def apart(subject: Subject) -> None:
    bench = subject.bench()
    lanes = [bench.lane() for _ in range(3)]
    for k, lane in enumerate(lanes):
        lane.give(k)
    events = [lane.start() for lane in lanes]
    for event in events:
        wait(event)
    for k, lane in enumerate(lanes):
        lane.judge(lane.results(), k, f"context {k} of 3, started before the others were waited for")
    lanes[0].check(3)
    lanes[1].judge(lanes[1].results(), 1, "after a run of another context")


@check("program.apart", "Programs keep nothing in common: loading, running and closing one leaves the others at work.")
def program_apart(subject: Subject) -> None:
    first, second = subject.bench(), subject.bench(subject.weighted())
    lane, other = first.lane(), second.lane()
    lane.give(0)
    event = lane.start()
    other.check(0, "while another program runs")
    wait(event)
    lane.judge(lane.results(), 0, "while another program runs")
    second.close()
    third = subject.bench()
    lane.check(1, "after another program was closed")
    first.close()
    third.check_once(2, "after a program of the same segment was closed")
