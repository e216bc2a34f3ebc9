"""An artifact's payload: what was compiled for a segment, as bytes.

    magic           8 bytes    b"DGCPU\\0" and the format version, little-endian
    digest         32 bytes    SHA-256 of all that follows
    header length   8 bytes
    header                     JSON: target, entry, scratch_bytes, packs, inputs, outputs, image and constants lengths
    padding                    to 64 bytes from the start
    image                      code and its read-only data (see relocate)
    padding                    to 64 bytes from the image's start
    constants                  what kernels read besides packs

Image and constants are mapped as one piece. The digest tells damage, not forgery: that is the store's business.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FORMAT = "cpu-1"
_MAGIC = b"DGCPU\0" + (1).to_bytes(2, "little")
_FRONT = len(_MAGIC) + 32 + 8
_ALIGNMENT = 64


class DamagedArtifact(ValueError):
    """Bytes that are no artifact of this format. Example: ``artifact: expected 5120 bytes, found 5119``"""


@dataclass(frozen=True, slots=True)
class CompiledSegment:
    """A payload, read.

    target: the name of the instruction set. entry: the offset of the entry function in ``code``. packs: (name, tensor,
    layout) each. inputs, outputs: sizes in bytes. code: image and constants; constants: their offset in it.
    """

    target: str
    entry: int
    scratch_bytes: int
    packs: tuple[tuple[str, int, str], ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    code: bytes | memoryview
    constants: int


def write(segment: CompiledSegment) -> bytes:
    """The payload."""
    header = json.dumps(
        {
            "target": segment.target,
            "entry": segment.entry,
            "scratch_bytes": segment.scratch_bytes,
            "packs": segment.packs,
            "inputs": segment.inputs,
            "outputs": segment.outputs,
            "constants": segment.constants,
            "code_bytes": len(segment.code),
        },
        separators=(",", ":"),
    ).encode()
    rest = len(header).to_bytes(8, "little") + header
    rest += bytes(-(_FRONT - 8 + len(rest)) % _ALIGNMENT) + bytes(segment.code)
    return _MAGIC + hashlib.sha256(rest).digest() + rest


def read(payload: bytes | memoryview) -> CompiledSegment:
    """Raises DamagedArtifact for anything but what ``write`` made."""
    view = memoryview(payload).cast("B")
    if len(view) < _FRONT or bytes(view[:8]) != _MAGIC:
        raise DamagedArtifact("artifact: expected the magic of format 1, found other bytes")
    if hashlib.sha256(view[40:]).digest() != bytes(view[8:40]):
        raise DamagedArtifact("artifact: expected the digest in its front, found another: bytes were changed")
    length = int.from_bytes(view[40:48], "little")
    start = _FRONT + length + -(_FRONT + length) % _ALIGNMENT
    header: Mapping[str, Any] = json.loads(bytes(view[_FRONT : _FRONT + length]))
    if len(view) != start + header["code_bytes"]:
        raise DamagedArtifact(f"artifact: expected {start + header['code_bytes']} bytes, found {len(view)}")
    return CompiledSegment(
        header["target"],
        header["entry"],
        header["scratch_bytes"],
        tuple((name, tensor, layout) for name, tensor, layout in header["packs"]),
        tuple(header["inputs"]),
        tuple(header["outputs"]),
        view[start:],
        header["constants"],
    )
