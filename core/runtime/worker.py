"""One thread per resource, for devices that run beside the caller and may hang. Imports core.runtime.forks."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from delegraph.core.runtime import forks

Task = Callable[[], Any]


class Ticket:
    """The end of a task: a value or an error, for any number of waiting threads."""

    __slots__ = ("_begun", "_done", "_error", "_start", "_value", "worker")

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._begun, self._done = threading.Event(), threading.Event()
        self._start = 0.0
        self._value: Any = None
        self._error: BaseException | None = None

    def begin(self) -> None:
        self._start = time.monotonic()
        self._begun.set()

    def finish(self, value: Any, error: BaseException | None) -> None:
        self._value, self._error = value, error
        self._done.set()

    def result(self, limit_s: float) -> Any:
        """The task's value. Raises what the task raised, or TimeoutError when it has not ended ``limit_s`` seconds
        after it began: time in the queue does not count, since whoever waits for the task in front has a limit too."""
        self._begun.wait()
        if not self._done.wait(max(0.0, self._start + limit_s - time.monotonic())):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._value


class Worker:
    """Runs tasks one after the other on a daemon thread, which starts when there is something to do.

    A task that hangs keeps its thread; ``abandon`` lets both be, and what waits behind goes on in a new thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.renew()
        forks.register(self)

    def renew(self) -> None:
        """Forgets threads and tasks: in a child process there are none."""
        self._changed = threading.Condition()
        self._tasks: deque[tuple[Task, Ticket]] = deque()
        self._serving: object | None = None
        self._current: Ticket | None = None

    def submit(self, task: Task) -> Ticket:
        ticket = Ticket(self)
        with self._changed:
            self._tasks.append((task, ticket))
            if self._serving is None:
                self._start()
            else:
                self._changed.notify()
        return ticket

    def abandon(self, ticket: Ticket) -> None:
        """Leaves the thread that runs this task to itself, if it still runs it: it ends when the task does."""
        with self._changed:
            if self._current is not ticket:
                return
            self._current, self._serving = None, None
            if self._tasks:
                self._start()

    def _start(self) -> None:
        self._serving = object()
        threading.Thread(target=self._serve, args=(self._serving,), name=f"delegraph {self._name}", daemon=True).start()

    def _serve(self, me: object) -> None:
        while True:
            with self._changed:
                while not self._tasks and self._serving is me:
                    self._changed.wait()
                if self._serving is not me:
                    return
                task, ticket = self._tasks.popleft()
                self._current = ticket
            ticket.begin()
            try:
                value, error = task(), None
            except BaseException as exc:  # handed to whoever waits
                value, error = None, exc
            with self._changed:
                if self._serving is me:
                    self._current = None
            ticket.finish(value, error)
            del task, ticket, value, error  # a waiting thread holds nothing of its last task


class _Workers:
    def __init__(self) -> None:
        self._found: dict[str, Worker] = {}
        self.renew()
        forks.register(self)

    def renew(self) -> None:
        self._lock = threading.Lock()

    def get(self, name: str) -> Worker:
        with self._lock:
            return self._found.get(name) or self._found.setdefault(name, Worker(name))


_workers = _Workers()


def worker_for(resource: str) -> Worker:
    """The worker of a resource, one for the whole process."""
    return _workers.get(resource)
