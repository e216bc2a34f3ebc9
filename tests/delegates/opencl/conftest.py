"""The device that these tests run on."""

from __future__ import annotations

import pytest
from tests.delegates.opencl.harness import open_device
from tests.support import require

from delegraph.delegates.opencl.device import OpenClDevice


@pytest.fixture(scope="session")
def device() -> OpenClDevice:
    """The first OpenCL device that works; skips the test, saying so, where there is none."""
    require("opencl")
    return open_device()
