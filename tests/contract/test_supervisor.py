"""Delegates that crash, hang or can't be loaded: found out from outside, by name, and the other checks go on."""

from __future__ import annotations

import pytest

from delegraph.core.errors import InvalidArgument
from delegraph.testing.contract import Finding, examine

BREAKERS = "tests.contract.breakers"


def outcomes(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.outcome for finding in findings}


def test_a_crash_is_a_finding_and_the_rest_goes_on() -> None:
    found = list(examine(f"{BREAKERS}:Crashes", only=["run"]))
    assert outcomes(found) == {
        "run.after": "passed",
        "run.dependency_failed": "passed",
        "run.deadline": "failed",
        "run.far_deadline": "passed",
    }
    (crash,) = [finding for finding in found if finding.outcome == "failed"]
    assert "SIGSEGV" in crash.found
    assert crash.device == "sound:0"


def test_a_hang_is_a_finding_and_the_rest_goes_on() -> None:
    found = list(examine(f"{BREAKERS}:Hangs", only=["run.deadline", "run.far_deadline"], timeout_s=20))
    assert outcomes(found) == {"run.deadline": "failed", "run.far_deadline": "passed"}
    assert "not ended after 20 s" in found[0].found


def test_a_process_that_dies_at_once() -> None:
    (finding,) = examine(f"{BREAKERS}:DiesWhenListed")
    assert (finding.check, finding.outcome) == ("delegate.loads", "failed")
    assert "exit code 3" in finding.found
    assert "out of luck" in finding.found


def test_what_is_no_delegate() -> None:
    (finding,) = examine("tests.contract.breakers:BREAKERS")
    assert (finding.check, finding.outcome) == ("delegate.loads", "failed")


def test_a_breaker_is_caught_from_outside_too() -> None:
    (finding,) = examine(f"{BREAKERS}:SameIdTwice", only=["devices.unique"])
    assert finding.outcome == "failed"
    assert "sound:0" in finding.found


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"name": "nosuch"}, "nosuch"),
        ({"name": "./nosuch.py"}, "nosuch.py"),
        ({"name": "null", "only": ["nosuch.rule"]}, "nosuch.rule"),
        ({"name": "null", "device": "null:7"}, "null:7"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, object], what: str) -> None:
    with pytest.raises(InvalidArgument, match=what):
        list(examine(**arguments))  # type: ignore[arg-type]
