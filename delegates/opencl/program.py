"""A loaded program and its contexts. Imports core.abi, artifact, memory, events; needs pyopencl."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyopencl as cl

from delegraph.core.abi.protocols import Buffer, Context, Event, Program
from delegraph.core.abi.values import DelegateError, ErrorCode
from delegraph.delegates.opencl.artifact import Argument, Plan
from delegraph.delegates.opencl.events import ClEvent, FailedEvent, wait_list
from delegraph.delegates.opencl.failures import mapped
from delegraph.delegates.opencl.launches import GROUP
from delegraph.delegates.opencl.memory import ClBuffer, Home
from delegraph.delegates.opencl.traits import Traits


class OpenClProgram(Program):
    """A segment's kernels with their constants on the device.

    packs, blobs: in the plan's order.
    """

    def __init__(
        self,
        home: Home,
        traits: Traits,
        plan: Plan,
        program: Any,
        packs: Sequence[ClBuffer],
        blobs: ClBuffer,
    ) -> None:
        self.home, self.plan, self.program = home, plan, program
        self.packs, self.blobs = tuple(packs), blobs
        self.blob_parts = tuple(blobs.part(start, size) for start, size in plan.blobs)
        self.scratch_bytes = plan.scratch
        self.alignment = max(64, traits.alignment)

    def context(self, scratch: Buffer) -> OpenClContext:
        """See core.abi.protocols.Program."""
        with mapped(self.home.device, "context"):
            return OpenClContext(self, self.home.owned(scratch, "scratch", self.plan.scratch))

    def close(self) -> None:
        """Nothing: the memory goes with the last reference."""


class OpenClContext(Context):
    """One caller's queue and kernel objects; a kernel object holds its arguments, so each launch has its own."""

    def __init__(self, program: OpenClProgram, scratch: ClBuffer) -> None:
        self._program, self._scratch = program, scratch
        self._home, self._device, self._plan = program.home, program.home.device, program.plan
        self._queue = cl.CommandQueue(program.home.context)
        self._parts: dict[tuple[int, int], Any] = {}
        self._launches = []
        self._late: list[tuple[Any, int, Argument]] = []
        for kernel_number, size, arguments in self._plan.launches:
            kernel = cl.Kernel(program.program, self._plan.kernels[kernel_number])
            self._launches.append((kernel, (size,)))
            for position, argument in enumerate(arguments):
                if argument[0] in ("in", "out"):
                    self._late.append((kernel, position, argument))
                else:
                    kernel.set_arg(position, self._value(argument))
        self._bound: tuple[list[ClBuffer], list[ClBuffer]] | None = None

    def _value(self, argument: Argument) -> Any:
        match argument[0]:
            case "int":
                return np.int32(argument[1])
            case "float":
                return np.uint32(argument[1]).view(np.float32)
            case "pack":
                return self._program.packs[argument[1]].memory
            case "blob":
                return self._program.blob_parts[argument[1]]
        _, offset, size = argument
        if (offset, size) not in self._parts:
            self._parts[offset, size] = self._scratch.part(offset, size)
        return self._parts[offset, size]

    def bind(self, inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> None:
        """See core.abi.protocols.Context."""
        plan = self._plan
        found = (
            [self._home.owned(b, f"input {i}", n) for i, (b, n) in enumerate(zip(inputs, plan.inputs, strict=True))],
            [self._home.owned(b, f"output {i}", n) for i, (b, n) in enumerate(zip(outputs, plan.outputs, strict=True))],
        )
        with mapped(self._device, "bind"):
            for kernel, position, (side, index) in self._late:
                kernel.set_arg(position, found[side == "out"][index].memory)
        self._bound = found

    def run(self, *, after: Sequence[Event] = (), deadline: float | None = None) -> Event:
        """See core.abi.protocols.Context. Returns once all is queued."""
        if self._bound is None:
            raise DelegateError(self._device, ErrorCode.INVALID, "run: nothing was bound before")
        if deadline is not None and time.monotonic() >= deadline:
            return FailedEvent(DelegateError(self._device, ErrorCode.TIMEOUT, "run: there was no time left to start"))
        try:
            waits = wait_list(self._home, after)
        except DelegateError as exc:
            return FailedEvent(exc)
        with mapped(self._device, "run"):
            event = None
            for kernel, size in self._launches:
                event = cl.enqueue_nd_range_kernel(self._queue, kernel, size, (GROUP,), wait_for=waits or None)
                waits = []  # the queue keeps its order
            if event is None:
                event = cl.enqueue_marker(self._queue, wait_for=waits or None)
            self._queue.flush()
        return ClEvent(self._home, event, (self, *self._bound))
