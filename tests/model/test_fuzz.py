"""Damaged models: for a few seconds in the everyday run, longer with DELEGRAPH_FUZZ_SECONDS."""

from __future__ import annotations

import os
import random

import pytest
from tools.fuzz_reader import cases, fuzz, seeds


def test_damaged_models_are_refused_or_read() -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seed = random.SystemRandom().randrange(2**32)
    seconds = float(os.environ.get("DELEGRAPH_FUZZ_SECONDS", "5"))
    n_cases, _, failures = fuzz(seconds, seed, seeds())
    again = f"again: python -m tools.fuzz_reader --seed {seed} --seconds {seconds}"
    assert not failures, f"{len(failures)} of {n_cases} cases; {again}\n{failures[0].reason}"
    assert n_cases > 10 * seconds, f"only {n_cases} cases in {seconds} s"
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mib < 256, f"{grown_mib:.0f} MiB; {again}"


def test_cases_depend_on_seed_and_number_only() -> None:
    models = seeds()[:2]
    first, second = ([data for _, data in zip(range(20), cases(7, models), strict=False)] for _ in range(2))
    assert first == second
    assert len({data for _, data in first}) > 15
