"""The border to delegates: a device as core uses it. Whatever it does wrong becomes a DelegateError here.

Imports core.abi, core.runtime.health and core.runtime.worker. A DeviceSlot opens its device when it is first needed,
and again after it was lost or after a fork. The floor (the reference device) is trusted: what it says of a model or of
data is passed on as it is. A device that may hang is only ever called from a thread of its own, with a time limit.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from types import TracebackType
from typing import Protocol, TypeVar, cast

from delegraph.core import forks
from delegraph.core.abi.protocols import Device, Packs, Program
from delegraph.core.abi.values import (
    FAILED,
    Artifact,
    DelegateError,
    DeviceInfo,
    ErrorCode,
    Estimate,
    GraphView,
    Options,
    Segment,
    Support,
    Verdict,
)
from delegraph.core.runtime.health import Health
from delegraph.core.runtime.worker import worker_for

T = TypeVar("T")

log = logging.getLogger("delegraph")

ASK_LIMIT_S = 60.0
"""How long a device that may hang may think about what it supports."""

PREPARE_LIMIT_S = 300.0
"""How long it may compile or load."""

CLOSE_LIMIT_S = 10.0
"""How long closing may keep what is to be closed behind it waiting."""

CALIBRATE_LIMIT_S = 60.0
"""How long its calibration may take, whose budget is some seconds."""


class Guard:
    """Turns whatever is raised inside into a DelegateError of a device. It keeps nothing of a use: one serves all."""

    __slots__ = ("_doing", "_slot")

    def __init__(self, slot: DeviceSlot, doing: str) -> None:
        self._slot, self._doing = slot, doing

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is not None and not isinstance(exc, KeyboardInterrupt):
            self._slot.blame(self._doing, exc)


class Holder(Protocol):
    """What refers to an opening for later use."""

    def let_go(self, opening: Opening) -> None:
        """Forgets it, if that is the one that it holds."""


class Opening:
    """A device that was opened. It is closed when it was lost and nothing refers to it any more: no program, no run
    that hangs, no call. Thread-safe."""

    def __init__(self, device: Device, slot: DeviceSlot) -> None:
        self.device = device
        self._lock = threading.Lock()
        self._holders: weakref.WeakSet[Holder] = weakref.WeakSet()
        self._closing = weakref.finalize(self, slot.closing, device.close)
        self._closing.atexit = not slot.info.may_hang  # at the end there is no thread to do it on
        forks.register(self)

    def renew(self) -> None:
        """In a child process: the device is the parent's to close."""
        self._closing.detach()

    def held_by(self, holder: Holder) -> None:
        """Has ``holder`` told when the device is lost."""
        with self._lock:
            self._holders.add(holder)

    def lost(self) -> None:
        """Has everybody let go of it who is not running on it just now."""
        with self._lock:
            holders = list(self._holders)
        for holder in holders:
            holder.let_go(self)


