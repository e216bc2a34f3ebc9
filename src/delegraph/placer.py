"""Decides what goes where, for one compiled model: asks the devices, then the partitioner. Composition only.

Where no op has a choice, nothing is weighed: neither costs nor the solver are touched, so that a model for one device
compiles as if there were no partitioner.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from delegraph import registry
from delegraph.core.abi.values import FAILED, Cut, DelegateError, ErrorCode, GraphView, Limits, Support, Verdict
from delegraph.core.errors import InternalError, InvalidArgument
from delegraph.core.graph.graph import Graph
from delegraph.core.ops import registry as ops
from delegraph.core.ops.nodes import output_shapes
from delegraph.core.ops.opdef import Node
from delegraph.core.runtime.plan import Excluded
from delegraph.cutting import segments_of
from delegraph.partitioner.segments import cut_segments
from delegraph.partitioner.work import EXACT, EXCLUDED, FAST, Assignment, Decision, GraphWork, by_order, has_choice
from delegraph.request import Request, Say

if TYPE_CHECKING:
    from delegraph.costing import Costing
    from delegraph.partitioner.costs import CostTable

log = logging.getLogger("delegraph")
progress = logging.getLogger("delegraph.progress")
"""Told of what takes its time; the command line shows it."""

QUICK_BEYOND = 1000
"""Ops times devices beyond which what-ifs are answered by a quick search."""


class Placer:
    """The placement of one model's graphs. Thread-safe. weighs_all: whether costs are wanted where there is no choice,
    too. replays: whether the devices' answers are those in the costs that were handed in: no device is asked. say: told
    of what takes its time."""

    def __init__(
        self, request: Request, *, weighs_all: bool = False, replays: bool = False, say: Say = progress.info
    ) -> None:
        self.request = request
        self._slots = request.slots
        self._weighs_all = weighs_all
        self._replays = replays
        self._say = say
        self._latest: dict[int, Decision] = {}  # by graph: where what-ifs start from

    @cached_property
    def _costing(self) -> Costing:
        from delegraph.costing import Costing

        request = self.request
        return Costing(request.slots, request.fallbacks, request.machine, request.costs, self._say)

    @property
    def devices(self) -> tuple[str, ...]:
        """Every device that is asked, in the user's order, those that stand under them last."""
        if self._replays and self.request.costs is not None:
            return tuple(device.id for device in self.request.costs.devices)
        return tuple(self._slots)

    def place(
        self, graph: Graph, nodes: Sequence[Node], needed: frozenset[int], excluded: Excluded
    ) -> tuple[Decision, list[Cut]]:
        """Where each node goes, and the pieces in an order in which they can run.

        Raises:
            DelegateError: an op that no device runs, where falling back is not wanted.
            InvalidArgument: the placement that was handed in can't be run; pins or limits that can't be kept.
        """
        asked, failures = self._asked(GraphView(graph, tuple(nodes)))
        work = self._work(graph, nodes, needed, excluded, asked)
        self._expect_places(work)
        if self.request.given is not None:
            decision = self._given(work, is_first=not excluded)
        elif self._is_weighed(work):
            decision = self._weighed(work, is_first=not excluded)
        else:
            decision = self._decided(work, by_order(work), notes=self._why(work))
        return replace(decision, failures=failures), list(decision.cuts)

    def _work(
        self,
        graph: Graph,
        nodes: Sequence[Node],
        needed: frozenset[int],
        excluded: Excluded,
        asked: Mapping[str, Sequence[Support]],
    ) -> GraphWork:
        return GraphWork(
            graph,
            tuple(nodes),
            needed,
            {node.op.index: reason for node in nodes if (reason := host_reason(node))},
            asked,
            {
                name: [self._taken(a, name, graph, n, excluded) for a, n in zip(found, nodes, strict=True)]
                for name, found in asked.items()
            },
            self.request.named,
            {op: device for (g, op), device in self.request.pins.devices.items() if g == graph.index},
        )

    def _asked(self, view: GraphView) -> tuple[dict[str, list[Support]], tuple[DelegateError, ...]]:
        """What every device answers, and the errors of those that failed to."""
        if self._replays:
            return self._replayed(view.graph, view.nodes), ()
        found, failures = {}, []
        for name, slot in self._slots.items():
            found[name], error = slot.asked(view, registry.health if self.request.may_fall_back else None)
            if error is not None:
                if not self.request.may_fall_back:
                    raise error
                failures.append(error)
        return found, tuple(failures)

    def _replayed(self, graph: Graph, nodes: Sequence[Node]) -> dict[str, list[Support]]:
        """What the devices answered when the costs were written."""
        table = self.request.costs
        assert table is not None
        rows = table.of_graph(graph.index)
        silent = Support(Verdict.NO, "unknown", "the costs that were handed in say nothing of it")
        return {
            device.id: [
                rows[node.op.index].answers.get(device.id, silent) if node.op.index in rows else silent
                for node in nodes
            ]
            for device in table.devices
        }

    def _taken(self, answer: Support, device: str, graph: Graph, node: Node, excluded: Excluded) -> Support:
        if (node.op.index, device) in excluded:
            return Support(Verdict.NO, FAILED, "the device failed on a segment with this op")
        if (graph.index, node.op.index, device) in self.request.excluded:
            return Support(Verdict.NO, EXCLUDED, "it was excluded", "remove the exclusion")
        if answer.verdict is Verdict.DEVIATES and self.request.numerics == "exact":
            return Support(Verdict.NO, answer.constraint, answer.reason + EXACT, FAST)
        return answer

    def _expect_places(self, work: GraphWork) -> None:
        """Without the floor an op may find no device: that is the typed error that was asked for."""
        for position, node in enumerate(work.nodes):
            if not work.domain(position):
                if self._replays:
                    expected = f"a device in the costs that takes {node.op.name}"
                    raise InvalidArgument(f"costs: {node.place}", expected, "none", "take the costs of this model")
                first, *others = work.answers
                reasons = [work.answers[first][position].reason]
                reasons += [f"{name}: {work.answers[name][position].reason}" for name in others]
                advice = "name another device that runs it, or allow falling back"
                raise DelegateError(first, ErrorCode.UNSUPPORTED, f"{node.place}: {'; '.join(reasons)}; {advice}")

    def what_if(
        self, work: GraphWork, lifted: Collection[tuple[int, str]] = (), *, is_thorough: bool = False
    ) -> Decision | None:
        """What would be decided of other work by cost, None where that can't be told. lifted: (op, device) whose costs
        have to be known for that. is_thorough: not by a quick search, however large it is."""
        from delegraph.partitioner.solver.problem import NoEnergyModel

        try:
            table = self._costing.table(work)
            rows = table.of_graph(work.graph.index)
            if not all(op in rows and device in rows[op].costs for op, device in lifted):
                return None
            is_quick = not is_thorough and len(work.nodes) * len(work.named) > QUICK_BEYOND
            latest = self._latest.get(work.graph.index)
            start = latest.assignment if latest is not None and latest.work.nodes is work.nodes else None
            return self._solved(work, table, is_quick=is_quick, start=start)
        except (DelegateError, InvalidArgument, NoEnergyModel):
            return None

    @property
    def asked_segments(self) -> Mapping[tuple[int, str, tuple[int, ...]], int]:
        """(graph, device, ops) → what devices said of whole segments so far."""
        return self._costing.asked

    # --- by cost

    def _is_weighed(self, work: GraphWork) -> bool:
        is_asked_for = self._weighs_all or self.request.objective != "latency"
        return not self.request.why_by_order and (is_asked_for or has_choice(work, self._limits()))

    def _limits(self) -> dict[str, Limits]:
        if self._replays and self.request.costs is not None:
            return {device.id: device.limits for device in self.request.costs.devices}
        return {name: slot.info.limits for name, slot in self._slots.items()}

    def _why(self, work: GraphWork) -> tuple[str, ...]:
        """Why the order decides, where there was something to decide."""
        has_several = any(len(work.domain(position)) > 1 for position in range(len(work.nodes)))
        return (self.request.why_by_order,) if self.request.why_by_order and has_several else ()

    def _by_order(self, work: GraphWork, note: str = "") -> Decision:
        return self._decided(work, by_order(work), notes=(note,) if note else ())

    def _weighed(self, work: GraphWork, *, is_first: bool) -> Decision:
        """By cost; what a device refuses as a whole segment is taken from it, and the search repeated. is_first:
        nothing has failed yet; behind a failure nothing that the user asked for may keep the model from running."""
        from delegraph.partitioner.assignment import lacking

        while True:
            try:
                table = self._costing.table(work)
            except DelegateError as exc:
                log.warning("%s could not be measured, the order decides: %s", exc.device, exc.message)
                note = f"{exc.device} could not be measured, so that the order of the devices decides: {exc.message}"
                return self._by_order(work, note)
            if missing := lacking(work, table):
                return self._by_order(work, self._of_unknown_cost(work, missing))
            try:
                decision = self._solved(work, table)
            except InvalidArgument:
                if is_first:
                    raise
                return self._by_order(work)
            refused = None if self._replays else self._refused(work, decision.cuts)
            if refused is None:
                self._latest[work.graph.index] = decision
                return decision
            work = refused

    def _of_unknown_cost(self, work: GraphWork, positions: Sequence[int]) -> str:
        nodes = [work.nodes[position] for position in positions]
        names = ", ".join(dict.fromkeys(node.op.name for node in nodes))
        whose = "the costs that were handed in say" if self.request.costs is not None else "the devices say"
        which = f"{len(nodes)} ops of graph {work.graph.index} in these shapes ({names})"
        return f"{whose} nothing of {which}, so that the order of the devices decides"

    def _solved(
        self, work: GraphWork, table: CostTable, *, is_quick: bool = False, start: Assignment | None = None
    ) -> Decision:
        from delegraph.partitioner.assignment import by_cost
        from delegraph.partitioner.solver.problem import Unplaceable

        estimates, exceed = self._costing.estimates(work, table)
        try:
            with self._weighable():
                found = by_cost(
                    work,
                    table,
                    self.request.objective,
                    estimates,
                    estimates_exceed_sums=exceed,
                    is_quick=is_quick,
                    start=start,
                )
        except Unplaceable as exc:
            node = work.nodes[exc.op]
            advice = "remove its pin" if node.op.index in work.pins else exc.advice
            raise InvalidArgument(f"placement of {node.place}", exc.expected, exc.found, advice) from exc
        return self._decided(work, found, table)

    @contextmanager
    def _weighable(self) -> Iterator[None]:
        """Costs that were handed in may be such that nothing can be weighed by them: that is no error of delegraph."""
        try:
            yield
        except InternalError as exc:
            if self.request.costs is None:
                raise
            raise InvalidArgument("costs", "figures that can be weighed", exc.what, "correct the costs") from exc

    def _refused(self, work: GraphWork, cuts: Sequence[Cut]) -> GraphWork | None:
        """The work without what a device refuses as a whole; None where every segment is taken."""
        answers = {name: list(found) for name, found in work.answers.items()}
        position = {node.op.index: p for p, node in enumerate(work.nodes)}
        is_refused = False
        for cut, segment in segments_of(work, cuts):
            slot = self._slots.get(cut.device)
            answer = slot.check(segment) if slot is not None and not slot.is_floor else None
            if answer is not None and not answer.runs:
                is_refused = True
                for node in cut.nodes:
                    answers[cut.device][position[node.op.index]] = answer
        return replace(work, answers=answers) if is_refused else None

    # --- as given

    def _given(self, work: GraphWork, *, is_first: bool) -> Decision:
        """As the placement says; with costs where they are wanted. Behind a failure, segments are not insisted on."""
        from delegraph.partitioner.given import check_limits, cuts_of, devices_of, unspoken

        assert self.request.given is not None
        devices = devices_of(self.request.given, work)
        cuts = self._cut(work, devices)
        if is_first:
            cuts = cuts_of(self.request.given, work, devices, cuts)
            check_limits(cuts, self._limits(), work)
        for cut, segment in segments_of(work, cuts) if is_first and not self._replays else ():
            answer = self._slots[cut.device].check(segment)
            if not answer.runs and answer.constraint != FAILED:
                first, last = cut.nodes[0].op.index, cut.nodes[-1].op.index
                raise InvalidArgument(
                    f"placement: segment of ops {first} to {last}", f"one that {cut.device} takes", answer.reason,
                    answer.advice or "move it to another device",
                )  # fmt: skip
        assignment = Assignment(tuple(devices), tuple((device,) for device in devices))
        table = None
        if self._weighs_all and not self.request.why_by_order:
            from delegraph.partitioner.assignment import as_given
            from delegraph.partitioner.solver.problem import Unplaceable

            table = self._costing.table(work)
            estimates, _ = self._costing.estimates(work, table)
            with self._weighable(), suppress(Unplaceable):  # without a cost of every op nothing is predicted
                assignment = as_given(work, table, devices, cuts, estimates, self.request.objective)
        missing = unspoken(self.request.given, work)
        notes = (f"the placement says nothing of {len(missing)} ops of graph {work.graph.index}: they go by the order",)
        notes = (*(notes if missing else ()), *self._why(work), *_other_figures(self.request))
        return Decision(work, assignment, tuple(cuts), table, True, self.request.objective, notes)

    # --- pieces

    def _decided(
        self, work: GraphWork, assignment: Assignment, table: CostTable | None = None, notes: tuple[str, ...] = ()
    ) -> Decision:
        cuts = tuple(self._cut(work, assignment.devices))
        notes = (*notes, *_pins_not_kept(work))
        return Decision(work, assignment, cuts, table, False, self.request.objective, notes)

    def _cut(self, work: GraphWork, devices: Sequence[str]) -> list[Cut]:
        watched = frozenset(name for name, slot in self._slots.items() if slot.info.may_hang)
        if self._replays and self.request.costs is not None:
            watched = frozenset(device.id for device in self.request.costs.devices if device.may_hang)
        return cut_segments(work.graph, work.nodes, devices, watched)


