"""Every case that the OpDefs declare, on every target that this machine has: the delegate agrees or gives a reason."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.delegates.agreement import SKIPPED, all_cases, check

from delegraph.core.abi.values import Support, Verdict
from delegraph.delegates.cpu import CpuDelegate, isa
from delegraph.delegates.cpu.ops import registry

pytest.importorskip("llvmlite")

OPS = sorted({entry.op for entry in registry.all_lowerings()})
BEST = [t.name for t in isa.host_targets()[:1]]
LOWER = [t.name for t in isa.host_targets()[1:]]


def _check(op_name: str, target: str, seeds: tuple[int, ...]) -> None:
    device = CpuDelegate().open("cpu", {"isa": target})
    outcomes: Counter[str] = Counter()
    for op, case in all_cases(seeds, op_name):
        verdict = check(device, op, case)
        if isinstance(verdict, Support):
            assert verdict.verdict is Verdict.NO and verdict.constraint and verdict.reason
            outcomes["refused"] += 1
        else:
            assert verdict.outcome in ("same", SKIPPED), f"{case.name}: {verdict.detail}"
            outcomes[verdict.outcome] += 1
    assert outcomes["same"], f"no case ran: {outcomes}"


@pytest.mark.parametrize("target", BEST)
@pytest.mark.parametrize("op", OPS)
def test_agrees_with_the_reference(op: str, target: str) -> None:
    _check(op, target, (0,))


@pytest.mark.parametrize("target", LOWER)
@pytest.mark.parametrize("op", ["ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "LOGISTIC", "MEAN"])
def test_agrees_on_lower_targets(op: str, target: str) -> None:
    _check(op, target, (1,))


@pytest.mark.by_hand
@pytest.mark.parametrize("target", BEST + LOWER)
@pytest.mark.parametrize("op", OPS)
def test_agrees_at_length(op: str, target: str) -> None:
    _check(op, target, tuple(range(2, 8)))
