"""What the compiler has to know of a device, as plain values that travel between processes. Imports core.abi."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

KERNELS_VERSION = 1
"""Counts changes of the kernels' text and of the artifact's layout."""


@dataclass(frozen=True, slots=True)
class Traits:
    """One OpenCL device.

    platform, device: its place in the lists that the loader gives. kind: "gpu", "cpu" or "accelerator". fp64: has
    doubles. denormals: float32 keeps numbers below 2^-126. rounded_division: float32 division and square root can be
    rounded correctly. alignment: of sub-buffers, in bytes. max_buffer_bytes: of one allocation.
    """

    platform: int
    device: int
    platform_name: str
    platform_version: str
    name: str
    vendor: str
    version: str
    driver: str
    kind: str
    fp64: bool
    denormals: bool
    rounded_division: bool
    alignment: int
    max_buffer_bytes: int
    max_group: int
    compute_units: int
    shares_memory: bool

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Traits:
        """From what ``probe_child`` printed. Raises TypeError for another set of names."""
        return cls(**values)

    @property
    def fingerprint(self) -> dict[str, str]:
        """What decides whether a program's binary fits."""
        return {
            "platform": f"{self.platform_name} {self.platform_version}",
            "device": self.name,
            "driver": self.driver,
            "version": self.version,
        }

    @property
    def fingerprint_digest(self) -> str:
        parts = [KERNELS_VERSION, sorted(self.fingerprint.items()), self.build_options, self.exact_division]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def build_options(self) -> str:
        """Compiler options; nothing that trades accuracy for speed."""
        return "-cl-fp32-correctly-rounded-divide-sqrt" if self.rounded_division else ""

    @property
    def exact_division(self) -> bool:
        """Whether float32 division and square root can be rounded as IEEE 754 says: natively, or through doubles."""
        return self.rounded_division or self.fp64

    @property
    def numerics(self) -> str:
        """ "exact", or what differs in a sentence."""
        if not self.denormals:
            return "float32 numbers below 2^-126 count as 0"
        return "exact"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
