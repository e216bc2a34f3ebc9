"""Fixtures that several folders use."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.support import require

from delegraph.testing import Oracle


@pytest.fixture(scope="session", autouse=True)
def own_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The tests keep their artifacts apart from the user's."""
    before = os.environ.get("DELEGRAPH_CACHE_DIR")
    os.environ["DELEGRAPH_CACHE_DIR"] = str(tmp_path_factory.mktemp("store"))
    yield
    os.environ.pop("DELEGRAPH_CACHE_DIR") if before is None else os.environ.update(DELEGRAPH_CACHE_DIR=before)


@pytest.fixture(scope="session")
def oracle() -> Iterator[Oracle]:
    """LiteRT in a child process, one for the whole run."""
    require("litert")
    with Oracle() as found:
        yield found
