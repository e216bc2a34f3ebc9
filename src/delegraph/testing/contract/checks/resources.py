"""Memory of the process: what was opened, compiled and run is given back."""

from __future__ import annotations

import gc
import os
from pathlib import Path

from delegraph.testing.contract.check import check
from delegraph.testing.contract.execution import Bench
from delegraph.testing.contract.finding import expect, skip
from delegraph.testing.contract.packs import KeptPacks
from delegraph.testing.contract.subject import Subject

WARM_ROUNDS = 6
ROUNDS = 16
PER_ROUND_BYTES = 1 << 20
"""What each round allocates besides."""


@check("resources.given_back", "Opening, compiling, running and closing again and again does not fill the memory.")
def given_back(subject: Subject) -> None:
    if not Path("/proc/self/statm").is_file():
        skip("this system does not tell how much memory a process has")
    specimen = subject.workbench()
    is_loose = subject.is_loose(specimen)

    def once() -> None:
        device = subject.open()
        buffer = device.allocate(PER_ROUND_BYTES)
        view = buffer.host_view()
        if view is not None:
            view[:] = 1
        bench = Bench.make(device, specimen, KeptPacks(), is_loose=is_loose)
        for _ in range(2):
            bench.lane().run(0)
        bench.close()
        del buffer, view, bench
        subject.close(device)

    for _ in range(WARM_ROUNDS):
        once()
    before = _resident_bytes()
    for _ in range(ROUNDS):
        once()
    grown = _resident_bytes() - before
    limit = ROUNDS * PER_ROUND_BYTES // 2
    expect(grown < limit, f"{grown / 1e6:.1f} MB more after {ROUNDS} rounds that each hold about 1 MB")


def _resident_bytes() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
