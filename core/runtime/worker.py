"""One thread per resource, for devices that run beside the caller and may hang. Imports core.forks.

Every task that others may have to wait for has a limit, and whoever waits for its end, or for a turn behind it, puts it
aside when the limit has passed: its owner may be waiting for something else just then.
"""

from __future__ import annotations

import atexit
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from delegraph.core import forks

Task = Callable[[], Any]


class Ticket:
    """The end of a task: a value or an error, for any number of waiting threads.

    limit_s: how long the task may take before others, who wait for their turn, put it aside.
    """

    __slots__ = ("_done", "_error", "_start", "_value", "limit_s", "worker")

    def __init__(self, worker: Worker, limit_s: float) -> None:
        self.worker, self.limit_s = worker, limit_s
        self._done = threading.Event()
        self._start: float | None = None
        self._value: Any = None
        self._error: BaseException | None = None

    def begin(self) -> None:
        self._start = time.monotonic()

    @property
    def has_begun(self) -> bool:
        return self._start is not None

    def left(self, limit_s: float) -> float:
        """Seconds until the task has run for ``limit_s``, at least 0."""
        return limit_s if self._start is None else max(0.0, self._start + limit_s - time.monotonic())

    def finish(self, value: Any, error: BaseException | None) -> None:
        self._value, self._error = value, error
        self._done.set()

    def result(self, limit_s: float) -> Any:
        """The task's value. Raises what the task raised, or TimeoutError when it has not ended ``limit_s`` seconds
        after it began: time in the queue does not count, since every task in front has a limit too."""
        self.worker.await_start(self)
        if not self._done.wait(self.left(limit_s)):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._value


class Worker:
    """Runs tasks one after the other on a daemon thread, which starts when there is something to do.

    A task that hangs keeps its thread; ``abandon`` lets both be, and what waits behind goes on in a new thread.
    ``turn`` is for work on a caller's own thread that must not happen beside a task.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.renew()
        forks.register(self)

    def renew(self) -> None:
        """Forgets threads and tasks: in a child process there are none."""
        self._changed = threading.Condition()
        self._is_parked = False
        self._tasks: deque[tuple[Task, Ticket]] = deque()
        self._serving: object | None = None
        self._current: object | None = None
        """What has its turn now: a task, or the token of a caller's own thread."""

    def submit(self, task: Task, limit_s: float = math.inf) -> Ticket:
        """Queues a task. limit_s: see Ticket; without one, nobody but its owner puts it aside.

        Raises:
            RuntimeError: the system gives no thread, or the process ends.
        """
        ticket = Ticket(self, limit_s)
        with self._changed:
            if self._is_parked:
                raise RuntimeError("the process ends: nothing is begun any more")
            self._put_aside_overdue()
            if self._serving is None:
                self._start()
            self._tasks.append((task, ticket))
            self._changed.notify_all()
        return ticket

    @contextmanager
    def turn(self) -> Iterator[None]:
        """While the block lasts no task runs, and no other turn. For work that is trusted not to hang."""
        me = object()
        with self._changed:
            while self._current is not None:
                self._wait()
            self._current = me
        try:
            yield
        finally:
            with self._changed:
                if self._current is me:
                    self._current = None
                    self._changed.notify_all()

    def await_start(self, ticket: Ticket) -> None:
        """Returns when the task has begun."""
        with self._changed:
            while not ticket.has_begun:
                self._wait()

    def _wait(self) -> None:
        """Waits for a change, the lock held; what has its turn now is abandoned when its limit has passed."""
        current = self._current
        if not isinstance(current, Ticket) or current.limit_s == math.inf:
            self._changed.wait()
        elif not self._changed.wait(current.left(current.limit_s)):
            self._put_aside_overdue()

    def _put_aside_overdue(self) -> None:
        """Abandons what has its turn now if its limit has passed, the lock held."""
        current = self._current
        if isinstance(current, Ticket) and current.limit_s != math.inf and current.left(current.limit_s) <= 0:
            self.abandon(current)

    def abandon(self, ticket: Ticket) -> None:
        """Leaves the thread that runs this task to itself, if it still runs it: it ends when the task does."""
        with self._changed:
            if self._current is not ticket:
                return
            self._current, self._serving = None, None
            if self._tasks:
                self._start()
            self._changed.notify_all()

    def park(self, until: float) -> None:
        """Begins nothing any more, and waits for the task that has its turn: a driver that is at work while the process
        takes itself apart may crash it. until: as ``time.monotonic`` counts."""
        with self._changed:
            self._is_parked, self._serving = True, None
            self._changed.notify_all()
            while isinstance(self._current, Ticket) and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)

    def _start(self) -> None:
        """Starts a thread, the lock held. Raises RuntimeError where the system gives none."""
        me = object()
        threading.Thread(target=self._serve, args=(me,), name=f"delegraph {self._name}", daemon=True).start()
        self._serving = me

    def _serve(self, me: object) -> None:
        while True:
            with self._changed:
                while self._serving is me and (not self._tasks or self._current is not None):
                    self._changed.wait()
                if self._serving is not me:
                    return
                task, ticket = self._tasks.popleft()
                ticket.begin()
                self._current = ticket
                self._changed.notify_all()
            try:
                value, error = task(), None
            except BaseException as exc:  # handed to whoever waits
                value, error = None, exc
            with self._changed:
                if self._current is ticket:
                    self._current = None
                    self._changed.notify_all()
            ticket.finish(value, error)
            del task, ticket, value, error  # a waiting thread holds nothing of its last task


class _Workers:
    def __init__(self) -> None:
        self._found: dict[str, Worker] = {}
        self.renew()
        forks.register(self)

    def renew(self) -> None:
        self._lock = threading.RLock()  # a finalizer may want a worker while this very thread is here

    def get(self, name: str) -> Worker:
        with self._lock:
            return self._found.get(name) or self._found.setdefault(name, Worker(name))

    def park(self) -> None:
        until = time.monotonic() + PARK_S
        for worker in list(self._found.values()):
            worker.park(until)


PARK_S = 2.0
"""How long the end of the process waits for tasks under way."""

_workers = _Workers()
atexit.register(_workers.park)


def worker_for(resource: str) -> Worker:
    """The worker of a resource, one for the whole process."""
    return _workers.get(resource)
