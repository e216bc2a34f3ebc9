"""Costs of ops: exact for a device of known times, the same for the same book, and kept for as long as they hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count, islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delegraph.core.abi import host
from delegraph.core.abi.protocols import Buffer, Context, Device, Event, Packs, Program
from delegraph.core.abi.values import (
    SUPPORTED,
    Artifact,
    DelegateError,
    DeviceInfo,
    ErrorCode,
    Estimate,
    GraphView,
    Link,
    Options,
    Segment,
    Support,
    Verdict,
)
from delegraph.core.devices import calibration, timer, timing_cases
from delegraph.core.devices.calibration import Peaks
from delegraph.core.devices.op_traits import is_elementwise, is_rename, signature_of, work_of
from delegraph.core.devices.rates import Rates
from delegraph.core.devices.timer import calibrated_book, costs_key, kept_book, timed_ops
from delegraph.core.devices.timing import Timing, TimingBook, predicted, predicted_ops, predicted_segment
from delegraph.core.devices.timing_cases import convolution, dense, pair, unary
from delegraph.core.devices.timing_segments import chain, copies, inside
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array
from delegraph.core.ops.opdef import Node
from delegraph.core.runtime.packs import PackStore
from delegraph.delegates.reference import ReferenceDelegate

LAUNCH_NS = 5_000
FLOAT, INT = DType.FLOAT32, DType.INT8


class Clock:
    """Time that passes only while a device runs, and a little at each look."""

    def __init__(self) -> None:
        self.ns, self.looks = 0.0, 0

    def __call__(self) -> float:
        self.looks += 1
        return self.ns / 1e9


class Modelled(Device):
    """A device that computes nothing, in a time that is known. costs: ns of each of a segment's ops in its place."""

    def __init__(self, clock: Clock, costs: Callable[[Segment], Sequence[float]], **info: object) -> None:
        self.info = replace(DeviceInfo("modelled", "accelerator", "tests", "1"), **info)  # type: ignore[arg-type]
        self.clock, self.costs = clock, costs
        self.takes: Callable[[Node], bool] = lambda node: True
        self.compiled: list[str] = []

    def supports(self, view: GraphView) -> Sequence[Support]:
        return [SUPPORTED if self.takes(n) else Support(Verdict.NO, "test", "not that") for n in view.nodes]

    def compile(self, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None) -> Artifact:
        self.compiled.append(segment.nodes[-1].op.name)
        return Artifact("modelled")

    def load(self, artifact: Artifact, segment: Segment, packs: Packs) -> Program:
        return ModelledProgram(self.clock, LAUNCH_NS + sum(self.costs(segment)))

    def allocate(self, size_bytes: int, alignment: int = 64) -> Buffer:
        return host.HostBuffer(np.empty(size_bytes, np.uint8))


class ModelledProgram(Program):
    def __init__(self, clock: Clock, ns: float) -> None:
        self.clock, self.ns, self.fails = clock, ns, False

    def context(self, scratch: Buffer) -> Context:
        return ModelledContext(self)


