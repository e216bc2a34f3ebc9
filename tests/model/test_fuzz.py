"""Damaged models: for a few seconds in the everyday run, longer with DELEGRAPH_FUZZ_SECONDS."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
from tools.fuzz_reader import cases, seeds

FUZZ = """
import resource, sys
from tools.fuzz_reader import fuzz, seeds

def peak_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

models = seeds()
before = peak_kib()
n_cases, _, failures = fuzz(float(sys.argv[1]), int(sys.argv[2]), models)
print(n_cases, len(failures), (peak_kib() - before) // 1024)
print(failures[0].reason if failures else "")
"""
"""In a process of its own, whose memory nothing else fills."""


def test_damaged_models_are_refused_or_read() -> None:
    pytest.importorskip("resource")
    seed = random.SystemRandom().randrange(2**32)
    seconds = float(os.environ.get("DELEGRAPH_FUZZ_SECONDS", "5"))
    command = [sys.executable, "-c", FUZZ, str(seconds), str(seed)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=seconds + 120)
    again = f"again: python -m tools.fuzz_reader --seed {seed} --seconds {seconds}"
    assert done.returncode == 0, f"{done.stderr}\n{again}"
    figures, _, reason = done.stdout.partition("\n")
    n_cases, n_failures, grown_mib = map(int, figures.split())
    assert n_cases and not n_failures, f"{n_failures} of {n_cases} cases; {again}\n{reason}"
    assert grown_mib < 256, f"{grown_mib} MiB; {again}"


def test_cases_depend_on_seed_and_number_only() -> None:
    models = seeds()[:2]
    first, second = ([data for _, data in zip(range(20), cases(7, models), strict=False)] for _ in range(2))
    assert first == second
    assert len({data for _, data in first}) > 15
