"""What a script did on an interpreter, as plain values that two processes can compare. Imports nothing of delegraph."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

MODULES = ("construction", "values", "memory", "state", "programs")

Entry = tuple[int, Any]
"""(line of the script, what happened)."""


@dataclass(frozen=True)
class Models:
    """Where the models lie: made by the tests, and shared."""

    made_folder: Path
    real_folder: Path

    def made(self, name: str) -> str:
        return str(self.made_folder / f"{name}.tflite")

    def real(self, name: str) -> str:
        return str(self.real_folder / name)


class Transcript:
    """Calls functions and takes down what they return or raise."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Calls, notes the result or the exception with its first line, and returns the result (or None)."""
        return self._call("raises", function, *args, **kwargs)

    def roughly(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The same, but of a message only the first sentence counts."""
        return self._call("raises roughly", function, *args, **kwargs)

    def kind(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The same, but of an exception only the class counts: its message names a line of LiteRT's source."""
        return self._call("raises somehow", function, *args, **kwargs)

    def note(self, value: Any) -> None:
        self.entries.append((sys._getframe(1).f_lineno, encode(value)))

    def _call(self, word: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        line = sys._getframe(2).f_lineno
        try:
            result = function(*args, **kwargs)
        except Exception as exc:
            self.entries.append((line, (word, type(exc).__name__, str(exc))))
            return None
        self.entries.append((line, encode(result)))
        return result


def encode(value: Any) -> Any:
    """A value with its types, dtypes and flags; order of dictionaries kept."""
    if isinstance(value, np.ndarray):
        content = [encode(v) for v in value.reshape(-1)] if value.dtype == object else value.tobytes()
        readable = None if value.dtype == object else value.reshape(-1)[:50].tolist()
        flags = (value.flags.writeable, value.flags.owndata, value.flags.c_contiguous)
        return ("array", value.dtype.str, value.shape, readable, content, flags)
    if isinstance(value, np.generic):
        return ("scalar", value.dtype.str, value.item())
    if isinstance(value, dict):
        return ("dict", [(encode(k), encode(v)) for k, v in value.items()])
    if isinstance(value, list | tuple):
        return (type(value).__name__, [encode(v) for v in value])
    if isinstance(value, type):
        return ("class", value.__module__, value.__qualname__)
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return (type(value).__name__, value)
    return ("object", type(value).__name__)


def scripts() -> list[str]:
    """The names of all scripts: ``module.function``."""
    modules = [_module(name) for name in MODULES]
    return [
        f"{name}.{function}"
        for name, module in zip(MODULES, modules, strict=True)
        for function, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__
    ]


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"tests.interpreter.scripts.{name}")


def run(name: str, module: SimpleNamespace, models: Models) -> list[Entry]:
    """The transcript of one script; an exception that it did not expect is the last entry."""
    where, _, function = name.partition(".")
    script, transcript = getattr(_module(where), function), Transcript()
    try:
        script(module, models, transcript)
    except Exception as exc:
        transcript.entries.append((exc.__traceback__.tb_next.tb_lineno, ("ends", type(exc).__name__, str(exc))))  # type: ignore[union-attr]
    return transcript.entries