class ModelledContext(Context):
    def __init__(self, program: ModelledProgram) -> None:
        self.program = program

    def bind(self, inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> None:
        return None

    def run(self, *, after: Sequence[Event] = (), deadline: float | None = None) -> Event:
        if self.program.fails:
            raise RuntimeError("no such run")
        self.program.clock.ns += self.program.ns
        return host.FINISHED


def linear(node: Node) -> float:
    work = work_of(node)
    return 40 + 0.01 * work.macs + 0.2 * work.bytes_written + 0.05 * work.bytes_read


def each(cost: Callable[[Node], float]) -> Callable[[Segment], Sequence[float]]:
    return lambda segment: [cost(node) for node in segment.nodes]


def none(key: Mapping[str, str]) -> bytes | None:
    return None


def book_of(device: Modelled) -> TimingBook:
    return calibrated_book(device, PackStore(None), none, lambda key, data: None, clock=device.clock)


@pytest.fixture(scope="module")
def book() -> TimingBook:
    return book_of(Modelled(Clock(), each(linear)))


def node_of(segment: Segment) -> Node:
    return segment.nodes[0]


# --- prediction ---------------------------------------------------------------------------------------------------


UNSEEN = (
    convolution("CONV_2D", INT, 24, 24, 40, 72, (1, 1), 1, 0),
    convolution("CONV_2D", FLOAT, 60, 60, 16, 32, (3, 3), 2, 0),
    convolution("DEPTHWISE_CONV_2D", INT, 36, 36, 48, 1, (3, 3), 1, 0),
    dense(FLOAT, 2, 300, 50),
    pair("ADD", INT, (1, 20, 20, 32), (1, 20, 20, 32)),
    unary("LOGISTIC", FLOAT, (1, 20, 20, 32)),
)


@pytest.mark.parametrize("segment", UNSEEN, ids=lambda s: f"{s.nodes[0].op.name}-{s.nodes[0].outputs[0].dtype}")
def test_a_device_whose_times_are_sums_is_predicted(book: TimingBook, segment: Segment) -> None:
    cost = predicted(book, node_of(segment))
    assert cost.source == "roofline" and "corrected from" in cost.text
    assert cost.time_ns == pytest.approx(linear(node_of(segment)), rel=0.02)


def test_the_launch_is_told_from_the_ops(book: TimingBook) -> None:
    assert book.launch_ns == pytest.approx(LAUNCH_NS, abs=2)
    assert not book.is_fusing
    row = chain(INT, 7)
    assert predicted_segment(book, row) == pytest.approx(LAUNCH_NS + 7 * linear(node_of(row)), rel=0.01)


def test_the_timing_of_the_very_op_comes_first() -> None:
    op = node_of(UNSEEN[0])
    book = book_of(Modelled(Clock(), each(linear))).with_timings([Timing.of(op, 123)])
    assert (predicted(book, op).time_ns, predicted(book, op).source) == (123, "measured")
    assert predicted(book, op, Estimate(77)).source == "measured"
    other = node_of(convolution("CONV_2D", INT, 24, 24, 41, 72, (1, 1), 1, 0))
    assert predicted(book, other).source == "roofline"
    assert predicted(book, other, Estimate(77)) == predicted(TimingBook(), other, Estimate(77))
    assert (predicted(book, other, Estimate(77)).time_ns, predicted(book, other, Estimate(77)).source) == (
        77,
        "estimate",
    )


def test_without_timings_the_peaks_decide() -> None:
    node = node_of(UNSEEN[0])
    peaks = Peaks({INT: 2e9}, 1e9)
    assert predicted(TimingBook(peaks), node).time_ns == pytest.approx(1e9 * 2 * work_of(node).macs / 2e9, rel=0.02)
    assert predicted(TimingBook(peaks), node).text == "roofline of the device's peaks"


def test_an_op_that_was_not_timed_is_like_its_neighbours(book: TimingBook) -> None:
    sub = node_of(pair("SUB", FLOAT, (1, 20, 20, 32), (1, 20, 20, 32)))
    assert "ADD" in predicted(book, sub).text
    assert predicted(book, sub).time_ns == pytest.approx(linear(sub), rel=0.02)
    cos = node_of(unary("COS", FLOAT, (1, 20, 20, 32)))
    assert "ops without products, float32" in predicted(book, cos).text
    assert predicted(book, cos).time_ns == pytest.approx(linear(cos), rel=0.05)


def test_what_costs_less_inside_a_segment() -> None:
    """A device on which renaming is free inside a segment, and an elementwise op behind another one takes 10 ns."""

    def costs(segment: Segment) -> Sequence[float]:
        makers = {i: node for node in segment.nodes for i in node.op.outputs}
        found = []
        for node in segment.nodes:
            maker = makers.get(node.op.inputs[0])
            if is_rename(node) and node.op.outputs[0] not in segment.outputs:
                found.append(0.0)
            elif is_elementwise(node) and maker is not None and is_elementwise(maker):
                found.append(10.0)
            else:
                found.append(linear(node))
        return found

    device = Modelled(Clock(), costs)
    book = book_of(device)
    assert book.is_fusing
    row = chain(FLOAT, 5, (1, 30, 30, 8))
    assert predicted_segment(book, row) == pytest.approx(LAUNCH_NS + sum(costs(row)), rel=0.02)
    beside = copies(chain(FLOAT, 1, (1, 30, 30, 8)), 5)
    assert predicted_segment(book, beside) == pytest.approx(LAUNCH_NS + 5 * linear(node_of(row)), rel=0.02)
    reshape = next(s for s in timing_cases.cases() if s.nodes[0].op.name == "RESHAPE")
    between = inside(reshape, is_between=True)
    assert between is not None
    assert predicted_ops(book, between[0].nodes)[1].time_ns <= 2
    assert predicted_segment(book, reshape) == pytest.approx(LAUNCH_NS + linear(node_of(reshape)), rel=0.02)


def test_the_same_book_gives_the_same_numbers(book: TimingBook) -> None:
    again = TimingBook.from_json(json.loads(json.dumps(book.to_json())))
    assert again == book and again.digest == book.digest
    assert [predicted(again, node_of(s)) for s in UNSEEN] == [predicted(book, node_of(s)) for s in UNSEEN]
    shuffled = replace(book, timings=()).with_timings(reversed(book.timings))
    assert [predicted(shuffled, node_of(s)) for s in UNSEEN] == [predicted(book, node_of(s)) for s in UNSEEN]
    assert shuffled.digest == book.digest != replace(book, launch_ns=1).digest


def test_one_bad_timing_counts_little() -> None:
    rng = np.random.default_rng(1)
    known = np.exp(rng.uniform(0, 8, (30, 3)))
    times = known @ np.array([2.0, 0.0, 0.5])
    bad = times.copy()
    bad[4] *= 30
    assert Rates.fitted(known.tolist(), times.tolist()).rates == pytest.approx([2.0, 0.0, 0.5], rel=0.02, abs=1e-3)
    assert Rates.fitted(known.tolist(), bad.tolist()).rates == pytest.approx([2.0, 0.0, 0.5], rel=0.05, abs=2e-2)


# --- identity -----------------------------------------------------------------------------------------------------


def test_signatures_tell_ops_apart_and_not_their_numbers() -> None:
    base = convolution("CONV_2D", INT, 8, 8, 4, 8, (1, 1), 1, 0)
    node = node_of(base)
    others = [
        convolution("CONV_2D", INT, 8, 8, 4, 8, (3, 3), 1, 0),
        convolution("CONV_2D", INT, 8, 8, 4, 8, (1, 1), 2, 0),
        convolution("CONV_2D", FLOAT, 8, 8, 4, 8, (1, 1), 1, 0),
        convolution("DEPTHWISE_CONV_2D", INT, 8, 8, 4, 2, (1, 1), 1, 0),
    ]
    assert len({signature_of(node), *(signature_of(node_of(s)) for s in others)}) == 5
    weights = node.input(1)
    assert weights.value is not None
    changed = replace(node, inputs=(node.inputs[0], replace(weights, value=weights.value * 0), node.inputs[2]))
    assert signature_of(changed) == signature_of(node)
    assert signature_of(replace(node, op=replace(node.op, index=9, place="elsewhere"))) == signature_of(node)
    passed = replace(node, inputs=(node.inputs[0], replace(weights, value=None), node.inputs[2]))
    assert signature_of(passed) != signature_of(node)
    pads = [s for s in timing_cases.cases() if s.nodes[0].op.name == "PAD"]
    assert len({signature_of(node_of(s)) for s in pads}) == len(pads)  # the paddings are numbers that matter


# --- timing -------------------------------------------------------------------------------------------------------


def test_a_models_ops_are_timed_once_each(book: TimingBook) -> None:
    device = Modelled(Clock(), each(lambda node: 3 * linear(node)))
    row = chain(FLOAT, 6, (1, 9, 9, 9))
    told: list[tuple[int, int, str]] = []
    found = timed_ops(
        device,
        PackStore(None),
        GraphView(row.graph, row.nodes),
        book,
        clock=device.clock,
        progress=lambda *news: told.append(news),
    )
    assert len(found) == 1 and told[0] == (0, 1, "ADD")
    assert found[0].time_ns == pytest.approx(3 * linear(node_of(row)), rel=0.02)
    known = book.with_timings(found)
    assert predicted(known, node_of(row)).source == "measured"
    assert timed_ops(device, PackStore(None), GraphView(row.graph, row.nodes), known, clock=device.clock) == ()


class Failing(Modelled):
    """Fails to compile LOGISTIC, in the way of ``error``, and to run ADD."""

    error: Exception = DelegateError("modelled", ErrorCode.OUT_OF_MEMORY, "too large")

    def compile(self, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None) -> Artifact:
        if segment.nodes[0].op.name == "LOGISTIC":
            raise self.error
        return super().compile(segment, packs, options)

    def load(self, artifact: Artifact, segment: Segment, packs: Packs) -> Program:
        program = super().load(artifact, segment, packs)
        assert isinstance(program, ModelledProgram)
        program.fails = segment.nodes[0].op.name == "ADD" and len(segment.nodes[0].outputs[0].shape) == 4
        return program


@pytest.mark.parametrize("error", [Failing.error, ValueError("oops")], ids=["error", "exception"])
def test_ops_that_are_refused_or_fail_are_left_out(book: TimingBook, error: Exception) -> None:
    device = Failing(Clock(), each(linear))
    device.error = error
    device.takes = lambda node: node.op.name != "FULLY_CONNECTED"
    for segment, n in zip(UNSEEN, (1, 1, 1, 0, 0, 0), strict=True):
        view = GraphView(segment.graph, segment.nodes)
        assert len(timed_ops(device, PackStore(None), view, book, clock=device.clock)) == n


def test_a_device_that_is_lost_ends_it(book: TimingBook) -> None:
    device = Failing(Clock(), each(linear))
    device.error = DelegateError("modelled", ErrorCode.DEVICE_LOST, "gone")
    with pytest.raises(DelegateError, match="gone"):
        timed_ops(device, PackStore(None), GraphView(UNSEEN[5].graph, UNSEEN[5].nodes), book, clock=device.clock)


def test_a_device_that_takes_nothing_has_no_book() -> None:
    device = Modelled(Clock(), each(linear))
    device.takes = lambda node: False
    with pytest.raises(DelegateError, match="takes none of the ops"):
        book_of(device)


def test_the_budget_ends_a_calibration() -> None:
    device = Modelled(Clock(), each(lambda node: 1e7))
    found = calibrated_book(device, PackStore(None), none, lambda k, d: None, budget_s=20.0, clock=device.clock)
    assert 0 < len(found.timings) < len(list(timing_cases.cases())) / 2
    assert found.left > 0


def test_a_calibration_that_was_cut_off_goes_on() -> None:
    """Each call times what the ones before did not come to, until there is nothing left."""
    device, packs = Modelled(Clock(), each(lambda node: 1e7)), PackStore(None)
    device.takes = lambda node: node.op.name != "FULLY_CONNECTED"  # what is refused is not tried for ever
    kept: dict[str, bytes] = {}

    def book(budget_s: float) -> TimingBook:
        found = calibrated_book(
            device,
            packs,
            lambda key: kept.get(json.dumps(dict(key))),
            lambda key, data: kept.update({json.dumps(dict(key)): data}),
            budget_s=budget_s,
            clock=device.clock,
        )
        assert kept_book(device.info, lambda key: kept[json.dumps(dict(key))]) == found
        return found

    books, compiled = [book(20.0)], list[int]()
    while books[-1].left:
        before = len(device.compiled)
        books.append(book(20.0))
        compiled.append(len(device.compiled) - before)
        assert books[-1].left < books[-2].left
        assert books[-2].measured.items() <= books[-1].measured.items()
    assert len(books) > 2 and book(20.0) == books[-1]
    whole = calibrated_book(device, packs, none, lambda key, data: None, budget_s=1e9, clock=device.clock)
    assert whole.left == 0 and whole.measured.keys() == books[-1].measured.keys()
    assert sum(compiled) < 1.5 * len(whole.timings)  # none of it over again


def _kept(data: bytes, key: Mapping[str, str]) -> bytes:
    return data


def test_books_of_odd_figures_are_damaged() -> None:
    info, plain = DeviceInfo("modelled", "accelerator", "tests", "1"), json.dumps(SMALL.to_json())
    assert kept_book(info, lambda key: plain.encode()) == SMALL
    for old, new in (
        ('"launch_ns": 5', '"launch_ns": -5'),
        ('"launch_ns": 5', '"launch_ns": Infinity'),
        ('"launch_ns": 5', '"launch_ns": 1e400'),
        ('"launch_ns": 5', '"launch_ns": 9' + 30 * "9"),
        ('"launch_ns": 5', '"launch_ns": "5"'),
        ('"step_ns": 7', '"step_ns": -1'),
        ('"step_ns": 7', '"step_ns": NaN'),
        ('"left": 0', '"left": -1'),
        ('"is_fusing": false', '"is_fusing": 1'),
        ('"float32": 1000000.0', '"float32": 0.0'),
        ('"float32": 1000000.0', '"float32": Infinity'),
        ('"memory_bytes_per_s": 2000000.0', '"memory_bytes_per_s": -2.0'),
        ('"latency_ns": 3', '"latency_ns": -3'),
        (", 99]", ", -99]"),
        (", 99]", ", Infinity]"),
        ('["ADD"', "[null"),
        ('"launch_ns": 5', '"launch_ns": ' + 100_000 * "[" + 100_000 * "]"),
    ):
        assert old in plain
        damaged = plain.replace(old, new).encode()
        assert kept_book(info, partial(_kept, damaged)) is None, new[:40]


SMALL = TimingBook(Peaks({FLOAT: 1e6}, 2e6, 4, Link(3, 4), Link(5, 6)), 5, 7).with_timings(
    [Timing.of(node_of(UNSEEN[4]), 99), Timing.of(node_of(UNSEEN[1]), 1234)]
)

_ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(-3, 3), max_size=6),
    st.dictionaries(st.sampled_from(("float32", "int8", "latency_ns")), st.floats(), max_size=2),
)


