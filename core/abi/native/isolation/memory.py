"""Memory that parent and child both map, through a file descriptor. Imports nothing of delegraph.

The parent makes it, and on Linux seals its size: a child that cuts a mapped file short would crash whoever reads it.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@contextmanager
def shared_memory(size_bytes: int) -> Iterator[tuple[int, Array]]:
    """A descriptor to hand over, open within the context, and the memory (uint8), which stays as long as it is used.

    Raises:
        MemoryError: there is not that much.
    """
    fd = _file()
    try:
        try:
            os.ftruncate(fd, max(1, size_bytes))
            _seal(fd)
            memory = mapped(fd, size_bytes)
        except (OSError, OverflowError) as exc:
            raise MemoryError(f"{size_bytes} bytes can't be mapped: {exc}") from exc
        yield fd, memory
    finally:
        os.close(fd)


def mapped(fd: int, size_bytes: int) -> Array:
    """That many bytes of a descriptor's memory, which may then be closed."""
    memory = mmap.mmap(fd, max(1, size_bytes))
    return np.frombuffer(memory, np.uint8)[:size_bytes]


def _file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("delegraph", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fd, path = tempfile.mkstemp(prefix="delegraph-")
    os.unlink(path)
    return fd


def _seal(fd: int) -> None:
    if sys.platform == "linux":
        import fcntl

        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
