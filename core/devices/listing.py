"""Operators by device and type, each with the sentences of its limits: what ``delegraph ops`` shows.

Of a profile the rules are known; any other device is asked, with the OpDefs' test cases. Imports core.devices, abi.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from delegraph.core.abi.values import GraphView, Support, Verdict
from delegraph.core.devices.capability import Capability
from delegraph.core.devices.rules.operands import data_inputs
from delegraph.core.errors import DelegraphError
from delegraph.core.graph.build import build
from delegraph.core.graph.dtype import DType
from delegraph.core.ops.cases import case_model
from delegraph.core.ops.nodes import infer_op
from delegraph.core.ops.opdef import Case, OpDef
from delegraph.core.ops.registry import find


@dataclass(frozen=True, slots=True)
class Limit:
    """A rule as users read it. dtypes: the types of data that it was met on; empty: all."""

    constraint: str
    sentence: str
    limit: str = ""
    advice: str = ""
    dtypes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OpListing:
    """One operator on one device. verdicts: type of the data → the best answer that any op of it gets; empty where the
    device lacks the operator. missing: why it lacks it."""

    op: str
    device: str
    verdicts: Mapping[str, Verdict]
    limits: tuple[Limit, ...] = ()
    missing: str = ""


Supports = Callable[[GraphView], Sequence[Support]]


def of_profile(device: str, capability: Capability, op: str) -> OpListing:
    """What a profile says of an operator."""
    constraints = capability.constraints(op)
    if constraints is None:
        return OpListing(op, device, {}, missing=capability.missing(op).reason)
    verdicts: dict[str, Verdict] = {}
    limits = [Limit(c.id, c.sentence, c.limit, c.advice) for c in constraints]
    for dtype in capability.dtypes(op):
        if dtype not in _computed(op):
            limits.append(Limit("op.form", "there is no kernel to compute it with yet", dtypes=(str(dtype),)))
            continue
        differs = capability.deviation(op, [dtype])
        verdicts[str(dtype)] = Verdict.DEVIATES if differs else Verdict.YES
        if differs:
            limits.append(Limit("numerics", differs, dtypes=(str(dtype),)))
    return OpListing(op, device, verdicts, _joined(limits))


def of_device(device: str, supports: Supports, op: str) -> OpListing:
    """What a device answers on the OpDef's test cases. supports: its method of that name."""
    opdef = find(op)
    if opdef is None or opdef.host:
        return OpListing(op, device, {}, missing="core runs it itself" if opdef else "there is no OpDef for it")
    verdicts: dict[str, Verdict] = {}
    refusals: list[tuple[str, Support]] = []
    order = (Verdict.NO, Verdict.DEVIATES, Verdict.YES)
    for dtype, view in _views(opdef):
        (answer,) = supports(view)
        name = str(dtype)
        verdicts[name] = max(verdicts.get(name, Verdict.NO), answer.verdict, key=order.index)
        if answer.verdict is not Verdict.YES:
            refusals.append((name, answer))
    taken = {name: verdict for name, verdict in verdicts.items() if verdict is not Verdict.NO}
    if not taken:
        reason = refusals[0][1].reason if refusals else "no test case of the OpDef asks for it"
        return OpListing(op, device, {}, missing=reason)
    limits = [
        Limit(answer.constraint, answer.reason.partition(", found ")[0], answer.limit, answer.advice, (name,))
        for name, answer in refusals
        if name in taken and answer.constraint != "op.form"
    ]
    return OpListing(op, device, taken, _joined(limits))


def _computed(op: str) -> set[DType]:
    """The types of data that the OpDef has kernels for, as far as its test cases show."""
    opdef = find(op)
    if opdef is None:
        return set()
    return {dtype for dtype, view in _views(opdef) if opdef.form(view.nodes[0]) is not None}


def _joined(limits: Sequence[Limit]) -> tuple[Limit, ...]:
    """Each sentence once, with all the types that it was met on."""
    found: dict[str, Limit] = {}
    for each in limits:
        before = found.get(each.sentence, each)
        dtypes = tuple(dict.fromkeys((*before.dtypes, *each.dtypes)))
        found[each.sentence] = Limit(before.constraint, before.sentence, before.limit, before.advice, dtypes)
    return tuple(found.values())


@lru_cache(maxsize=256)
def _views(opdef: OpDef) -> tuple[tuple[DType, GraphView], ...]:
    """The type of the data and the op of each test case that is a valid op with shapes known before the run."""
    return tuple(_made(opdef))


def _made(opdef: OpDef) -> Iterator[tuple[DType, GraphView]]:
    cases = opdef.cases(np.random.default_rng(0)) if opdef.cases is not None else ()
    for case in cases:
        view = _view(opdef, case)
        if view is not None:
            data = data_inputs(view.nodes[0])
            yield (data[0] if data else view.nodes[0].outputs[0]).dtype, view


def _view(opdef: OpDef, case: Case) -> GraphView | None:
    try:
        graph = build(case_model(opdef, case)).main
        node = infer_op(graph, graph.ops[0], opdef, {})
    except DelegraphError:
        return None
    return None if node is None else GraphView(graph, (node,))