def _places(found: object, here: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    inside_ = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    yield here
    for name, value in inside_:
        yield from _places(value, (*here, name))


@given(st.lists(st.tuples(st.sampled_from(list(_places(SMALL.to_json()))), _ODD), min_size=1, max_size=3))
def test_a_book_that_was_tampered_with_is_damaged_or_of_use(
    changes: Sequence[tuple[tuple[object, ...], object]],
) -> None:
    found: Any = [SMALL.to_json()]
    for path, odd in changes:
        target = found
        try:
            for name in (0, *path)[:-1]:
                target = target[name]
            target[(0, *path)[-1]] = odd
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took that place away
    try:
        data = json.dumps(found[0]).encode()
    except ValueError:  # a number of more digits than Python writes
        return
    book = kept_book(DeviceInfo("modelled", "accelerator", "tests", "1"), lambda key: data)
    if book is None:
        return
    assert json.loads(json.dumps(book.to_json(), allow_nan=False)) == book.to_json()
    figures = [book.launch_ns, book.step_ns, book.left, book.peaks.launch_ns, *(t.time_ns for t in book.timings)]
    assert min(figures) >= 0 and all(type(n) is int for n in figures)
    assert min([*book.peaks.ops_per_s.values(), book.peaks.memory_bytes_per_s]) >= 0
    for segment in UNSEEN:
        assert predicted(book, node_of(segment)).time_ns >= 0


def test_books_are_kept_for_the_same_device_and_damaged_ones_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timer, "cases", lambda: islice(timing_cases.cases(), 6))
    monkeypatch.setattr(timer, "calibrated", lambda *_, **__: Peaks({FLOAT: 1e10}, 1e10))
    kept: dict[str, bytes] = {}
    device, packs = Modelled(Clock(), each(linear)), PackStore(None)

    def get(key: Mapping[str, str]) -> bytes | None:
        return kept.get(json.dumps(dict(key)))

    def put(key: Mapping[str, str], data: bytes) -> None:
        kept[json.dumps(dict(key))] = data

    def book() -> tuple[TimingBook, int]:
        before = device.clock.looks
        return calibrated_book(device, packs, get, put, clock=device.clock), device.clock.looks - before

    first, looks = book()
    assert looks > 100 and book() == (first, 0) and kept_book(device.info, get) == first
    whole = json.loads(kept[json.dumps(costs_key(device.info))])
    short = {**whole, "timings": [[*whole["timings"][0][:3], [1], *whole["timings"][0][4:]]]}
    for damaged in (b"", b"{}", b"[]", b"\xff", b"null", json.dumps(short).encode(), b'{"peaks": {}}'):
        put(costs_key(device.info), damaged)
        assert kept_book(device.info, get) is None
        again, looks = book()
        assert again == first and looks > 100
    device.info = replace(device.info, driver="another")
    assert kept_book(device.info, get) is None and book()[1] > 100


