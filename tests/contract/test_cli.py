"""``delegraph check-delegate``, and the page that lists the rules."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from tools import contract_page

from delegraph.cli import main
from delegraph.cli.commands.check_delegate import command

DOCS = Path(__file__).parents[2] / "docs"
BREAKERS = "tests.contract.breakers"


def test_a_sound_delegate(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-delegate", "null", "--only", "devices"]) == 0
    out = capsys.readouterr().out
    assert "ok  devices.unique        No two devices have the same id." in out
    assert "failed   0" in out
    assert "✓" not in out


def test_a_broken_rule_has_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-delegate", f"{BREAKERS}:NegativeTime", "--only", "estimate", "--device", "sound:0"]) == 6
    out = capsys.readouterr().out
    assert "FAILED  estimate.well_formed" in out
    assert "time_ns is -1" in out


def test_the_id_of_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-delegate", "nnapi:sample-float-fast", "--only", "devices", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert findings and {finding["device"] for finding in findings} <= {"", "nnapi:sample-float-fast"}


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-delegate", f"{BREAKERS}:NoVersion", "--only", "delegate.named", "--json"]) == 6
    found = json.loads(capsys.readouterr().out)
    assert (found["passed"], found["failed"], found["skipped"]) == (0, 1, 0)
    (finding,) = found["findings"]
    assert finding["check"] == "delegate.named"
    assert finding["found"] == "version is ''"


def test_debug_adds_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-delegate", f"{BREAKERS}:ClosesForGood", "--only", "open.again", "--debug"]) == 6
    assert "Traceback" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["nosuch"], ["null", "--only", "nosuch"], ["null", "--device", "nosuch"]])
def test_wrong_names(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-delegate", *arguments]) == 5
    assert "nosuch" in capsys.readouterr().err


def test_every_option_is_in_the_docs() -> None:
    text = (DOCS / "cli.md").read_text()
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert any(option in text for option in parameter.opts), parameter.opts


def test_the_page_of_rules_is_up_to_date() -> None:
    assert contract_page.PAGE.read_text() == contract_page.page(), "run: python -m tools.contract_page"
