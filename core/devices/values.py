"""What devices.yaml says, as immutable values. Imports core.abi.

Figures are of one time base, the machine's: ops/s counts an operation as one (a multiply-accumulate is two), bytes/s
and nanoseconds are what they say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from delegraph.core.abi.values import Limits, Link
from delegraph.core.graph.dtype import DType


@dataclass(frozen=True, slots=True)
class Energy:
    """mac_pj: of a multiply-accumulate; byte_pj: of a byte moved to or from memory; 0 where nobody says. power_w: what
    the device draws while it starts a run and transfers, None where nobody says."""

    mac_pj: float = 0.0
    byte_pj: float = 0.0
    power_w: float | None = None


@dataclass(frozen=True, slots=True)
class Cpu:
    """The CPU of a machine. ops_per_s: by type of the operands, over all cores, as far as real models reach it.
    power_w: what it draws while it computes, None where nobody says."""

    name: str
    cores: int
    ops_per_s: Mapping[DType, float]
    memory_bytes_per_s: float
    power_w: float | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """Devices with their CPU, in one time base. cpu: None for ``host``, whose figures are measured."""

    id: str
    description: str
    cpu: Cpu | None = None


@dataclass(frozen=True, slots=True)
class Performance:
    """What an NNAPI driver says of itself, relative to the CPU reference: 0.5 is twice as good."""

    exec_time: float
    power_usage: float


@dataclass(frozen=True, slots=True)
class OpSet:
    """nnapi_level: NNAPI's operators of that feature level, or None for exactly those that the profile lists."""

    nnapi_level: int | None = None

    def __str__(self) -> str:
        return "tflite" if self.nnapi_level is None else f"nnapi:{self.nnapi_level}"


@dataclass(frozen=True, slots=True)
class Profile:
    """An emulated device.

    What it takes: op_set; only: of an NNAPI set these alone; every_op, ops: rules with their limits for all ops and
    for one (where an op's own limit stands in place of the general one).
    What it gives: numerics: type of the data → how results differ from the reference's, in a sentence; types that are
    not named are exact.
    How fast it is: ops_per_s: peak by type of the data; utilization: the share of it that an op reaches ("default" and
    by name); memory_bytes_per_s: of feature maps; weights_bytes_per_s: of constants that don't stay on the device;
    weight_cache_bytes: how many of them stay (None: all, 0: none); launch_ns: the floor of a run; op_ns: what
    each op costs on top; to_device, from_device: the links.
    What its driver claims: performance: "default", "float32" and "relaxed" (float32 in the precision of float16).
    How it fails: failures: what happens → when, in a sentence.
    digest: of all the above; another digest is another device to whatever was compiled for it.
    """

    id: str
    description: str
    machine: str
    vendor: str
    op_set: OpSet
    ops_per_s: Mapping[DType, float]
    memory_bytes_per_s: float
    digest: str
    family: str = "nnapi"
    kind: str = "accelerator"
    feature_level: int = 4
    dtypes: tuple[DType, ...] = ()
    only: tuple[str, ...] = ()
    every_op: Mapping[str, Any] = field(default_factory=dict)
    ops: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    numerics: Mapping[DType, str] = field(default_factory=dict)
    utilization: Mapping[str, float] = field(default_factory=lambda: {"default": 1.0})
    weights_bytes_per_s: float | None = None
    weight_cache_bytes: int | None = None
    sram_bytes: int | None = None
    launch_ns: int = 0
    op_ns: int = 0
    to_device: Link = Link()
    from_device: Link = Link()
    limits: Limits = Limits()
    energy: Energy | None = None
    performance: Mapping[str, Performance] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Match:
    """Which real devices an OpenCL rule is for: those whose names match all the patterns that are given."""

    platform: re.Pattern[str] | None = None
    vendor: re.Pattern[str] | None = None
    device: re.Pattern[str] | None = None
    driver: re.Pattern[str] | None = None

    def fits(self, **names: str) -> bool:
        """names: platform, vendor, device and driver of a device, as OpenCL gives them."""
        patterns = {name: getattr(self, name) for name in ("platform", "vendor", "device", "driver")}
        return all(p is None or p.search(names.get(name, "")) is not None for name, p in patterns.items())


@dataclass(frozen=True, slots=True)
class OpenClRule:
    """What can't be asked of a driver. without: features that it claims and that don't work or don't pay. unusable:
    why it can't be used at all; remedy: what to do then."""

    id: str
    match: Match
    description: str = ""
    without: tuple[str, ...] = ()
    launch_ns: int | None = None
    local_memory_bytes: int | None = None
    unusable: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Devices:
    """All that the files say. sources: the files, later ones over earlier ones."""

    machines: Mapping[str, Machine]
    profiles: Mapping[str, Profile]
    opencl: Mapping[str, OpenClRule]
    sources: tuple[str, ...] = ()

    def opencl_rules(self, **names: str) -> tuple[OpenClRule, ...]:
        """The rules for a device of these names (platform, vendor, device, driver), in the file's order."""
        return tuple(rule for rule in self.opencl.values() if rule.match.fits(**names))
