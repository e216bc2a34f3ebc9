"""Memory that code runs from: written first, then read-only and executable, never both. Imports nothing of delegraph.

The bytes are copied to anonymous memory: the payload of an artifact is a view whose file is not known here, and the
copy of some hundred kilobytes costs 20 µs.
"""

from __future__ import annotations

import ctypes
import mmap


class ExecutableMemory:
    """A copy of ``data`` that can be executed. address: of its first byte, at a page boundary.

    Raises:
        OSError: the system allows no executable memory, or there is none left.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        self._map = mmap.mmap(-1, max(1, len(data)), prot=mmap.PROT_READ | mmap.PROT_WRITE)
        self._map[: len(data)] = bytes(data)
        # from_buffer needs writable memory and keeps the map from closing as long as it lives
        self._anchor = (ctypes.c_char * len(self._map)).from_buffer(self._map)
        self.address = ctypes.addressof(self._anchor)
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        if protect(self.address, len(self._map), mmap.PROT_READ | mmap.PROT_EXEC) != 0:
            code = ctypes.get_errno()
            raise OSError(code, "mprotect refuses to make memory executable")

    def function(self, offset: int) -> ctypes._CFunctionType:
        """The function at ``offset``: one pointer in, nothing out; the GIL is released while it runs."""
        prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        return prototype(self.address + offset)
