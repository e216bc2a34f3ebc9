"""One thread per resource, for devices that run beside the caller and may hang. Imports nothing of delegraph."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Any

Task = Callable[[], Any]


class Ticket:
    """The end of a task: a value or an error, for any number of waiting threads."""

    __slots__ = ("_done", "_error", "_value")

    def __init__(self) -> None:
        self._done = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None

    def finish(self, value: Any, error: BaseException | None) -> None:
        self._value, self._error = value, error
        self._done.set()

    def result(self, timeout: float | None = None) -> Any:
        """The task's value. Raises what the task raised, or TimeoutError when it has not ended in time."""
        if not self._done.wait(timeout):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._value


class Worker:
    """Runs tasks one after the other on a daemon thread, which starts with the first one.

    A task that hangs keeps its thread: ``abandon`` lets it be, and the next task gets a new one.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[Task, Ticket] | None] | None = None
        self._pid = os.getpid()

    def submit(self, task: Task) -> Ticket:
        ticket = Ticket()
        with self._lock:
            if self._queue is None or self._pid != os.getpid():
                self._queue, self._pid = queue.SimpleQueue(), os.getpid()
                threading.Thread(
                    target=_serve, args=(self._queue,), name=f"delegraph {self._name}", daemon=True
                ).start()
            self._queue.put((task, ticket))
        return ticket

    def abandon(self) -> None:
        """Leaves the present thread to itself: it ends when its tasks do."""
        with self._lock:
            if self._queue is not None:
                self._queue.put(None)
                self._queue = None


def _serve(tasks: queue.SimpleQueue[tuple[Task, Ticket] | None]) -> None:
    while (entry := tasks.get()) is not None:
        task, ticket = entry
        try:
            value, error = task(), None
        except BaseException as exc:  # handed to whoever waits
            value, error = None, exc
        ticket.finish(value, error)
        del task, ticket, entry, value, error  # a waiting thread holds nothing of its last task


_workers: dict[str, Worker] = {}
_workers_lock = threading.Lock()


def worker_for(resource: str) -> Worker:
    """The worker of a resource, one for the whole process."""
    with _workers_lock:
        return _workers.setdefault(resource, Worker(resource))
