"""Delegate "null": claims nothing and keeps the contract. It is there to be copied.

It is not registered: ``delegraph devices`` does not list it. ``delegraph check-delegate null`` checks it.

How to clone:

1. Copy this file to ``acme.py`` (or the folder to ``delegates/acme``, for one that ships with delegraph). Rename the
   classes, ``name`` and the id in ``INFO``: ids start with the delegate's name, as in ``acme:0``.
2. ``devices()``: list what is there, and what is broken with ``available=False``, a reason and a remedy. What decides
   whether an artifact fits (driver, instruction set, ...) goes into ``fingerprint``. Set ``may_hang`` for anything that
   a driver runs: core then watches it. Set ``memory_domain`` where the host can't address the memory, and add ``write``
   and ``read``. ``open()``: where the hardware is in use already, raise DelegateError; core tries again later.
3. ``supports()``: for each node YES, DEVIATES or NO. A NO says which rule decided, in a sentence with what was found.
   Look at ``node.op.name``, ``node.inputs``, ``node.outputs`` and ``node.options``; keep ``check()`` only for limits
   that the whole segment shows.
4. ``compile()``: the segment as bytes; constants in a layout of your own go into ``packs``, under names that hold their
   digests: models share them. ``load()``: those bytes as a Program (its scratch, its alignment, ``context()``) with its
   Context (``bind()``, ``unbind()``, ``run()``); refuse what is not yours with ARTIFACT_REFUSED.
   ``core/abi/protocols.py`` says what each method owes; ``delegates/reference`` is the shortest one that computes
   everything.
5. ``delegraph check-delegate ./acme.py`` after each step. docs/writing-a-delegate.md lists the rules.
6. Use it: ``dg.load_delegate("./acme.py")``, then ``devices=["acme"]``. To ship it, declare an entry point of the group
   ``delegraph.delegates``.

Imports delegraph.core.abi.
"""

from __future__ import annotations

from collections.abc import Sequence

from delegraph.core.abi import host
from delegraph.core.abi.protocols import Delegate, Device, Packs, Program
from delegraph.core.abi.values import (
    Artifact,
    DelegateError,
    DeviceInfo,
    ErrorCode,
    GraphView,
    Options,
    Segment,
    Support,
    Verdict,
)
from delegraph.core.graph.graph import Array

INFO = DeviceInfo(id="null", kind="accelerator", vendor="delegraph", driver="1", fingerprint={"driver": "1"})
NOTHING = Support(Verdict.NO, "null.nothing", "this device runs nothing: it is a skeleton to copy")


class NullDelegate(Delegate):
    """Delegate "null". A new version makes all artifacts anew."""

    name, version = "null", "1"

    def devices(self) -> Sequence[DeviceInfo]:
        return (INFO,)

    def open(self, device_id: str, options: Options, host: Device | None = None) -> NullDevice:
        if device_id != INFO.id:
            raise DelegateError(device_id, ErrorCode.INVALID, "there is no such device")
        return NullDevice()


class NullDevice(Device):
    """Device "null"."""

    info = INFO

    def supports(self, view: GraphView) -> Sequence[Support]:
        return [NOTHING] * len(view.nodes)

    def check(self, segment: Segment) -> Support:
        return NOTHING

    def compile(self, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None) -> Artifact:
        raise DelegateError(INFO.id, ErrorCode.UNSUPPORTED, NOTHING.reason)

    def load(self, artifact: Artifact, segment: Segment, packs: Packs) -> Program:
        raise DelegateError(INFO.id, ErrorCode.ARTIFACT_REFUSED, f"format {artifact.format!r}")

    def allocate(self, size_bytes: int, alignment: int = 64) -> host.HostBuffer:
        return host.allocate(size_bytes, alignment)

    def import_host(self, memory: Array) -> host.HostBuffer:
        return host.HostBuffer(memory)

    def close(self) -> None:
        return None
