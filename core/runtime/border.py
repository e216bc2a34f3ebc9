"""The border to delegates: a device as core uses it. Whatever it does wrong becomes a DelegateError here.

Imports core.abi, core.runtime.health and core.runtime.worker. A DeviceSlot opens its device when it is first needed,
and again after it was lost or after a fork. The floor (the reference device) is trusted: what it says of a model or of
data is passed on as it is. A device that may hang is only ever called from a thread of its own, with a time limit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from types import TracebackType
from typing import TypeVar

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

ASK_LIMIT_S = 60.0
"""How long a device that may hang may think about what it supports."""

PREPARE_LIMIT_S = 300.0
"""How long it may compile or load."""

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


class DeviceSlot:
    """One device behind the border. Thread-safe.

    delegate: name and version of the delegate whose device it is, for cache keys. generation: counts the openings;
    what was loaded under an older one is stale.
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
        self.generation = 0
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
        self._opening = threading.RLock()
        self._device: Device | None = None

    def holds(self, device: Device) -> bool:
        """Whether that is the device which is open now."""
        return self._device is device

    def device(self) -> Device:
        """The open device. Raises DelegateError when it can't be opened. Of a device that may hang this is called on a
        worker only: ``bounded`` and ``LoadedSegment.start`` see to that."""
        device = self._device
        if device is not None:
            return device
        opening = self._opening
        with opening:
            device = self._device
            if device is None:
                with self.guard("open"):
                    device = self._open_device()
                if opening is self._opening:
                    self.generation += 1
                    self._device = device
                else:  # somebody gave up on this opening
                    self.closing(device.close)
            return device

    def lose(self, generation: int | None = None) -> None:
        """Forgets the open device, and whoever is still opening it: the next use opens it again.

        generation: the opening that failed; a newer one is left alone.
        """
        if generation is not None and generation != self.generation:
            return
        device, self._device = self._device, None
        self._opening = threading.RLock()
        if device is not None:
            self.closing(device.close)

    def closing(self, close: Callable[[], None]) -> None:
        """Closes something of the device; what it raises is of no use to anybody. Never waits for one that may hang."""

        def quietly() -> None:
            with suppress(Exception):  # a stranger's code: nobody waits for it, nobody could do anything about it
                close()

        if self.info.may_hang:
            with suppress(RuntimeError):  # no thread any more: the process ends, or is out of them
                worker_for(f"{self.resource}, closing").submit(quietly)
        else:
            quietly()

    def bounded(self, doing: str, task: Callable[[], T], limit_s: float) -> T:
        """What ``task`` returns. Of a device that may hang it runs on another thread, which is left alone after
        ``limit_s`` seconds.

        Raises:
            DelegateError: of this device, whatever the task raises; TIMEOUT when it has not ended in time.
        """
        generation = self.generation + (self._device is None)  # that of the device which the task uses
        try:
            with self.guard(doing):
                return task() if not self.info.may_hang else self._watched(doing, task, limit_s)
        except DelegateError as exc:
            if exc.code is ErrorCode.DEVICE_LOST:
                self.lose(generation)
            raise

    def _watched(self, doing: str, task: Callable[[], T], limit_s: float) -> T:
        ticket = worker_for(f"{self.resource}, preparing").submit(task, limit_s)
        try:
            found: T = ticket.result(limit_s)
            return found
        except TimeoutError:
            ticket.worker.abandon(ticket)
            self.lose()
            raise DelegateError(self.id, ErrorCode.TIMEOUT, f"{doing}: not ended in {limit_s:.0f} s") from None

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
        noted = nullcontext() if health is None or self.is_floor else health.trying(self.id, "ask")
        try:
            with noted:
                answers = self.bounded("supports", lambda: list(self.device().supports(view)), ASK_LIMIT_S)
                self._expect(len(answers) == len(view.nodes), "supports", len(view.nodes), f"{len(answers)} answers")
                self._expect(all(isinstance(a, Support) for a in answers), "supports", "Support values", "others")
        except DelegateError as exc:
            return [Support(Verdict.NO, FAILED, str(exc))] * len(view.nodes), exc
        return answers, None

    def check(self, segment: Segment) -> Support:
        """The device's answer for the whole segment."""
        try:
            answer = self.bounded("check", lambda: self.device().check(segment), ASK_LIMIT_S)
            self._expect(isinstance(answer, Support), "check", "a Support", type(answer).__name__)
        except DelegateError as exc:
            return Support(Verdict.NO, FAILED, str(exc))
        return answer

    def estimate(self, view: GraphView) -> Sequence[Estimate | None]:
        """The device's own costs; all None when it has none, or fails to say."""
        try:
            found = self.bounded("estimate", lambda: list(self.device().estimate(view)), ASK_LIMIT_S)
            self._expect(len(found) == len(view.nodes), "estimate", len(view.nodes), len(found))
            return found
        except DelegateError:
            return [None] * len(view.nodes)

    @property
    def estimates_segments(self) -> bool:
        """Whether the device has an idea of its own what a segment as one costs."""
        try:
            own = self.bounded("open", lambda: self.device().estimate_segment, ASK_LIMIT_S)
        except DelegateError:
            return False
        return getattr(own, "__func__", None) is not Device.estimate_segment

    def estimate_segment(self, segment: Segment) -> Estimate | None:
        """The device's own cost of a segment; None when it has none, or fails to say."""
        try:
            found = self.bounded("estimate", lambda: self.device().estimate_segment(segment), ASK_LIMIT_S)
            self._expect(found is None or isinstance(found, Estimate), "estimate", "an Estimate", type(found).__name__)
            return found
        except DelegateError:
            return None

    def compile(self, segment: Segment, packs: Packs, options: Options) -> Artifact:
        """Raises DelegateError."""
        artifact = self.bounded("compile", lambda: self.device().compile(segment, packs, options), PREPARE_LIMIT_S)
        self._expect(isinstance(artifact, Artifact), "compile", "an Artifact", type(artifact).__name__)
        is_bytes = isinstance(artifact.payload, bytes | bytearray | memoryview)
        self._expect(is_bytes, "compile", "an artifact of bytes", type(artifact.payload).__name__)
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
