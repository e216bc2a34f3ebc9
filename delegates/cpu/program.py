"""A loaded artifact, and its runs: one native call each. Needs neither llvmlite nor LLVM."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from delegraph.core.abi import host
from delegraph.core.abi.protocols import Buffer, Context, Event, Program
from delegraph.core.abi.values import DelegateError, ErrorCode
from delegraph.core.graph.graph import Array
from delegraph.delegates.cpu.artifact import CompiledSegment
from delegraph.delegates.cpu.memory import ExecutableMemory

DEVICE = "cpu"


def address(array: Array) -> int:
    """Where an array's bytes lie."""
    if array.nbytes and array.flags.writeable:
        byte = ctypes.c_char.from_buffer(array)  # type: ignore[arg-type]  # NumPy's stubs say so from Python 3.12 on
        return ctypes.addressof(byte)  # a microsecond less than by NumPy's own ways
    return int(array.ctypes.data)


class CpuProgram(Program):
    """Code in executable memory and the packs that it reads. Thread-safe: it writes only where a context says."""

    alignment = 1

    def __init__(self, compiled: CompiledSegment, packs: Sequence[Array]) -> None:
        try:
            self.memory = ExecutableMemory(compiled.code)
        except OSError as exc:
            raise DelegateError(DEVICE, ErrorCode.INTERNAL, f"no executable memory: {exc}") from exc
        self.compiled = compiled
        self.packs = tuple(packs)
        self.entry = self.memory.function(compiled.entry)
        self.scratch_bytes = compiled.scratch_bytes

    def context(self, scratch: Buffer) -> CpuContext:
        return CpuContext(self, scratch)

    def close(self) -> None:
        """The memory goes with the last context."""
        return None


class CpuContext(Context):
    """The block of addresses that one caller's runs use."""

    def __init__(self, program: CpuProgram, scratch: Buffer) -> None:
        compiled = program.compiled
        self._program = program
        self._scratch = _memory(scratch, program.scratch_bytes, "scratch")
        n = 2 + len(program.packs) + len(compiled.inputs) + len(compiled.outputs)
        self._block = (ctypes.c_void_p * n)()
        self._block[0] = address(self._scratch)
        self._block[1] = program.memory.address + compiled.constants
        self._first_buffer = 2 + len(program.packs)
        for k, pack in enumerate(program.packs):
            self._block[2 + k] = address(pack)
        self._pointer = ctypes.c_void_p(ctypes.addressof(self._block))
        self._bound: tuple[Buffer, ...] | None = None

    def bind(self, inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> None:
        sizes = (*self._program.compiled.inputs, *self._program.compiled.outputs)
        buffers = (*inputs, *outputs)
        if len(buffers) != len(sizes) or len(inputs) != len(self._program.compiled.inputs):
            raise DelegateError(DEVICE, ErrorCode.INVALID, f"expected {len(sizes)} buffers, found {len(buffers)}")
        for k, (buffer, size) in enumerate(zip(buffers, sizes, strict=True)):
            self._block[self._first_buffer + k] = address(_memory(buffer, size, f"buffer {k}"))
        self._bound = buffers

    def unbind(self) -> None:
        self._bound = None

    def run(self, *, after: Sequence[Event] = (), deadline: float | None = None) -> Event:
        host.await_all(after, DEVICE)
        if self._bound is None:
            raise DelegateError(DEVICE, ErrorCode.INVALID, "run before bind")
        self._program.entry(self._pointer)
        return host.FINISHED


def _memory(buffer: Buffer, size: int, name: str) -> Array:
    """The buffer's memory, as an array of any type: only its address counts."""
    memory = buffer.memory if isinstance(buffer, host.HostBuffer) else buffer.host_view()
    if memory is None or memory.nbytes < size:
        found = "no host memory" if memory is None else f"{memory.nbytes} bytes"
        raise DelegateError(DEVICE, ErrorCode.INVALID, f"{name}: expected {size} bytes, found {found}")
    return memory
