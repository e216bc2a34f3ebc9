"""Packs: made once, kept for the next process, in whatever type and shape they have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from delegraph.core.abi.values import DelegateError, ErrorCode
from delegraph.core.runtime.packs import PackStore
from delegraph.core.runtime.store import Store


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float32, np.int64, np.bool_])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 4)])
def test_the_next_process_finds_it(tmp_path: Path, dtype: type, shape: tuple[int, ...]) -> None:
    value: np.ndarray = np.ones(shape, dtype)
    first = PackStore(Store(tmp_path / "store"))
    first.get("cpu/rows/abc", lambda: value)
    second = PackStore(Store(tmp_path / "store"))
    found = second.get("cpu/rows/abc")
    assert (found.dtype, found.shape) == (value.dtype, value.shape)
    np.testing.assert_array_equal(found, value)
    assert not found.flags.writeable
    assert (first.made, second.made) == (1, 0)


def test_equal_names_share_one_array() -> None:
    packs = PackStore(None)
    first = packs.get("a", lambda: np.zeros(4))
    assert packs.get("a", lambda: np.ones(4)) is first
    assert packs.made == 1


def test_a_missing_pack_refuses_the_artifact() -> None:
    with pytest.raises(DelegateError) as caught:
        PackStore(None).get("a")
    assert caught.value.code is ErrorCode.ARTIFACT_REFUSED


def test_the_digest_depends_on_type_shape_and_bytes() -> None:
    packs = PackStore(None)
    value = np.arange(6, dtype=np.int32)
    digests = {
        packs.digest(v) for v in (value, value.reshape(2, 3), value.view(np.uint32), value + 1, value.astype(np.int64))
    }
    assert len(digests) == 5
    assert packs.digest(value) == packs.digest(value.copy())
