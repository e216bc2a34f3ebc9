"""Taking timings of single ops on a device: of a model's ops, and of the generic ones that it is calibrated with.

Imports core.devices.timing and what that imports. An op is timed as several copies of it side by side in a segment,
less the launch: alone it would vanish behind the launch. What costs less inside a segment than alone (a RESHAPE that
only renames, an elementwise op that is fused into the one before) is timed behind an ADD, less that ADD.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice

from delegraph.core.abi.protocols import Device, Packs
from delegraph.core.abi.values import DelegateError, DeviceInfo, ErrorCode, GraphView, Segment
from delegraph.core.devices.calibration import (
    DAMAGED,
    Clock,
    Get,
    Loaded,
    Peaks,
    Put,
    Turns,
    calibrated,
    key_of,
    least_time,
    one_op,
    runs_of,
    usual_time,
)
from delegraph.core.devices.op_traits import is_elementwise, is_rename, is_timed, signature_of
from delegraph.core.devices.timing import VERSION, Timing, TimingBook, roofline
from delegraph.core.devices.timing_cases import cases
from delegraph.core.devices.timing_segments import chain, copies, inside
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Graph
from delegraph.core.ops.opdef import Node

Progress = Callable[[int, int, str], None]
"""(done, of how many, the op that is next)."""

COPIES = 8
"""Copies of an op in a segment at most."""

LAUNCHES = 5
"""Launches that copies of an op are to outlast: as many as that takes are run."""

FUSED_SHAPE = (1, 28, 28, 32)
"""Of the ops that show whether a device fuses."""

AT_ONCE = 24
"""Segments that are loaded together and run in turns."""

CHAINS = (1, 9)
"""Lengths of the chains of equal ops that tell the launch from the ops."""


def timed_ops(
    device: Device,
    packs: Packs,
    view: GraphView,
    book: TimingBook,
    *,
    share_s: float = 0.003,
    clock: Clock = time.perf_counter,
    progress: Progress | None = None,
) -> tuple[Timing, ...]:
    """Times each distinct op of ``view`` that the device takes and the book does not know, in memory of the device.

    book: of the device. share_s: about how long each op runs in each of eight turns.

    Raises:
        DelegateError: the device failed as a whole; an op that alone fails is left out.
    """
    seen: set[str] = set()
    ops: list[_Op] = []
    for node in view.nodes:
        for is_inside in (False, True) if _may_be_inside(node, book.is_fusing) else (False,):
            signature = signature_of(node, is_inside)
            if signature not in seen and signature not in book.measured and is_timed(node):
                seen.add(signature)
                ops.append(_Op(view.graph, node, is_inside))
    return _Timer(device, packs, share_s, clock, progress).ops(ops, book.peaks)[0]


def calibrated_book(
    device: Device,
    packs: Packs,
    get: Get,
    put: Put,
    *,
    budget_s: float = 12.0,
    clock: Clock = time.perf_counter,
    progress: Progress | None = None,
) -> TimingBook:
    """The device's book: the one kept, or one made now and kept. A damaged entry is made again.

    budget_s: after that long, what has not been timed yet is left for another call, which goes on from there.

    Raises:
        DelegateError: the device failed, or takes none of the ops.
    """
    found = kept_book(device.info, get)
    if found is not None and not found.left:
        return found
    timer = _Timer(device, packs, 0.001, clock, progress)
    if found is None:
        peaks = calibrated(device, packs, get, put, budget_s=1.0, clock=clock)
        launch_ns = replace(timer, typical=usual_time).launch() or peaks.launch_ns
        found = TimingBook(peaks, launch_ns, is_fusing=_fuses(replace(timer, share_s=0.02)))
    found = _continued(timer, found, clock() + budget_s)
    keep_book(device.info, put, found)
    return found


def costs_key(info: DeviceInfo) -> dict[str, str]:
    """What a device's book depends on, by name."""
    return {**key_of(info), "costs": VERSION}


def kept_book(info: DeviceInfo, get: Get) -> TimingBook | None:
    """The book that is kept for the device; None where there is none that is whole."""
    kept = get(costs_key(info))
    if kept is None:
        return None
    try:
        return TimingBook.from_json(json.loads(kept))
    except DAMAGED:
        return None


def keep_book(info: DeviceInfo, put: Put, book: TimingBook) -> None:
    put(costs_key(info), json.dumps(book.to_json(), sort_keys=True).encode())


# --- how ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Op:
    """An op to time. is_inside: behind another one."""

    graph: Graph
    node: Node
    is_inside: bool = False

    def segments(self, n: int) -> tuple[Segment, ...]:
        """What to run: ``n`` copies of the op; or inside, copies of it with what stands around it, and of that alone,
        if there can be any."""
        one = one_op(self.graph, self.node)
        if not self.is_inside:
            return (copies(one, n),)
        pair = inside(one, is_between=is_rename(self.node))
        return () if pair is None else tuple(copies(segment, n) for segment in pair)


