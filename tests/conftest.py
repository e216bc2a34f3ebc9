"""Fixtures that several folders use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support import require

from delegraph.testing import Oracle


@pytest.fixture(scope="session")
def oracle() -> Iterator[Oracle]:
    """LiteRT in a child process, one for the whole run."""
    require("litert")
    with Oracle() as found:
        yield found
