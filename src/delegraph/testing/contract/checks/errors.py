"""What is raised where something has to fail."""

from __future__ import annotations

from collections.abc import Callable

from delegraph.core.abi.values import Artifact, DelegateError, ErrorCode
from delegraph.testing.contract.check import check
from delegraph.testing.contract.checks.events import Gate
from delegraph.testing.contract.execution import wait
from delegraph.testing.contract.finding import expect, fail
from delegraph.testing.contract.packs import KeptPacks
from delegraph.testing.contract.subject import Subject

FOREIGN_DEVICES = ("packs", "elsewhere")
"""Names in errors that the checks themselves put into the delegate's way."""


@check("errors.typed", "What a device raises is a DelegateError with a code that names the device.")
def typed(subject: Subject) -> None:
    bench = subject.bench()
    lane = bench.lane()
    lane.give(0)
    failed = Gate(DelegateError("elsewhere", ErrorCode.INTERNAL, "a failure that the check made up"))
    failed.end()
    foreign = Artifact(f"{bench.artifact.format}.other", b"foreign")
    lost = KeptPacks(is_lost=True)
    attempts: list[tuple[str, Callable[[], object]]] = [
        ("load() of a foreign artifact", lambda: bench.loaded(foreign, KeptPacks()).close()),
        ("load() without packs", lambda: bench.loaded(bench.artifact, lost).close()),
        ("a run behind a failed event", lambda: wait(lane.start(after=[failed]))),
    ]
    for what, attempt in attempts:
        try:
            attempt()
        except DelegateError as exc:
            named = exc.device == subject.id or exc.device in FOREIGN_DEVICES
            expect(named, f"{what}: the error names the device {exc.device!r}, not {subject.id!r}")
            expect(isinstance(exc.code, ErrorCode), f"{what}: the code is {exc.code!r}")
        except Exception as exc:
            fail(f"{what} raised {type(exc).__name__}, which is no DelegateError: {exc}")
