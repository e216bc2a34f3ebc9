"""While reference kernels compute, BLAS uses one thread; afterwards as many as before."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from threadpoolctl import ThreadpoolController, threadpool_limits

from delegraph.core.ops import blas
from delegraph.core.ops.blas import one_thread


def n_threads() -> set[int]:
    """Of NumPy's BLAS: another test may have loaded SciPy's, too."""
    found = ThreadpoolController().select(filepath=[library.filepath for library in blas._libraries()]).info()
    return {library["num_threads"] for library in found}


def test_one_thread_inside_and_as_before_outside() -> None:
    with threadpool_limits(2, user_api="blas"):
        with one_thread:
            assert n_threads() == {1}
            with one_thread:
                assert n_threads() == {1}
            assert n_threads() == {1}
        assert n_threads() == {2}


def test_the_last_thread_out_sets_it_back() -> None:
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with one_thread:
            entered.set()
            leave.wait(30)

    with threadpool_limits(2, user_api="blas"):
        thread = threading.Thread(target=other)
        with one_thread:
            thread.start()
            entered.wait(30)
        assert n_threads() == {1}
        leave.set()
        thread.join()
        assert n_threads() == {2}


def test_a_child_that_was_forked_meanwhile_is_free() -> None:
    with threadpool_limits(2, user_api="blas"), one_thread:
        pid = os.fork()
        if pid == 0:
            os._exit(0 if n_threads() == {2} else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_who_sets_the_variable_is_left_alone() -> None:
    script = """
import numpy
from threadpoolctl import ThreadpoolController
from delegraph.core.ops.blas import one_thread
with one_thread:
    print(*{library["num_threads"] for library in ThreadpoolController().select(user_api="blas").info()})
"""
    found = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"OPENBLAS_NUM_THREADS": "2"}, capture_output=True, text=True
    )
    assert found.stdout.split() == ["2"], found.stderr
