"""Host memory and finished events, for delegates that run on the CPU. Imports core.abi.protocols."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from delegraph.core.abi.protocols import Event
from delegraph.core.abi.values import DelegateError, ErrorCode
from delegraph.core.graph.graph import Array


@dataclass(frozen=True, slots=True, eq=False)
class HostBuffer:
    """A Buffer over host memory. memory: any C-contiguous array; it is kept alive, not copied."""

    memory: Array

    @property
    def size_bytes(self) -> int:
        return int(self.memory.nbytes)

    def host_view(self) -> Array:
        return self.memory.reshape(-1).view(np.uint8)


def allocate(size_bytes: int, alignment: int = 64) -> HostBuffer:
    """Host memory whose address is a multiple of ``alignment``; contents are undefined."""
    raw = np.empty(size_bytes + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    return HostBuffer(raw[start : start + size_bytes])


def await_all(after: Sequence[Event], device: str) -> None:
    """Waits for what a run has to come after.

    Raises:
        DelegateError: of ``device``, DEPENDENCY_FAILED, when one of them failed.
    """
    for event in after:
        try:
            event.wait()
        except DelegateError as exc:
            raise DelegateError(device, ErrorCode.DEPENDENCY_FAILED, f"run: {exc}") from exc


class Finished:
    """The event of a step that ended well before it was returned."""

    __slots__ = ()

    def wait(self, timeout: float | None = None) -> None:
        return None


FINISHED = Finished()