class DeviceSlot:
    """One device behind the border. Thread-safe.

    delegate: name and version of the delegate whose device it is, for cache keys.
    """

    def __init__(
        self,
        info: DeviceInfo,
        open_device: Callable[[], Device],
        *,
        delegate: tuple[str, str] = ("", ""),
        is_floor: bool = False,
    ) -> None:
        self.info = info
        self.delegate = delegate
        self.is_floor = is_floor
        self._open_device = open_device
        self.renew()
        forks.register(self)

    @property
    def id(self) -> str:
        return self.info.id

    @property
    def resource(self) -> str:
        """Devices of one resource don't run at the same time."""
        return self.info.resource or self.info.id

    @contextmanager
    def wrapped(self, wrap: Callable[[Device], Device]) -> Iterator[None]:
        """While the block lasts, the device is opened anew and ``wrap`` stands around it."""
        original = self._open_device
        self._open_device = lambda: wrap(original())
        self.lose()
        try:
            yield
        finally:
            self._open_device = original
            self.lose()

    def renew(self) -> None:
        """In a child process: nothing of the parent's device side is used."""
        self._swapping = threading.Lock()
        self._turn = threading.RLock()
        self._opening: Opening | None = None

    @property
    def current(self) -> Opening | None:
        """The opening of now, if the device is open."""
        return self._opening

    def opening(self) -> Opening:
        """The device, open. Raises DelegateError when it can't be opened. Of a device that may hang this is called on a
        worker only: ``bounded`` and ``LoadedSegment.start`` see to that."""
        found = self._opening
        if found is not None:
            return found
        turn = self._turn
        with turn:
            found = self._opening
            if found is None:
                with self.guard("open"):
                    found = Opening(self._open_device(), self)
                with self._swapping:
                    if turn is self._turn:  # else somebody gave up on this opening
                        self._opening = found
            return found

    def lose(self, opening: Opening | None = None) -> None:
        """Forgets the open device, and whoever is still opening it: the next use opens it again.

        opening: the one that failed; a newer one is left alone. By default that of now.
        """
        with self._swapping:
            lost = self._opening
            if opening is not None and opening is not lost:
                return
            self._opening, self._turn = None, threading.RLock()
        if lost is not None:
            lost.lost()  # the last one to refer to it closes it

    def closing(self, close: Callable[[], None]) -> None:
        """Closes something of the device; what it raises is of no use to anybody. Never waits for one that may hang."""

        def quietly() -> None:
            with suppress(Exception):  # a stranger's code: nobody waits for it, nobody could do anything about it
                close()

        if self.info.may_hang:
            with suppress(RuntimeError):  # no thread any more: the process ends, or is out of them
                worker_for(f"{self.resource}, closing").submit(quietly, CLOSE_LIMIT_S)
        else:
            quietly()

    def bounded(self, doing: str, task: Callable[[Opening], T], limit_s: float) -> T:
        """What ``task`` returns, which is handed the open device. Of a device that may hang it runs on another thread,
        which is left alone after ``limit_s`` seconds.

        Raises:
            DelegateError: of this device, whatever the task raises; TIMEOUT when it has not ended in time.
        """
        used: list[Opening] = []

        def on_device() -> T:
            used.append(self.opening())
            return task(used[0])

        try:
            with self.guard(doing):
                if not self.info.may_hang:
                    return on_device()
                ticket = worker_for(f"{self.resource}, preparing").submit(on_device, limit_s)
                try:
                    return cast(T, ticket.result(limit_s))
                except TimeoutError:
                    self.lose(used[0] if used else None)
                    ticket.worker.abandon(ticket)
                    raise DelegateError(self.id, ErrorCode.TIMEOUT, f"{doing}: not ended in {limit_s:.0f} s") from None
        except DelegateError as exc:
            if exc.code is ErrorCode.DEVICE_LOST and used:
                self.lose(used[0])
            raise

    def guard(self, doing: str) -> Guard:
        """Turns whatever is raised inside into a DelegateError of this device."""
        return Guard(self, doing)

    def blame(self, doing: str, exc: BaseException) -> None:
        """Raises what the device raised as a DelegateError of its own; returns where it is to be passed on as it is."""
        if isinstance(exc, DelegateError):
            if exc.device != self.id:
                raise DelegateError(self.id, exc.code, f"{doing}: {exc}") from exc
        elif isinstance(exc, MemoryError):
            raise DelegateError(self.id, ErrorCode.OUT_OF_MEMORY, f"{doing}: {exc or 'no memory'}") from exc
        elif not self.is_floor:
            raise DelegateError(self.id, ErrorCode.INTERNAL, f"{doing}: {type(exc).__name__}: {exc}") from exc

    def supports(self, view: GraphView) -> list[Support]:
        """One answer per node; a device that fails to answer is taken to refuse everything."""
        return self.asked(view)[0]

    def asked(self, view: GraphView, health: Health | None = None) -> tuple[list[Support], DelegateError | None]:
        """One answer per node, and what went wrong where the device failed to answer: it then refuses everything, with
        the constraint FAILED.

        health: where that is noted. While it wants the device left alone, the device is not asked, and that is the
        error. The floor is always asked.
        """
        try:
            with self._noted(health):
                answers = self.bounded("supports", lambda it: list(it.device.supports(view)), ASK_LIMIT_S)
                self._expect(len(answers) == len(view.nodes), "supports", len(view.nodes), f"{len(answers)} answers")
                for answer in answers:
                    self._expect_support("supports", answer)
        except DelegateError as exc:
            return [Support(Verdict.NO, FAILED, str(exc))] * len(view.nodes), exc
        return answers, None

    def checked(self, segment: Segment, health: Health | None = None) -> Support:
        """The device's answer for the whole segment.

        health: as for ``asked``.

        Raises:
            DelegateError: it failed to answer.
        """
        with self._noted(health):
            answer = self.bounded("check", lambda it: it.device.check(segment), ASK_LIMIT_S)
            self._expect_support("check", answer)
            return answer

    def check(self, segment: Segment) -> Support:
        """As ``checked``; a device that fails to answer refuses, with the constraint FAILED."""
        try:
            return self.checked(segment)
        except DelegateError as exc:
            return Support(Verdict.NO, FAILED, str(exc))

    def _noted(self, health: Health | None) -> AbstractContextManager[None]:
        return nullcontext() if health is None or self.is_floor else health.trying(self.id, "ask")

    def _expect_support(self, method: str, answer: object) -> None:
        self._expect(isinstance(answer, Support), method, "a Support", type(answer).__name__)
        assert isinstance(answer, Support)
        for name in ("constraint", "reason", "advice"):
            text = getattr(answer, name)
            self._expect(isinstance(text, str), method, f"a Support with a {name} of text", type(text).__name__)
        self._expect(isinstance(answer.verdict, Verdict), method, "a Support with a Verdict", answer.verdict)

    def estimate(self, view: GraphView) -> Sequence[Estimate | None]:
        """The device's own costs; all None when it has none, or fails to say."""
        try:
            found = self.bounded("estimate", lambda it: list(it.device.estimate(view)), ASK_LIMIT_S)
            self._expect(len(found) == len(view.nodes), "estimate", len(view.nodes), len(found))
            for estimate in found:
                self._expect_estimate(estimate)
            return found
        except DelegateError as exc:
            log.warning("%s has failed to estimate, its costs are predicted instead: %s", self.id, exc.message)
            return [None] * len(view.nodes)

    def _expect_estimate(self, found: object) -> None:
        self._expect(found is None or isinstance(found, Estimate), "estimate", "an Estimate", type(found).__name__)
        if isinstance(found, Estimate):
            for name in ("time_ns", "energy_nj"):
                figure = getattr(found, name)
                is_sound = isinstance(figure, int) and 0 <= figure < 1 << 63
                self._expect(is_sound, "estimate", f"{name} in [0, 2^63)", repr(figure))

    @property
    def estimates_segments(self) -> bool:
        """Whether the device has an idea of its own what a segment as one costs."""
        try:
            own = self.bounded("open", lambda it: it.device.estimate_segment, ASK_LIMIT_S)
        except DelegateError as exc:
            log.warning("%s can't be asked what segments cost: %s", self.id, exc.message)
            return False
        return getattr(own, "__func__", None) is not Device.estimate_segment

    def estimate_segment(self, segment: Segment) -> Estimate | None:
        """The device's own cost of a segment; None when it has none, or fails to say."""
        try:
            found = self.bounded("estimate", lambda it: it.device.estimate_segment(segment), ASK_LIMIT_S)
            self._expect_estimate(found)
            return found
        except DelegateError as exc:
            log.warning("%s has failed to estimate a segment: %s", self.id, exc.message)
            return None

    def compile(self, segment: Segment, packs: Packs, options: Options) -> Artifact:
        """Raises DelegateError."""
        return self.bounded("compile", lambda it: self.compiled(it, segment, packs, options), PREPARE_LIMIT_S)

    def compiled(self, opening: Opening, segment: Segment, packs: Packs, options: Options) -> Artifact:
        """As ``compile``, on the caller's thread: for what is bounded already."""
        with self.guard("compile"):
            deadline = time.monotonic() + PREPARE_LIMIT_S
            artifact = opening.device.compile(segment, packs, options, deadline=deadline)
            self._expect(isinstance(artifact, Artifact), "compile", "an Artifact", type(artifact).__name__)
            payload, names = artifact.payload, artifact.packs
            self._expect(
                isinstance(artifact.format, str), "compile", "a format of text", type(artifact.format).__name__
            )
            is_bytes = isinstance(payload, bytes | bytearray) or (
                isinstance(payload, memoryview) and payload.contiguous
            )
            self._expect(is_bytes, "compile", "an artifact of contiguous bytes", type(payload).__name__)
            is_named = isinstance(names, tuple) and all(isinstance(name, str) for name in names)
            self._expect(is_named, "compile", "a tuple of names of packs", repr(names)[:80])
            return artifact

    def load(self, device: Device, artifact: Artifact, segment: Segment, packs: Packs) -> Program:
        """device: what ``device`` returned, whose program it is to be. Raises DelegateError."""
        with self.guard("load"):
            program = device.load(artifact, segment, packs)
            try:
                self._expect_program(program)
            except Exception:
                self.closing(program.close)
                raise
            return program

    def _expect_program(self, program: Program) -> None:
        scratch, alignment = program.scratch_bytes, program.alignment
        self._expect(isinstance(scratch, int) and scratch >= 0, "load", "scratch_bytes of at least 0", scratch)
        self._expect(
            isinstance(alignment, int) and 0 < alignment <= 4096 and not alignment & (alignment - 1),
            "load",
            "an alignment that is a power of two up to 4096",
            alignment,
        )

    def _expect(self, holds: bool, method: str, expected: object, found: object) -> None:
        if not holds:
            raise DelegateError(self.id, ErrorCode.INTERNAL, f"{method}: expected {expected}, found {found}")
