"""The suite is tested by delegates that each break one rule: the check of that rule notices, and no other has to."""

from __future__ import annotations

import pytest
from tests.contract import sound
from tests.contract.breakers import ANYTHING, BREAKERS, Breaker

from delegraph.testing.contract import Finding, all_checks
from delegraph.testing.contract.runner import run_task, selected, tasks

SLOW = {check.id for check in all_checks() if check.spawns}
"""Checks that are made only where a breaker is about them."""


def findings(breaker: Breaker) -> list[Finding]:
    delegate = breaker.make()
    checks = [check for check in all_checks() if check.id == breaker.check or check.id not in SLOW]
    name = f"tests.contract.breakers:{breaker.name}"
    return [run_task(delegate, task, name) for task in tasks(delegate, checks)]


@pytest.mark.parametrize("breaker", BREAKERS, ids=lambda b: b.name)
def test_it_is_caught_by_name(breaker: Breaker) -> None:
    found = {finding.check: finding.found for finding in findings(breaker) if finding.outcome == "failed"}
    assert breaker.check in found
    assert found[breaker.check]
    if breaker.also != ANYTHING:
        assert set(found) == {breaker.check} | breaker.also, found


def test_every_check_has_a_breaker() -> None:
    broken = {breaker.check for breaker in BREAKERS}
    assert {check.id for check in all_checks()} - broken == {
        "answers.plain",  # whatever is wrong there is wrong for one of the others' reasons
        "answers.integer",
        "answers.deviating",
        "answers.graphs_float",
        "answers.graphs_quantized",
        "state.delivered",  # see test_state
    }


@pytest.mark.parametrize("kind", ["SoundDelegate", "ApartDelegate", "ExclusiveDelegate", "LaterDelegate"])
def test_a_sound_delegate_breaks_nothing(kind: str) -> None:
    delegate = getattr(sound, kind)()
    name = f"tests.contract.sound:{kind}" if kind in ("SoundDelegate", "ExclusiveDelegate") else ""
    found = [run_task(delegate, task, name) for task in tasks(delegate, selected(None))]
    assert [(f.check, f.found) for f in found if f.outcome == "failed"] == []
    skipped = {f.check for f in found if f.outcome == "skipped"}
    apart = {"memory.aligned", "memory.import_host"} if kind == "ApartDelegate" else {"memory.strided_write"}
    once = {"open.twice"} if kind == "ExclusiveDelegate" else set()
    spawns = {check.id for check in all_checks() if check.spawns and not name}
    assert skipped == {"state.delivered"} | apart | once | spawns
