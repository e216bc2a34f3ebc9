"""What the tests need from outside the repository: shared data and optional packages.

`require("litert")` skips the test, saying why, where the thing is missing; with DELEGRAPH_REQUIRE=litert,shared
the same is a failure, so that a machine that should have it can't skip silently.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest


def shared_path() -> Path:
    """The folder of shared models and documents, which may not exist."""
    return Path(os.environ.get("DELEGRAPH_SHARED", Path(__file__).parents[2] / "shared"))


def require(name: str) -> None:
    present = {
        "shared": lambda: (shared_path() / "models" / "real" / "index.json").is_file(),
        "litert": lambda: importlib.util.find_spec("ai_edge_litert") is not None,
        "opencl": _has_opencl,
    }
    if present[name]():
        return
    if name in os.environ.get("DELEGRAPH_REQUIRE", "").split(","):
        pytest.fail(f"{name} is missing, but DELEGRAPH_REQUIRE names it")
    pytest.skip(f"needs {name}")


def _has_opencl() -> bool:
    """Whether there is a device that builds and runs kernels; found out once per process."""
    from delegraph.delegates.opencl import OpenClDelegate

    return any(info.available for info in OpenClDelegate().devices())
