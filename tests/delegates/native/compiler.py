"""Compiles the C example for the tests, with the system's compiler or PyPI's ziglang."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
INCLUDE = ROOT / "core" / "abi" / "native"
EXAMPLE = Path(__file__).with_name("acme_delegate.c")
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")


def compiler(language: str = "c") -> list[str]:
    """The command of a compiler. Skips the test where there is none (fails with DELEGRAPH_REQUIRE=cc)."""
    names = ("cc", "gcc", "clang") if language == "c" else ("c++", "g++", "clang++")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is not None:
        return [found]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc" if language == "c" else "c++"]
    message = f"needs a {language} compiler: install gcc or clang, or pip install ziglang"
    if "cc" in os.environ.get("DELEGRAPH_REQUIRE", "").split(","):
        pytest.fail(message)
    pytest.skip(message)


def library(folder: Path, *defines: str, source: Path = EXAMPLE, name: str = "libacme.so") -> Path:
    """The example as a shared library in ``folder``, built with these definitions."""
    path = folder / name
    run(*compiler(), *STRICT, "-O1", "-shared", "-fPIC", f"-I{INCLUDE}", *defines, str(source), "-o", str(path))
    return path


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
