"""What has to be made anew in a child process: locks that another thread may have held, and everything of devices.

Imports nothing of delegraph. An object that registers itself has ``renew()`` called in the child, after each fork.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Renewable(Protocol):
    """What can be registered."""

    def renew(self) -> None: ...


_registered: weakref.WeakSet[Renewable] = weakref.WeakSet()


def register(thing: Renewable) -> None:
    """Calls ``thing.renew()`` in every child process that is forked while the thing lives."""
    _registered.add(thing)


class RenewedLock:
    """A re-entrant lock for a module to keep, made anew in a child process: ``with it.lock: ...``."""

    def __init__(self) -> None:
        self.renew()
        register(self)

    def renew(self) -> None:
        self.lock = threading.RLock()


def _renew_all() -> None:
    for thing in list(_registered):
        thing.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
