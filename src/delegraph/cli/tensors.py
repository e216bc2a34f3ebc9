"""Inputs and outputs of a model or signature as the command line sees them, and their real values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from delegraph.cli.metadata import TensorMetadata
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization, Shape

if TYPE_CHECKING:
    from delegraph.compiled import TensorInfo

NO_METADATA = TensorMetadata()


@dataclass(frozen=True)
class Port:
    """One input or output. name: unique among its kind. shape: -1 for dimensions that may vary."""

    name: str
    dtype: DType
    shape: Shape
    quantization: Quantization | None = None
    metadata: TensorMetadata = NO_METADATA

    def __str__(self) -> str:
        return f"{self.name!r} {self.dtype}{list(self.shape)}"

    @property
    def limits(self) -> tuple[int, int]:
        """Least and greatest value of an integer type."""
        info = np.iinfo(self.dtype.numpy)
        return int(info.min), int(info.max)

    @property
    def real_range(self) -> tuple[float, float] | None:
        """The reals that the quantized type can hold; None if it is not quantized per tensor."""
        if self.quantization is None or not self.quantization.is_per_tensor or not self.dtype.is_integer:
            return None
        scale, zero_point = float(self.quantization.scale), self.quantization.zero_point
        low, high = self.limits
        return scale * (low - zero_point), scale * (high - zero_point)


def ports(infos: Sequence[TensorInfo], metadata: Sequence[TensorMetadata], kind: str) -> list[Port]:
    """A port for each tensor, with metadata by position and a name of its own (``input_1`` where the file has none)."""
    found: list[Port] = []
    taken: set[str] = set()
    for i, info in enumerate(infos):
        name = info.name or f"{kind}_{i}"
        while name in taken:
            name = f"{name}_{i}"
        taken.add(name)
        about = metadata[i] if len(metadata) == len(infos) else NO_METADATA
        found.append(Port(name, info.dtype, info.shape, info.quantization, about))
    return found


def quantization_json(quantization: Quantization | None) -> dict[str, Any] | None:
    """Quantization for ``--json``; scales of a channel-wise one as a list."""
    if quantization is None or quantization.scales.size == 0:
        return None
    if quantization.is_per_tensor:
        return {"scale": float(quantization.scale), "zero_point": quantization.zero_point}
    return {
        "scale": quantization.scales.tolist(),
        "zero_point": quantization.zero_points.tolist(),
        "axis": quantization.axis,
    }


def quantization_text(quantization: Quantization | None) -> str:
    if quantization is None:
        return ""
    if quantization.block_size:
        return f"blocks of {quantization.block_size}"
    if quantization.is_per_tensor:
        scale, zero_point = f"{float(quantization.scale):.6g}", quantization.zero_point
        return f"{scale} * (q {'-' if zero_point > 0 else '+'} {abs(zero_point)})" if zero_point else f"{scale} * q"
    return f"{quantization.scales.size} scales along axis {quantization.axis}"


def quantize(reals: Array, port: Port) -> Array:
    """Reals as the port's integers: ``round(real / scale) + zero_point``, halves away from zero, saturated."""
    if port.quantization is None:
        raise ValueError(f"{port} is not quantized")
    scaled = np.asarray(reals, np.float64) / float(port.quantization.scale)
    rounded = np.trunc(scaled + np.copysign(0.5, scaled)) + port.quantization.zero_point
    low, high = port.limits
    values: Array = np.clip(rounded, low, high).astype(port.dtype.numpy)
    return values


def dequantize(values: Array, port: Port) -> Array:
    """The reals that a port's values stand for; values that are not quantized as they are."""
    quantization = port.quantization
    if port.dtype is DType.BFLOAT16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    if quantization is None or not quantization.is_per_tensor or not port.dtype.is_integer:
        return values
    return (values.astype(np.float64) - quantization.zero_point) * float(quantization.scale)


def is_quantized(port: Port) -> bool:
    return port.real_range is not None
