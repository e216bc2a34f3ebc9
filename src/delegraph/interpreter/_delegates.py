"""TFLite's delegates in shared libraries: delegraph loads none, so scripts fall back as where none is installed."""

from __future__ import annotations

import os
from typing import Any, NoReturn

_REASON = "delegraph loads no TFLite delegates; choose a device with Interpreter(..., devices=...)"


def load_delegate(library: str, options: dict[Any, Any] | None = None) -> NoReturn:
    """Raises what scripts expect where a delegate can't be had.

    Raises:
        OSError: there is no such file, as from ctypes.
        ValueError: there is.
    """
    del options
    if not os.path.exists(library):
        raise OSError(f"{library}: cannot open shared object file: {_REASON}")
    raise refused(library)


def refused(what: object) -> ValueError:
    """The error for a delegate that was passed in or loaded."""
    return ValueError(f"Failed to load delegate from {what}\n{_REASON}")
