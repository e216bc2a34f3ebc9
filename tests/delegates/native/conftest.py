"""The compiled example, and a model for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.delegates.native.compiler import library
from tests.graphs import GraphBuilder, model

import delegraph as dg
from delegraph import registry
from delegraph.core.graph.graph import Array
from delegraph.core.model.model import Model
from delegraph.core.runtime.health import Health


@pytest.fixture(scope="session")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, compiled."""
    return library(tmp_path_factory.mktemp("acme"))


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test starts and ends without loaded delegates, and what failed in it is left alone to its end: how often it
    is tried again would depend on how long the test takes."""
    monkeypatch.setattr(registry, "health", Health(lambda: 0.0))
    yield
    loaded = list(registry._loaded.values())
    registry._loaded.clear()
    for delegate in loaded:
        for info in delegate.devices():
            slot = registry._slots.pop(info.id, None)
            registry.health.forget(info.id)
            if slot is not None:
                slot.lose()
        close = getattr(delegate, "close", None)
        if close is not None:
            close()


@pytest.fixture(scope="session")
def dense() -> Model:
    """relu(x · w + b) + itself, and so on: ADD and FULLY_CONNECTED, with weights of 2 KiB."""
    rng = np.random.default_rng(0)
    g = GraphBuilder()
    x = g.input([3, 32])
    w = g.constant(rng.normal(size=(16, 32)).astype(np.float32))
    b = g.constant(rng.normal(size=16).astype(np.float32))
    h = g.op("FULLY_CONNECTED", [x, w, b], [3, 16], fused_activation_function=1)
    y = g.op("ADD", [h, h], [3, 16], fused_activation_function=3)
    g.outputs = [g.op("ADD", [y, h], [3, 16])]
    return model(g)


@pytest.fixture(scope="session")
def image() -> Array:
    return np.random.default_rng(1).normal(size=(3, 32)).astype(np.float32)


@pytest.fixture(scope="session")
def expected(dense: Model, image: Array) -> Array:
    result: Array = dg.compile(dense, devices="reference")(image)
    return result
