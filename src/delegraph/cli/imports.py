"""``--import MODULE_OR_FILE``: runs a user's own Python code, which registers the ops that a model needs.

A module is found as by ``python -c "import MODULE"``, in the current folder first; a file finds the modules beside it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from delegraph.core.abi.native.plugin import file_module, file_module_name
from delegraph.core.errors import InvalidArgument

PREFIX = "delegraph_import"


def run_module(name: str) -> ModuleType:
    """The module of that name, or in that .py file, run if this process has not run it yet. What it prints goes to
    stderr.

    Raises:
        InvalidArgument: there is none, or its code fails.
    """
    is_file = name.endswith(".py") or os.sep in name
    path = Path(name).resolve()
    if is_file and not path.is_file():
        raise InvalidArgument("--import", "a .py file", f"none at {name!r}", "correct the path, or name a module")
    importlib.invalidate_caches()  # a file that was written a moment ago counts
    _search_first(path.parent if is_file else Path.cwd())
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return _run_file(path) if is_file else importlib.import_module(name)
    except (Exception, SystemExit) as exc:
        if not is_file and isinstance(exc, ModuleNotFoundError) and f"{name}.".startswith(f"{exc.name}."):
            advice = "install it, call delegraph in its folder, or name a file: --import ./ops.py"
            raise InvalidArgument("--import", "a module that is installed or here", repr(name), advice) from exc
        found = f"{type(exc).__name__}: {exc}{_place(exc, path) if is_file else ''}"
        raise InvalidArgument(f"--import {name}", "code that runs", found, "mend it; --debug shows where") from exc


def _search_first(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _run_file(path: Path) -> ModuleType:
    """The module in a file, run once a process."""
    found = sys.modules.get(file_module_name(str(path), PREFIX))
    return file_module(str(path), PREFIX) if found is None else found


def _place(exc: BaseException, path: Path) -> str:
    """The line of the file at which it failed; a syntax error has it in its message."""
    lines = [frame.lineno for frame in traceback.extract_tb(exc.__traceback__) if frame.filename == str(path)]
    return f" (line {lines[-1]})" if lines else ""
