"""A known pattern behind buffers that a plug-in writes to: a run that changes it wrote too much. Imports numpy only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

GUARD_BYTES = 64

_GUARD = np.frombuffer(b"delegraph guard." * (GUARD_BYTES // 16), np.uint8)


def split(whole: Array) -> tuple[Array, Array]:
    """Memory of ``size + GUARD_BYTES`` bytes as the buffer and the guard behind it, which is set."""
    whole[-GUARD_BYTES:] = _GUARD
    return whole[:-GUARD_BYTES], whole[-GUARD_BYTES:]


def broken(guards: Iterable[tuple[str, Array]]) -> str:
    """The name of the first buffer whose guard was changed, or ""; sets that one again."""
    for name, guard in guards:
        if not np.array_equal(guard, _GUARD):
            guard[:] = _GUARD
            return name
    return ""
