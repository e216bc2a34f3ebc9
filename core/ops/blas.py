"""One thread for BLAS while reference kernels compute. Imports core.forks.

The threads of a BLAS library spin while they wait for one another: where something else wants the cores too, a product
takes ten times as long with two threads as with one. One thread also gives the same bits on every machine's number of
cores. Who sets the library's own environment variable is left alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

from delegraph.core import forks

VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "OMP_NUM_THREADS")


class _OneThread:
    """``with one_thread:`` BLAS uses one thread while any thread is inside; the last one out sets what was before."""

    def __init__(self) -> None:
        self._inside = 0
        self._before: list[int] = []
        self.renew()
        forks.register(self)

    def renew(self) -> None:
        """In a child process: nobody else is inside any more."""
        self._lock = threading.Lock()
        if self._inside:
            self._inside = 0
            self._set(self._before)

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                libraries = _libraries()
                self._before = [library.get_num_threads() for library in libraries]
                self._set([1] * len(libraries))
            self._inside += 1

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self._inside = max(0, self._inside - 1)
            if not self._inside:
                self._set(self._before)

    def _set(self, n_threads: Sequence[int]) -> None:
        for library, n in zip(_libraries(), n_threads, strict=True):
            _let_anyone_set(library)
            library.set_num_threads(n)
            _let_anyone_set(library)


def _let_anyone_set(library: Any) -> None:
    """From 3.7 on, threadpoolctl ignores whoever sets OpenBLAS' threads beside the thread that did so first."""
    clear = getattr(library, "clear_controlling_thread", None)
    if clear is not None:
        clear(force=True)


@cache
def _libraries() -> Sequence[Any]:
    """The BLAS libraries that are loaded; none where the environment says how many threads they take."""
    if any(name in os.environ for name in VARIABLES):
        return ()
    from threadpoolctl import ThreadpoolController

    return tuple(ThreadpoolController().select(user_api="blas").lib_controllers)


one_thread = _OneThread()