def test_links_and_peaks_are_the_measured_ones() -> None:
    book = TimingBook(Peaks(to_device=Link(3, 4), from_device=Link(5, 6)))
    assert (book.to_device, book.from_device) == (Link(3, 4), Link(5, 6))


# --- segments for timing ------------------------------------------------------------------------------------------


def run(segment: Segment, inputs: Sequence[Array]) -> list[Array]:
    """The segment on the reference device."""
    device, packs = ReferenceDelegate().open("reference", {}), PackStore(None)
    program = device.load(device.compile(segment, packs, {}), segment, packs)
    context = program.context(device.allocate(0))
    outputs = [np.empty(segment.specs[i].shape, segment.specs[i].dtype.numpy) for i in segment.outputs]
    imported = [[device.import_host(a) for a in side] for side in (inputs, outputs)]
    context.bind(*imported)
    context.run().wait()
    return outputs


def test_segments_for_timing_are_whole() -> None:
    x = np.arange(32, dtype=np.float32).reshape(1, 2, 2, 8)
    one = unary("RELU", FLOAT, x.shape)
    for y in run(copies(one, 3), [x, x, x]):
        assert np.array_equal(y, x)
    assert np.array_equal(run(chain(FLOAT, 4, x.shape), [x])[0], x + 4)
    pair_ = inside(one, is_between=False)
    assert pair_ is not None
    assert np.array_equal(run(pair_[0], [x])[0], x + 1) and np.array_equal(run(pair_[1], [x])[0], x + 1)
    between = inside(one, is_between=True)
    assert between is not None
    assert np.array_equal(run(between[0], [x])[0], x + 2) and np.array_equal(run(between[1], [x])[0], x + 2)
    assert [len(run(copies(segment, 2), [x, x])) for segment in between] == [2, 2]


def test_the_usual_time_is_neither_the_luckiest_nor_a_disturbed_one() -> None:
    """Runs of 10 ms, of which some take 2, in eight turns; the first three turns are disturbed."""
    clock, n = Clock(), count()

    class Uneven(calibration.Loaded):
        def __init__(self) -> None:
            self.run = self.uneven

        def uneven(self) -> None:
            k = next(n)
            clock.ns += 2e6 if k % 10 == 9 else 10e6 if k > 12 else 50e6

    ((*turns,),) = calibration.runs_of([Uneven()], 0.2, clock)
    assert len(turns) == 8 and all(turn for turn in turns)
    assert calibration.usual_time(turns) == pytest.approx(0.010)
    assert calibration.least_time(turns) == pytest.approx(0.002)
