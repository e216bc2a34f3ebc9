"""Artifacts: they load where llvmlite is missing, and whatever is damaged or foreign is refused."""

from __future__ import annotations

import hashlib
import pickle
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.delegates.agreement import load, run
from tests.delegates.cpu.network import DATA, network_segment

from delegraph.core.abi.values import Artifact, DelegateError, ErrorCode, Segment
from delegraph.core.runtime.packs import PackStore
from delegraph.delegates.cpu import CpuDelegate, artifact, llvm

pytest.importorskip("llvmlite")

ROOT = Path(__file__).parents[3]

CHILD = """
import pickle, sys
sys.modules["llvmlite"] = sys.modules["llvmlite.binding"] = None  # importing it raises ImportError
from delegraph.core.abi.values import Artifact
from delegraph.delegates.cpu import CpuDelegate
from tests.delegates.agreement import load
from tests.delegates.cpu.network import DATA, network_segment
artifact = Artifact("cpu-1", sys.stdin.buffer.read())
outputs = load(CpuDelegate().open("cpu", {}), network_segment(), artifact).run_fresh([DATA])
sys.stdout.buffer.write(pickle.dumps(outputs))
"""


@pytest.fixture(scope="module")
def compiled() -> tuple[Segment, Artifact]:
    segment = network_segment()
    return segment, CpuDelegate().open("cpu", {}).compile(segment, PackStore(None), {})


def _refusal(segment: Segment, changed: Artifact) -> DelegateError:
    with pytest.raises(DelegateError) as caught:
        CpuDelegate().open("cpu", {}).load(changed, segment, PackStore(None))
    assert caught.value.code is ErrorCode.ARTIFACT_REFUSED
    return caught.value


def test_loads_in_a_process_without_llvmlite(compiled: tuple[Segment, Artifact]) -> None:
    segment, made = compiled
    child = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=bytes(made.payload),
        capture_output=True,
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert child.returncode == 0, child.stderr.decode()
    (theirs,) = pickle.loads(child.stdout)
    (ours,) = run(CpuDelegate().open("cpu", {}), segment, [DATA])
    np.testing.assert_array_equal(ours, theirs)


def test_a_view_is_as_good_as_bytes(compiled: tuple[Segment, Artifact]) -> None:
    segment, made = compiled
    shifted = memoryview(b"?" + bytes(made.payload))[1:]
    device = CpuDelegate().open("cpu", {})
    (found,) = load(device, segment, Artifact(made.format, shifted)).run_fresh([DATA])
    np.testing.assert_array_equal(found, run(device, segment, [DATA])[0])


def test_compiling_again_gives_the_same_bytes(compiled: tuple[Segment, Artifact]) -> None:
    segment, made = compiled
    assert CpuDelegate().open("cpu", {}).compile(segment, PackStore(None), {}).payload == made.payload


def test_damage_anywhere_is_refused(compiled: tuple[Segment, Artifact]) -> None:
    segment, made = compiled
    data = bytearray(made.payload)
    for at in {*range(64), *range(64, len(data), 97), len(data) - 1}:
        data[at] ^= 0x10
        _refusal(segment, replace(made, payload=bytes(data)))
        data[at] ^= 0x10
    for size in (0, 1, 8, 40, 48, 100, len(data) // 2, len(data) - 1):
        _refusal(segment, replace(made, payload=bytes(data[:size])))
    _refusal(segment, replace(made, payload=bytes(data) + b"\0"))


def test_foreign_artifacts_are_refused(compiled: tuple[Segment, Artifact]) -> None:
    segment, made = compiled
    assert "format" in str(_refusal(segment, replace(made, format="cpu-0")))
    read = artifact.read(made.payload)
    foreign = replace(made, payload=artifact.write(replace(read, target="avx1024")))
    assert "avx1024, which this CPU does not have" in str(_refusal(segment, foreign))
    other = replace(made, payload=artifact.write(replace(read, inputs=(4,))))
    assert "tensors of other sizes" in str(_refusal(segment, other))


def test_damage_is_told_by_the_digest() -> None:
    payload = artifact.write(artifact.CompiledSegment("sse4", 0, 0, (), (), (), b"\xc3", 1))
    assert payload[8:40] == hashlib.sha256(payload[40:]).digest()
    with pytest.raises(artifact.DamagedArtifact, match="bytes were changed"):
        artifact.read(payload[:-1] + b"\xc4")


def test_without_llvmlite_the_device_is_listed_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llvm, "is_present", lambda: False)
    (info,) = CpuDelegate().devices()
    assert (info.id, info.available) == ("cpu", False)
    assert info.reason == "llvmlite is not installed" and info.remedy == "pip install 'delegraph[cpu]'"


@pytest.mark.parametrize("machine", ["aarch64", "riscv64"])
def test_other_machines_are_told_why(monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    (info,) = CpuDelegate().devices()
    assert not info.available and info.reason == f"native code is made for x86-64 only, found {machine}"
    with pytest.raises(DelegateError, match="x86-64 only"):
        CpuDelegate().open("cpu", {})
