"""Memory of an OpenCL device. Imports core.abi; pyopencl only where it is already in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from delegraph.core.abi.protocols import Buffer
from delegraph.core.abi.values import DelegateError, ErrorCode


class ClBuffer(Buffer):
    """Memory that one open device allocated; the host can't address it.

    context: the pyopencl Context that it belongs to. memory: the pyopencl Buffer, at least one byte large.
    """

    def __init__(self, context: Any, memory: Any, size_bytes: int) -> None:
        self.context, self.memory, self._size_bytes = context, memory, size_bytes

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def host_view(self) -> None:
        return None

    def part(self, offset: int, size_bytes: int) -> Any:
        """A piece as OpenCL memory of its own; ``offset`` is a multiple of the device's alignment."""
        return self.memory.get_sub_region(offset, max(1, size_bytes))


@dataclass(frozen=True, slots=True, eq=False)
class Home:
    """What memory and events of one open device have in common. device: its id. context: the pyopencl Context, another
    one when the device is opened again."""

    device: str
    context: Any

    def owned(self, buffer: Buffer, what: str, size_bytes: int) -> ClBuffer:
        """The buffer as one of this device, of at least that size.

        Raises:
            DelegateError: INVALID, it is not.
        """
        if not isinstance(buffer, ClBuffer) or buffer.context is not self.context:
            raise DelegateError(self.device, ErrorCode.INVALID, f"{what}: expected memory of this device, found other")
        if buffer.size_bytes < size_bytes:
            raise DelegateError(
                self.device, ErrorCode.INVALID, f"{what}: expected {size_bytes} bytes, found {buffer.size_bytes}"
            )
        return buffer
