"""``delegraph check-delegate``: every rule of the contract, tried on a delegate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from delegraph.cli import render
from delegraph.cli.failures import Exit
from delegraph.cli.options import Amount
from delegraph.cli.settings import Settings, common_options

if TYPE_CHECKING:
    from delegraph.testing.contract import Finding

_MARKS = {"passed": "✓", "failed": "✗", "skipped": "·"}
_WORDS = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}


@click.command(short_help="Check a delegate against the contract.")
@click.argument("delegate", metavar="NAME_OR_PATH")
@click.option("--device", metavar="ID", help="One of its devices; all that are available by default.")
@click.option(
    "--only", multiple=True, metavar="CHECK", help="One check (event.timeout) or subject (event); repeatable."
)
@click.option("--isolate", is_flag=True, help="Run the delegate in a process of its own, as load_delegate can.")
@click.option(
    "--timeout",
    "timeout_s",
    type=Amount(min=1),
    default=180.0,
    show_default=True,
    metavar="SECONDS",
    help="What one check may take.",
)
@common_options
@click.pass_obj
def command(
    settings: Settings, delegate: str, device: str | None, only: tuple[str, ...], isolate: bool, timeout_s: float
) -> int:
    """Check a delegate against the contract: tries to see each rule broken.

    NAME_OR_PATH: one that comes with delegraph (cpu; opencl:0 for one device of it), a plug-in (./libacme.so,
    ./acme.py), an installed one by name, or package.module:Class. It runs in a child process: a crash is reported with
    the rule that it happened at. Exit code 6 if a rule is broken.
    """
    from delegraph.testing.contract import examine

    findings = []
    with render.status(f"checking {delegate}"):
        for finding in examine(delegate, device=device, only=only or None, isolate=isolate, timeout_s=timeout_s):
            findings.append(finding)
    if settings.as_json:
        counts = {outcome: _count(findings, outcome) for outcome in _MARKS}
        render.write_json({"delegate": delegate, **counts, "findings": [finding.to_json() for finding in findings]})
    else:
        _show(findings, debug=settings.debug)
    return Exit.DEVICE if _count(findings, "failed") else Exit.OK


def _count(findings: Sequence[Finding], outcome: str) -> int:
    return sum(finding.outcome == outcome for finding in findings)


def _show(findings: Sequence[Finding], *, debug: bool) -> None:
    marks = _MARKS if render.is_terminal() else _WORDS
    for device in dict.fromkeys(finding.device for finding in findings):
        some = [finding for finding in findings if finding.device == device]
        render.heading(device or "the delegate as a whole")
        render.table(("", "check", "rule", "found"), [(marks[f.outcome], f.check, f.sentence, f.found) for f in some])
        if debug:
            for finding in some:
                for line in finding.detail.splitlines():
                    render.line(f"  {line}")
        render.line()
    render.pairs([(outcome, _count(findings, outcome)) for outcome in _MARKS])
