"""Instruction sets: what this machine has, and the targets that code is generated for. Imports nothing of delegraph.

LLVM's own guess of the host is not asked: it goes by family and model, and needs LLVM (Source: facts-cpu.md §5.3).
"""

from __future__ import annotations

import functools
import platform
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Target:
    """A set of instructions that kernels are made for.

    llvm_cpu, llvm_features: as LLVM's target machine takes them. flags: what /proc/cpuinfo has to list. lanes: 32-bit
    elements of a vector. registers: vector registers. has_fma: fused multiply-add; without it, sums are rounded twice
    a step. has_vnni: dot products of bytes. has_vbmi: a table of 256 bytes in registers.
    """

    name: str
    llvm_cpu: str
    llvm_features: str
    flags: frozenset[str]
    lanes: int
    registers: int
    has_fma: bool
    has_vnni: bool = False
    has_vbmi: bool = False


_V2 = frozenset({"sse4_1", "sse4_2", "ssse3", "popcnt", "cx16"})
_V3 = _V2 | {"avx", "avx2", "fma", "bmi1", "bmi2", "f16c", "movbe"}
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}

TARGETS: tuple[Target, ...] = (
    Target(
        "avx512vbmi",
        "x86-64-v4",
        "+avx512vnni,+avx512vbmi",
        _V4 | {"avx512_vnni", "avx512vbmi"},
        16,
        32,
        True,
        True,
        True,
    ),
    Target("avx512vnni", "x86-64-v4", "+avx512vnni", _V4 | {"avx512_vnni"}, 16, 32, True, True),
    Target("avx512", "x86-64-v4", "", _V4, 16, 32, True),
    Target("avx2", "x86-64-v3", "", _V3, 8, 16, True),
    Target("sse4", "x86-64-v2", "", _V2, 4, 16, False),
)
"""Every target, the most capable first. Source of the levels: x86-64 psABI, micro-architecture levels."""


def target(name: str) -> Target | None:
    """The target of that name, or None."""
    return next((t for t in TARGETS if t.name == name), None)


@functools.cache
def host_flags() -> frozenset[str]:
    """What this machine's CPU has and its system lets use, in /proc/cpuinfo's words; empty where that can't be read."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def host_targets() -> tuple[Target, ...]:
    """The targets whose code runs here, the most capable first."""
    return tuple(t for t in TARGETS if t.flags <= host_flags())


def unusable() -> tuple[str, str] | None:
    """Why no code can be made for this machine, and what to do; None where it can."""
    machine = platform.machine().lower()
    if machine not in ("x86_64", "amd64"):
        return f"native code is made for x86-64 only, found {machine}", "use the reference device"
    if not sys.platform.startswith("linux"):
        return f"native code is loaded on Linux only, found {sys.platform}", "use the reference device"
    if not host_targets():
        return "the CPU lacks SSE4.2, the least that kernels are made for", "use the reference device"
    return None
