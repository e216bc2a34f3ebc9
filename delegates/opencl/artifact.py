"""The artifact: a compiled segment as bytes, and back. Imports core.abi, launches.

Layout, little-endian: magic [8], digest of all that follows [16], then three lengths (uint64) and as many parts:
the plan as JSON, the blobs, the driver's program binary. The plan:

    fingerprint   digest of the device and driver that the binary is for
    kernels       names, in the order of their numbers
    scratch       bytes of working memory
    packs         [[tensor, layout, name], ...]
    blobs         [[offset, bytes], ...]
    launches      [[kernel, work items, [argument, ...]], ...]
    inputs, outputs  bytes of each

An argument is ["in", i], ["out", i], ["scratch", offset, bytes], ["pack", i], ["blob", i], ["int", value] or
["float", bits].
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import xxhash

FORMAT = "opencl-1"
_MAGIC = b"DGOPENCL"
_HEADER = struct.Struct("<8s16sQQQ")

Argument = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, with the places of all memory; see the module's text."""

    fingerprint: str
    kernels: Sequence[str]
    scratch: int
    packs: Sequence[tuple[int, str, str]]
    blobs: Sequence[tuple[int, int]]
    launches: Sequence[tuple[int, int, Sequence[Argument]]]
    inputs: Sequence[int]
    outputs: Sequence[int]


@dataclass(frozen=True, slots=True)
class Parts:
    """An artifact taken apart; views on its payload."""

    plan: Plan
    blobs: memoryview
    binary: bytes


def encode(plan: Plan, blobs: bytes, binary: bytes) -> bytes:
    """The payload."""
    text = json.dumps(asdict(plan), separators=(",", ":")).encode()
    lengths = struct.pack("<QQQ", len(text), len(blobs), len(binary))
    body = b"".join((lengths, text, blobs, binary))
    return b"".join((_MAGIC, xxhash.xxh3_128_digest(body), body))


def decode(payload: bytes | memoryview) -> Parts:
    """Raises ValueError, saying what is wrong with the payload."""
    view = memoryview(payload).cast("B") if len(payload) else memoryview(b"")
    if len(view) < _HEADER.size:
        raise ValueError(f"{len(view)} bytes are too few")
    magic, digest, *lengths = _HEADER.unpack_from(view)
    if magic != _MAGIC:
        raise ValueError("it is no artifact of this delegate")
    if len(view) != _HEADER.size + sum(lengths):
        raise ValueError(f"expected {_HEADER.size + sum(lengths)} bytes, found {len(view)}")
    if xxhash.xxh3_128_digest(view[24:]) != digest:
        raise ValueError("its bytes are damaged")
    first, second = _HEADER.size + lengths[0], _HEADER.size + lengths[0] + lengths[1]
    try:
        plan = Plan(**json.loads(bytes(view[_HEADER.size : first])))
    except (TypeError, ValueError) as exc:
        raise ValueError(f"its plan can't be read: {exc}") from exc
    return Parts(plan, view[first:second], bytes(view[second:]))
