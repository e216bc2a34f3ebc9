"""What the reader reads the writer writes: LiteRT computes the same bits from the rewritten file."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from tests.support import require, shared_path

import delegraph as dg
from delegraph.core.model.writer import write
from delegraph.testing import Oracle, OracleCrashed, OracleError, recipe_inputs

REAL = shared_path() / "models" / "real"
QUICK_BYTES = 100_000


@cache
def _files() -> dict[str, int]:
    index = REAL / "index.json"
    if not index.is_file():
        return {}
    return {row["file"]: row["bytes"] for row in json.loads(index.read_text())["models"] if row["litert"] == "ok"}


def _check(name: str, oracle: Oracle) -> None:
    path = REAL / name
    rewritten = write(dg.load(path))
    inputs = recipe_inputs(oracle.describe(path).inputs)
    try:
        expected = oracle.run(path, inputs).outputs
    except OracleCrashed:
        pytest.skip("LiteRT crashes on the original, so that nothing can be compared with the copy")
    except OracleError as exc:
        with pytest.raises(type(exc)):
            oracle.run(rewritten, inputs)
        return
    for y, z in zip(expected, oracle.run(rewritten, inputs).outputs, strict=True):
        assert (y.dtype, y.shape) == (z.dtype, z.shape)
        np.testing.assert_array_equal(y, z)


@pytest.mark.parametrize("name", [name for name, size in _files().items() if size < QUICK_BYTES])
def test_small_model(name: str, oracle: Oracle) -> None:
    _check(name, oracle)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, size in _files().items() if size >= QUICK_BYTES])
def test_larger_model(name: str, oracle: Oracle) -> None:
    _check(name, oracle)


def test_the_index_is_there() -> None:
    require("shared")
    assert len(_files()) > 250
