"""Artifacts: a round trip through bytes and another process, and refusal of what is damaged or foreign."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.delegates.opencl import models
from tests.delegates.opencl.harness import Loaded, model_segment

from delegraph.core.abi.values import Artifact, DelegateError, ErrorCode
from delegraph.core.runtime.packs import PackStore
from delegraph.delegates.opencl import artifact as artifacts
from delegraph.delegates.opencl.device import OpenClDevice

SEGMENT = model_segment(models.float_network())
X = np.random.default_rng(1).uniform(-1, 1, (1, 9, 9, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def loaded(device: OpenClDevice) -> Loaded:
    return Loaded(device, SEGMENT, PackStore(None))


def test_another_process_runs_it(loaded: Loaded, tmp_path: Path) -> None:
    (tmp_path / "artifact").write_bytes(loaded.artifact.payload)
    np.save(tmp_path / "input.npy", X)
    script = Path(__file__).with_name("load_child.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path)},  # no driver's own cache
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.load(tmp_path / "output.npy"), loaded.run([X])[0])


def test_compiling_again_gives_the_same_but_for_the_driver(loaded: Loaded) -> None:
    again = loaded.device.compile(SEGMENT, PackStore(None), {})
    first, second = (artifacts.decode(a.payload) for a in (loaded.artifact, again))
    assert first.plan == second.plan and bytes(first.blobs) == bytes(second.blobs)


def test_packs_are_named_and_made_once(device: OpenClDevice) -> None:
    packs = PackStore(None)
    held = Loaded(device, SEGMENT, packs)
    names = held.artifact.packs
    assert len(names) == 3 and all(name.startswith("opencl/") for name in names)
    kept = [device._constants[name] for name in names]
    other = device.load(held.artifact, SEGMENT, PackStore(None))
    assert [buffer in other.packs for buffer in kept] == [True] * 3  # the same memory, not another copy


def _refused(device: OpenClDevice, artifact: Artifact) -> str:
    with pytest.raises(DelegateError) as caught:
        device.load(artifact, SEGMENT, PackStore(None))
    assert caught.value.code is ErrorCode.ARTIFACT_REFUSED
    return caught.value.message


def test_damage_anywhere_is_refused(loaded: Loaded) -> None:
    payload = bytes(loaded.artifact.payload)
    for position in [*range(0, 48, 5), *np.linspace(48, len(payload) - 1, 12).astype(int)]:
        damaged = bytearray(payload)
        damaged[position] ^= 0x10
        _refused(loaded.device, replace(loaded.artifact, payload=bytes(damaged)))
    for length in (0, 7, 47, 48, len(payload) - 1):
        _refused(loaded.device, replace(loaded.artifact, payload=payload[:length]))
    _refused(loaded.device, replace(loaded.artifact, payload=payload + b"\0"))


def test_foreign_artifacts_are_refused(loaded: Loaded) -> None:
    assert "format" in _refused(loaded.device, Artifact("reference-0"))
    parts = artifacts.decode(loaded.artifact.payload)
    elsewhere = replace(parts.plan, fingerprint="0" * 64)
    payload = artifacts.encode(elsewhere, bytes(parts.blobs), parts.binary)
    assert "another device or driver" in _refused(loaded.device, Artifact(artifacts.FORMAT, payload))


def test_a_binary_that_the_driver_does_not_take_is_refused(loaded: Loaded) -> None:
    parts = artifacts.decode(loaded.artifact.payload)
    for binary in (b"no program", b""):
        payload = artifacts.encode(parts.plan, bytes(parts.blobs), binary)
        _refused(loaded.device, Artifact(artifacts.FORMAT, payload))
    missing = replace(parts.plan, kernels=[*parts.plan.kernels[:-1], "no_such_kernel"])
    payload = artifacts.encode(missing, bytes(parts.blobs), parts.binary)
    _refused(loaded.device, Artifact(artifacts.FORMAT, payload))


def test_an_artifact_of_another_segment_is_refused(loaded: Loaded) -> None:
    parts = artifacts.decode(loaded.artifact.payload)
    moved = [(tensor + 1000, layout, name + "x") for tensor, layout, name in parts.plan.packs]
    payload = artifacts.encode(replace(parts.plan, packs=moved), bytes(parts.blobs), parts.binary)
    assert "constant" in _refused(loaded.device, Artifact(artifacts.FORMAT, payload))


def test_a_view_on_a_mapped_file_will_do(loaded: Loaded, tmp_path: Path) -> None:
    path = tmp_path / "artifact"
    path.write_bytes(loaded.artifact.payload)
    mapped = np.memmap(path, np.uint8, "r")
    program = loaded.device.load(replace(loaded.artifact, payload=mapped.data), SEGMENT, PackStore(None))
    assert program.scratch_bytes == loaded.program.scratch_bytes