def _may_be_inside(node: Node, is_fusing: bool) -> bool:
    return is_rename(node) or (is_fusing and is_elementwise(node))


@dataclass(frozen=True)
class _Timer:
    """share_s: about how long each segment runs in each turn. typical: which time of all turns counts."""

    device: Device
    packs: Packs
    share_s: float
    clock: Clock
    progress: Progress | None = None
    typical: Callable[[Turns], float] = least_time

    def ops(
        self, ops: Sequence[_Op], peaks: Peaks, until: float = float("inf")
    ) -> tuple[tuple[Timing, ...], Sequence[_Op]]:
        """Timings, and the ops that were not come to. until: when to stop, by the clock."""
        launch_ns = self.launch() or peaks.launch_ns
        found: list[Timing] = []
        for first in range(0, len(ops), AT_ONCE):
            some = ops[first : first + AT_ONCE]
            counts = [max(1, min(COPIES, round(LAUNCHES * launch_ns / roofline(peaks, op.node)))) for op in some]
            parts = [op.segments(n) for op, n in zip(some, counts, strict=True)]
            segments = [segment for part in parts for segment in part]
            times = iter(self.times(segments, until, (first, len(ops))))
            for op, n, part in zip(some, counts, parts, strict=True):
                taken = list(islice(times, len(part)))
                if len(taken) < len(part):
                    return tuple(found), ops[ops.index(op) :]
                if taken and all(taken):
                    less = launch_ns if len(taken) == 1 else taken[1]
                    found.append(Timing.of(op.node, max(1, round((taken[0] - less) / n)), op.is_inside))
        return tuple(found), ()

    def launch(self) -> int:
        """ns of a launch: what a chain of ops takes beyond its ops; 0 where the device takes no chain."""
        patient = replace(self, share_s=0.02)
        for dtype in (DType.INT8, DType.FLOAT32):
            short, long = patient.turns([chain(dtype, n) for n in CHAINS])
            if short and long:
                # The op is the difference of undisturbed runs: what disturbs one of many would count many times.
                op = max(0.0, least_time(long) - least_time(short)) / (CHAINS[1] - CHAINS[0])
                return max(1, round(1e9 * (self.typical(short) - CHAINS[0] * op)))
        return 0

    def times(
        self, segments: Sequence[Segment], until: float = float("inf"), told: tuple[int, int] | None = None
    ) -> list[int]:
        """ns of a run of each, 0 for one that the device refuses or fails. until: when to load no more of them; those
        are not in the answer. told: (ops done, of how many) for whoever follows the progress."""
        return [
            max(1, round(self.typical(own) * 1e9)) if own is not None else 0
            for own in self.turns(segments, until, told)
        ]

    def turns(
        self, segments: Sequence[Segment], until: float = float("inf"), told: tuple[int, int] | None = None
    ) -> list[Turns | None]:
        """Runs of each. See ``times``."""
        loaded: dict[int, Loaded] = {}
        n = len(segments)
        with ExitStack() as stack:
            for index, segment in enumerate(segments):
                if self.clock() > until:
                    n = index
                    break
                if self.progress is not None and told is not None:
                    self.progress(min(told[0] + index, told[1]), told[1], segment.nodes[-1].op.name)
                one = self._loaded(segment)
                if one is not None:
                    loaded[index] = stack.enter_context(one)
            taken = dict(zip(loaded, runs_of(list(loaded.values()), self.share_s, self.clock), strict=True))
        return [taken.get(index) for index in range(n)]

    def _loaded(self, segment: Segment) -> Loaded | None:
        """The segment, after its first run; None when the device refuses it, or fails with it alone."""
        try:
            one = Loaded.of(self.device, self.packs, segment)
            if one is not None:
                one.start()
            return one
        except DelegateError as exc:
            if exc.code in (ErrorCode.DEVICE_LOST, ErrorCode.TIMEOUT):
                raise
            return None
        except Exception:  # a stranger's device may raise anything; the border is further out
            return None


def _continued(timer: _Timer, book: TimingBook, until: float) -> TimingBook:
    """The book with the timings of the last ``book.left`` ops of the calibration, or of all for a new book."""
    ops = []
    for segment in cases():
        node = segment.nodes[0]
        ops.append(_Op(segment.graph, node))
        if _may_be_inside(node, book.is_fusing):
            ops.append(_Op(segment.graph, node, is_inside=True))
    timings, left = timer.ops(ops[-book.left :], book.peaks, until)
    if not timings and not book.timings:
        info = timer.device.info
        raise DelegateError(info.id, ErrorCode.UNSUPPORTED, "calibrate: the device takes none of the ops")
    return replace(book.with_timings(timings), left=len(left))


def _fuses(timer: _Timer) -> bool:
    """Whether an elementwise float op costs much less behind another one than beside it."""
    one, row = (chain(DType.FLOAT32, n, FUSED_SHAPE) for n in (1, COPIES))
    alone, beside, behind = timer.times([one, copies(one, COPIES), row])
    return 0 < alone <= beside and 0 < behind and behind - alone < (beside - alone) / 2
