"""The lowerings, one module a family. Imports core.ops and delegates.opencl up to lowering."""

from __future__ import annotations

from delegraph.delegates.opencl.kernels import (
    binary,
    conversion,
    convolution,
    elementwise,
    fully_connected,
    movement,
    pooling,
    reduction,
    resize,
    softmax,
    tables,
)
from delegraph.delegates.opencl.lowering import Lowering

LOWERINGS: tuple[Lowering, ...] = (
    *elementwise.LOWERINGS,
    *binary.LOWERINGS,
    *tables.LOWERINGS,
    *convolution.LOWERINGS,
    *fully_connected.LOWERINGS,
    *pooling.LOWERINGS,
    *reduction.LOWERINGS,
    *movement.LOWERINGS,
    *softmax.LOWERINGS,
    *conversion.LOWERINGS,
    *resize.LOWERINGS,
)
"""Every lowering; of one op's, the first that takes a node's types is used."""


def lowerings_of(op: str) -> tuple[Lowering, ...]:
    """The lowerings of an op, by its name."""
    return _BY_OP.get(op, ())


_BY_OP: dict[str, tuple[Lowering, ...]] = {}
for _lowering in LOWERINGS:
    _BY_OP[_lowering.op] = (*_BY_OP.get(_lowering.op, ()), _lowering)