def _other_figures(request: Request) -> list[str]:
    """That the figures of a record which was handed in were others'."""
    given = request.given
    if given is None or not given.predictions:
        return []
    then, now = ((of.machine, of.objective) for of in (given, request))
    if then == now:
        return []
    return [f"the placement was made for {' by '.join(then)}; its figures here are for {' by '.join(now)}"]


def _pins_not_kept(work: GraphWork) -> list[str]:
    """One sentence per device that refuses ops which are pinned to it."""
    refused: dict[str, list[int]] = {}
    for position, node in enumerate(work.nodes):
        pin = work.pins.get(node.op.index)
        if pin is not None and node.op.index not in work.host and pin not in work.takers(position):
            refused.setdefault(pin, []).append(position)
    found = []
    for device, positions in refused.items():
        ops = [work.nodes[p].op.index for p in positions]
        which = f"op {ops[0]} is" if len(ops) == 1 else f"{len(ops)} ops (the first is {ops[0]}) are"
        reason = work.answers[device][positions[0]].reason if device in work.answers else "it is not here"
        found.append(f"{which} pinned to {device}, which refuses: {reason}")
    return found


def host_reason(node: Node) -> str:
    """Why core runs an op itself, or "" for one that a device runs."""
    opdef = ops.find(node.op.name)
    if opdef is None:
        return ""
    if opdef.host:
        return {"control": "control flow is run by core", "resource": "variables belong to core"}[opdef.host]
    if any(shape is None for shape in output_shapes(node, opdef)):
        return "the shape of its result depends on data"
    if any(not spec.dtype.is_plain for spec in (*node.outputs, *(s for s in node.inputs if s is not None))):
        return "strings and handles never leave core"
    return ""
