"""What is judged: a delegate and one of its devices, opened when a check first needs it. Imports core.abi, specimens.

A subject serves one check; whatever the check opens is closed behind it. Graphs to try are chosen by what the device
says it takes, in the same way each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from delegraph.core.abi.protocols import Delegate, Device
from delegraph.core.abi.values import Artifact, DelegateError, DeviceInfo, GraphView, Support, Verdict
from delegraph.delegates.reference import ReferenceDelegate
from delegraph.testing.contract import cases, glue
from delegraph.testing.contract.cases import Piece
from delegraph.testing.contract.execution import Bench
from delegraph.testing.contract.finding import skip
from delegraph.testing.contract.glue import Palette
from delegraph.testing.contract.packs import KeptPacks
from delegraph.testing.contract.sketch import Sketch, Specimen, UnusableSketch

USUAL_SHAPE = (1, 4, 6, 8)
_WEIGHTED = ("CONV_2D", "FULLY_CONNECTED", "DEPTHWISE_CONV_2D")


@dataclass
class Subject:
    """delegate: as its maker wrote it, without the border. info: the device, None for a rule about the delegate alone.
    name: how another process finds the delegate (``naming.find``), "" when it can't. is_isolated: it is found there in
    a process of its own."""

    delegate: Delegate
    info: DeviceInfo | None
    name: str = ""
    is_isolated: bool = False
    _opened: list[Device] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.info.id if self.info is not None else ""

    # --- devices

    @cached_property
    def host(self) -> Device:
        """The exact device that is handed to ``open``."""
        return ReferenceDelegate().open("reference", {})

    def open(self) -> Device:
        """Opens the device once more; it is closed behind the check."""
        device = self.delegate.open(self.id, {}, self.host)
        self._opened.append(device)
        return device

    def close(self, device: Device) -> None:
        """Closes one opening now."""
        self._opened.remove(device)
        device.close()

    def reopened(self) -> Device:
        """The device, closed and opened anew: hardware may be open only once. Nothing of it may be in use."""
        self.close(self.device)
        self.__dict__["device"] = self.open()
        return self.device

    def close_all(self) -> None:
        while self._opened:
            self._opened.pop().close()

    @cached_property
    def device(self) -> Device:
        """The device, opened. Skips the check when that fails: ``open.works`` says so."""
        try:
            return self.open()
        except Exception as exc:
            skip(f"the device can't be opened (see open.works): {exc}")

    # --- what it takes

    def answers(self, view: GraphView) -> list[Support]:
        """Its answers; where they are not one Support for each node, refusals (``supports.complete`` says so)."""
        device = self.device
        try:
            found = list(device.supports(view))
        except Exception as exc:
            skip(f"supports() raises (see supports.never_raises): {exc}")
        if len(found) != len(view.nodes) or not all(isinstance(answer, Support) for answer in found):
            skip("supports() does not answer for each node (see supports.complete)")
        return found

    def takes(self, specimen: Specimen, worst: Verdict = Verdict.DEVIATES) -> bool:
        """Whether the device takes this segment. worst: YES for exact answers only."""
        allowed = (Verdict.YES,) if worst is Verdict.YES else (Verdict.YES, Verdict.DEVIATES)
        answers = self.answers(specimen.view)
        if any(answer.verdict not in allowed for answer in answers):
            return False
        return bool(self.device.check(specimen.segment).runs)

    def palette(self, type_name: str, worst: Verdict = Verdict.YES) -> Palette:
        """The simple ops that it takes in this type."""
        try:
            specimen, candidates = glue.trial(glue.type_of(type_name, USUAL_SHAPE))
        except UnusableSketch:
            return ()
        answers = self.answers(specimen.view)
        allowed = (Verdict.YES,) if worst is Verdict.YES else (Verdict.YES, Verdict.DEVIATES)
        return tuple(c for c, answer in zip(candidates, answers, strict=True) if answer.verdict in allowed)

    def pieces(self, kind: str | None = None, worst: Verdict = Verdict.YES) -> list[Piece]:
        """Of the sampled cases of a kind, those that it takes."""
        return self._taken([piece for piece in cases.pieces() if kind in (None, piece.kind)], worst)

    def _taken(self, some: Sequence[Piece], worst: Verdict = Verdict.YES) -> list[Piece]:
        allowed = (Verdict.YES,) if worst is Verdict.YES else (Verdict.YES, Verdict.DEVIATES)
        answers = self.answers(cases.bundle(some).view)
        return [piece for piece, answer in zip(some, answers, strict=True) if answer.verdict in allowed]

    # --- graphs to try

    def workbench(self, seed: int = 9) -> Specimen:
        """The graph for checks that are not about ops: small, of ops that the device takes, exact ones if it has any.
        Skips the check when it takes none. seed: of its constant."""
        for worst in (Verdict.YES, Verdict.DEVIATES):
            for name in glue.TYPES:
                palette = self.palette(name, worst)
                if palette:
                    found = glue.workbench(palette, glue.type_of(name, USUAL_SHAPE), seed)
                    if self.takes(found):
                        return found
        return self._some_ops()

    def weighted(self) -> Specimen:
        """A graph whose ops have constants, if the device takes any such; else the workbench graph."""
        some = self._weighted_pieces()
        return cases.bundle(some) if some else self.workbench()

    def look_alikes(self) -> list[Specimen]:
        """The ``weighted`` graph, then graphs of the same ops and shapes with other constants: weights and biases,
        weights, biases, or scales of the results. Skips the check when the device takes none."""
        some = self._weighted_pieces()
        if some:
            varied = (
                [piece.with_other_constants((1, 2)) for piece in some],
                [piece.with_other_constants((1,)) for piece in some],
                [piece.with_other_constants((2,)) for piece in some],
                [piece.with_other_scales() for piece in some],
            )
            first, others = cases.bundle(some), [cases.bundle(pieces, "its look-alike") for pieces in varied]
        else:
            first, others = self.workbench(), [self.workbench(10)]
        others = [other for other in others if other is not first and self.takes(other)]
        if not others:
            skip("the device takes no ops with constants whose values may be others")
        return [first, *others]

    def _weighted_pieces(self) -> list[Piece]:
        weighted = [piece for piece in cases.pieces() if piece.op.name in _WEIGHTED and piece.has_constant]
        found = self._taken(weighted)
        return next((some for some in (found[:3], found[:1]) if some and self.takes(cases.bundle(some))), [])

    def first_that_runs(self, choices: Sequence[Sequence[Piece]]) -> Specimen | None:
        """The first of these bundles that ``check`` takes."""
        for some in choices:
            if some:
                specimen = cases.bundle(some)
                if self.takes(specimen):
                    return specimen
        return None

    def _some_ops(self) -> Specimen:
        for worst in (Verdict.YES, Verdict.DEVIATES):
            found = cases.with_data(self.pieces(None, worst), 3)
            specimen = self.first_that_runs([found, found[:1], found[1:2]])
            if specimen is not None:
                return specimen
        skip("the device takes none of the ops that were tried")

    def graph(self, make: Sketch) -> Specimen | None:
        """The sketch as a specimen if the device takes it."""
        try:
            specimen = make.specimen()
        except UnusableSketch:
            return None
        return specimen if self.takes(specimen) else None

    # --- programs

    def bench(
        self, specimen: Specimen | None = None, device: Device | None = None, packs: KeptPacks | None = None
    ) -> Bench:
        """The specimen (by default the workbench graph) compiled and loaded, with packs of its own unless some are
        given. Skips the check when that fails: ``compile.accepts`` and ``artifact.round_trip`` say so."""
        specimen = self.workbench() if specimen is None else specimen
        device = self.device if device is None else device
        packs = KeptPacks() if packs is None else packs
        try:
            return Bench.make(device, specimen, packs, is_loose=self.is_loose(specimen))
        except DelegateError as exc:
            skip(f"{specimen.name} can't be compiled and loaded (see compile.accepts): {exc}")

    def loaded(self, artifact: Artifact, packs: KeptPacks) -> Bench:
        """The ``weighted`` graph from an artifact of another process. Raises what load() raises."""
        specimen = self.weighted()
        program = self.device.load(artifact, specimen.segment, packs)
        return Bench(self.device, specimen, packs, artifact, program, self.is_loose(specimen))

    def is_loose(self, specimen: Specimen) -> bool:
        """Whether the device deviates on any op of it."""
        return any(answer.verdict is Verdict.DEVIATES for answer in self.answers(specimen.view))
