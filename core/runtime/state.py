"""State that lives across runs: variables, owned by a session, changed by one commit a run. Imports core.graph."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass, field

from delegraph.core import forks
from delegraph.core.graph.graph import Array

Name = tuple[Hashable, ...]
"""A variable's name: ("resource", id) for resource variables, ("tensor", graph, index) for variable tensors."""


def _own(value: Array) -> Array:
    """A copy that nobody can write to."""
    copy = value.copy()
    copy.flags.writeable = False
    return copy


@dataclass(eq=False)
class Session:
    """The owner of one set of variables. ``lock`` is held for the length of a run.

    values: arrays that are never written in place: a run replaces them. called: CALL_ONCE graphs that have run.
    handles: (container, shared name) of resource variables → the number in their handle.
    """

    values: dict[Name, Array] = field(default_factory=dict)
    called: frozenset[int] = frozenset()
    handles: dict[tuple[str, str], int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        forks.register(self)

    def renew(self) -> None:
        """In a child process: another thread may have held the lock."""
        self.lock = threading.Lock()

    def reset(self) -> None:
        """Forget all state: variables are zero, or uninitialised, as in a new session."""
        with self.lock:
            self.values = {}
            self.called = frozenset()

    def read_tensor(self, graph: int, tensor: int) -> Array | None:
        """A variable tensor's value, or None when nothing was assigned yet. Not to be written."""
        return self.values.get(("tensor", graph, tensor))

    def write_tensor(self, graph: int, tensor: int, value: Array) -> None:
        """Sets a variable tensor to a copy of ``value``."""
        with self.lock:
            self.values = {**self.values, ("tensor", graph, tensor): _own(value)}

    def reset_tensors(self) -> None:
        """Set variable tensors to zero; resource variables stay."""
        with self.lock:
            self.values = {name: v for name, v in self.values.items() if name[0] != "tensor"}


class Overlay:
    """What one run has written so far; the session sees it at ``commit`` or not at all."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._written: dict[Name, Array] = {}
        self._called = session.called

    def read(self, name: Name) -> Array | None:
        """The variable's value, or None when nothing was assigned yet. Not to be written."""
        found = self._written.get(name)
        return self._session.values.get(name) if found is None else found

    def write(self, name: Name, value: Array) -> None:
        """Sets a variable to a copy of ``value``."""
        self._written[name] = _own(value)

    def handle(self, container: str, shared_name: str) -> int:
        """The number that stands for a resource variable of that name."""
        handles = self._session.handles
        return handles.setdefault((container, shared_name), len(handles))

    def call_once(self, graph: int) -> bool:
        """Whether that initialiser has to run now: true once a session."""
        if graph in self._called:
            return False
        self._called |= {graph}
        return True

    def commit(self) -> None:
        """Make the run's writes the session's state."""
        if self._written:
            self._session.values = {**self._session.values, **self._written}
        self._session.called = self._called
