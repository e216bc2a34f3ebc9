"""Events: the end of commands on a queue. Imports core.abi, failures, memory."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from delegraph.core.abi.protocols import Event
from delegraph.core.abi.values import DelegateError, ErrorCode
from delegraph.delegates.opencl.failures import error_code, mapped
from delegraph.delegates.opencl.memory import Home

_AWAKE_S = 300e-6
"""How long to look again and again, giving way to other threads in between: a sleep of any length takes about 60 us."""

_SHORTEST_S, _LONGEST_S = 20e-6, 1e-3
"""How long to sleep between two looks at an event after that. OpenCL itself can only wait without a limit."""

_give_way = getattr(os, "sched_yield", lambda: time.sleep(0))

_WORDS = {ErrorCode.OUT_OF_MEMORY: "the device ran out of memory", ErrorCode.DEVICE_LOST: "the device was lost"}


class ClEvent(Event):
    """The end of a command. keep: what has to live until then."""

    def __init__(self, home: Home, event: Any, keep: object = None) -> None:
        self.home, self.event, self._keep = home, event, keep

    def wait(self, timeout: float | None = None) -> None:
        """See core.abi.protocols.Event."""
        start = time.monotonic()
        # 0 is COMPLETE, below it is an error, above it the command is queued, submitted or running.
        while (status := self._status()) > 0:
            elapsed = time.monotonic() - start
            if timeout is not None and elapsed >= timeout:
                raise DelegateError(self.home.device, ErrorCode.TIMEOUT, f"not ended after {timeout:g} s")
            if elapsed < _AWAKE_S:
                _give_way()
                continue
            pause = min(_LONGEST_S, max(_SHORTEST_S, elapsed / 16))
            time.sleep(pause if timeout is None else max(0.0, min(pause, timeout - elapsed)))
        if status < 0:
            code = error_code(status)
            raise DelegateError(
                self.home.device, code, f"{_WORDS.get(code, 'a command failed')} (OpenCL status {status})"
            )
        self._keep = None

    def _status(self) -> int:
        with mapped(self.home.device, "wait"):
            return int(self.event.command_execution_status)


class FailedEvent(Event):
    """The event of a step that was not started."""

    def __init__(self, error: DelegateError) -> None:
        self._error = error

    def wait(self, timeout: float | None = None) -> None:
        """Raises the error that kept the step from starting."""
        raise self._error


def wait_list(home: Home, after: Sequence[Event]) -> list[Any]:
    """The OpenCL events among ``after`` that a command of this device can wait for; the others are waited for here.

    Raises:
        DelegateError: DEPENDENCY_FAILED, as one of them failed.
    """
    found = []
    for event in after:
        if isinstance(event, ClEvent) and event.home.context is home.context:
            found.append(event.event)
            continue
        try:
            event.wait()
        except DelegateError as exc:
            raise DelegateError(home.device, ErrorCode.DEPENDENCY_FAILED, str(exc)) from exc
    return found
