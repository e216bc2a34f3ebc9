"""Measured peaks of a real device: operations, memory, launch and transfer, in seconds of time and kept by the caller.

Imports core.abi. Whoever keeps results hands in ``get`` and ``put``: the store is to the right of this package. Each
figure is the best of its runs: other programs can only make a device look slower than it is.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from delegraph.core.abi.protocols import Buffer, Context, Device, Packs, Program
from delegraph.core.abi.values import DelegateError, DeviceInfo, ErrorCode, GraphView, Link, Segment
from delegraph.core.graph.build import build
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Graph, Quantization
from delegraph.core.ops import registry
from delegraph.core.ops.cases import case_model
from delegraph.core.ops.nodes import infer_op
from delegraph.core.ops.opdef import Case, Node, Operand, Result, TensorSpec

VERSION = "1"
"""Part of every key: figures of another version were measured in another way."""

CONV_SIZE, CONV_DEPTH = 32, 256
"""A 1x1 convolution over 32x32x256: enough work to fill a device, small enough for NumPy."""

STREAM_ELEMENTS = 1 << 22
"""float32 elements of each operand of the memory test: 16 MiB, beyond the usual caches."""

TRANSFER_BYTES = 1 << 24

DAMAGED = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What reading a damaged entry may raise."""

Key = Mapping[str, str]
Get = Callable[[Key], "bytes | None"]
Put = Callable[[Key, bytes], object]
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Peaks:
    """ops_per_s: by type, a multiply-accumulate is two; types that the device refused are not in it.
    memory_bytes_per_s: read and written, 0 where it could not be measured. launch_ns: of the smallest run.
    to_device, from_device: nothing where the memory is the host's."""

    ops_per_s: Mapping[DType, float] = field(default_factory=dict)
    memory_bytes_per_s: float = 0.0
    launch_ns: int = 0
    to_device: Link = Link()
    from_device: Link = Link()

    def to_json(self) -> dict[str, Any]:
        return {
            "ops_per_s": {str(dtype): rate for dtype, rate in self.ops_per_s.items()},
            "memory_bytes_per_s": self.memory_bytes_per_s,
            "launch_ns": self.launch_ns,
            "to_device": {"latency_ns": self.to_device.latency_ns, "bytes_per_s": self.to_device.bytes_per_s},
            "from_device": {"latency_ns": self.from_device.latency_ns, "bytes_per_s": self.from_device.bytes_per_s},
        }

    @classmethod
    def from_json(cls, found: Any) -> Peaks:
        """Raises one of DAMAGED for anything that ``to_json`` does not make."""
        links = [
            Link(count(found[n]["latency_ns"]), count(found[n]["bytes_per_s"])) for n in ("to_device", "from_device")
        ]
        rates = {DType.parse(name): rate(value) for name, value in found["ops_per_s"].items()}
        memory = found["memory_bytes_per_s"]
        return cls(rates, 0.0 if memory == 0 else rate(memory), count(found["launch_ns"]), *links)


def count(found: Any) -> int:
    """A whole number from JSON, such as one of nanoseconds. Raises ValueError for any other."""
    if type(found) is not int or not 0 <= found < 2**63:
        raise ValueError(f"not a count: {found!r:.50}")
    return found


def rate(found: Any) -> float:
    """A figure per second from JSON. Raises ValueError for anything else, also for what nothing could be divided by."""
    if type(found) not in (int, float) or not (math.isfinite(found) and found >= 1e-3):
        raise ValueError(f"not a rate: {found!r:.50}")
    return float(found)


def key_of(info: DeviceInfo) -> dict[str, str]:
    """What a device's figures depend on, by name."""
    return {
        "calibration": VERSION,
        "device": info.id,
        "driver": info.driver,
        **{f"fingerprint {name}": value for name, value in info.fingerprint.items()},
    }


def kept_peaks(info: DeviceInfo, get: Get) -> Peaks | None:
    """The peaks that are kept for the device; None where there are none that are whole."""
    kept = get(key_of(info))
    if kept is None:
        return None
    try:
        return Peaks.from_json(json.loads(kept))
    except DAMAGED:
        return None


def calibrated(
    device: Device, packs: Packs, get: Get, put: Put, *, budget_s: float = 2.0, clock: Clock = time.perf_counter
) -> Peaks:
    """The device's peaks: those kept, or measured now and kept. A damaged entry is measured again.

    get, put: read and write what is kept under a key (``key_of``).

    Raises:
        DelegateError: the device failed.
    """
    kept = kept_peaks(device.info, get)
    if kept is not None:
        return kept
    peaks = measure(device, packs, budget_s=budget_s, clock=clock)
    put(key_of(device.info), json.dumps(peaks.to_json(), sort_keys=True).encode())
    return peaks


def measure(device: Device, packs: Packs, *, budget_s: float = 2.0, clock: Clock = time.perf_counter) -> Peaks:
    """Runs four small models on the device. budget_s: about how long all of it takes, beside compiling.

    Raises:
        DelegateError: the device failed; what it only refuses is left out.
    """
    share = budget_s / 5
    rates = {}
    for dtype in (DType.FLOAT32, DType.INT8):
        seconds = _best(device, packs, convolution(dtype), share, clock)
        if seconds:
            rates[dtype] = 2.0 * CONV_SIZE**2 * CONV_DEPTH**2 / seconds
    streaming = _best(device, packs, stream(STREAM_ELEMENTS), share, clock)
    smallest = _best(device, packs, stream(1), share, clock)
    to_device, from_device = _links(device, share, clock)
    return Peaks(
        rates,
        3.0 * 4 * STREAM_ELEMENTS / streaming if streaming else 0.0,
        round(smallest * 1e9),
        to_device,
        from_device,
    )


def convolution(dtype: DType) -> Segment:
    """A 1x1 CONV_2D of that type, float32 or int8."""
    shape, n = (1, CONV_SIZE, CONV_SIZE, CONV_DEPTH), CONV_DEPTH
    is_float = dtype is DType.FLOAT32
    q = None if is_float else Quantization.per_tensor(0.05, 0)
    inputs = (
        Operand(np.ones(shape, dtype.numpy), q),
        Operand(
            np.ones((n, 1, 1, n), dtype.numpy), None if is_float else Quantization.per_tensor(0.02, 0), constant=True
        ),
        Operand(
            np.zeros(n, np.float32 if is_float else np.int32),
            None if is_float else Quantization.per_tensor(0.001),
            constant=True,
        ),
    )
    return case_segment("CONV_2D", Case(str(dtype), inputs, (Result(dtype, q),), {"stride_h": 1, "stride_w": 1}))


def stream(n_elements: int) -> Segment:
    """a + b over so many float32 elements."""
    operand = Operand(np.ones((1, n_elements), np.float32))
    return case_segment("ADD", Case("stream", (operand, operand), (Result(DType.FLOAT32),)))


def case_segment(name: str, case: Case) -> Segment:
    """A segment of one op."""
    opdef = registry.find(name)
    assert opdef is not None
    graph = build(case_model(opdef, case)).main
    specs: dict[int, TensorSpec] = {}
    node = infer_op(graph, graph.ops[0], opdef, specs)
    assert node is not None
    return one_op(graph, node)


def one_op(graph: Graph, node: Node) -> Segment:
    """The node as a segment of its own; it has no state."""
    named = {i: spec for i, spec in zip(node.op.inputs, node.inputs, strict=True) if spec is not None}
    inputs = tuple(i for i, spec in named.items() if spec.value is None)
    outputs = tuple(i for i in node.op.outputs if i >= 0)
    return Segment(graph, (node,), inputs, outputs, (), named | dict(zip(outputs, node.outputs, strict=True)))


def _best(device: Device, packs: Packs, segment: Segment, budget_s: float, clock: Clock) -> float:
    """Seconds of the fastest run, or 0 when the device refuses the segment."""
    loaded = Loaded.of(device, packs, segment)
    if loaded is None:
        return 0.0
    with loaded:
        return fastest(loaded.run, budget_s, clock)


class Loaded:
    """A segment on a device, bound to memory of the device's own, so that runs can be timed without copies."""

    def __init__(self, program: Program, context: Context, run: Callable[[], None]) -> None:
        self._program, self._context, self.run = program, context, run

    @classmethod
    def of(cls, device: Device, packs: Packs, segment: Segment) -> Loaded | None:
        """None when the device refuses the segment. Raises DelegateError when it fails."""
        if not _takes(device, segment.graph, segment.nodes) or not device.check(segment).runs:
            return None
        try:
            artifact = device.compile(segment, packs, {})
        except DelegateError as exc:
            if exc.code is ErrorCode.UNSUPPORTED:
                return None
            raise
        program = device.load(artifact, segment, packs)
        try:
            context = program.context(device.allocate(program.scratch_bytes, max(64, program.alignment)))
            inputs = [_filled(device, segment.specs[i], program.alignment) for i in segment.inputs]
            made = [segment.specs[i].size_bytes for i in (*segment.outputs, *segment.variables)]
            context.bind(inputs, [device.allocate(max(1, size), program.alignment) for size in made])
        except BaseException:
            program.close()
            raise
        return cls(program, context, lambda: context.run().wait())

    def start(self) -> None:
        """The first run, which may still compile. What fails in it is closed."""
        try:
            self.run()
        except BaseException:
            self._program.close()
            raise

    def __enter__(self) -> Loaded:
        return self

    def __exit__(self, *_: object) -> None:
        self._program.close()


def _takes(device: Device, graph: Graph, nodes: tuple[Node, ...]) -> bool:
    return all(answer.runs for answer in device.supports(GraphView(graph, nodes)))


def _filled(device: Device, spec: TensorSpec, alignment: int) -> Buffer:
    """A buffer of ones: zeros and stale memory can be faster (or, as denormals, slower) than data."""
    buffer = device.allocate(max(1, spec.size_bytes), alignment)
    data = np.ones(spec.shape, spec.dtype.numpy)
    view = buffer.host_view()
    if view is None:
        device.write(data, buffer).wait()
    else:
        view[: spec.size_bytes] = data.reshape(-1).view(np.uint8)
    return buffer


def fastest(run: Callable[[], None], budget_s: float, clock: Clock) -> float:
    """The best of at least three runs, the first of which warms up."""
    run()
    end = clock() + budget_s
    times: list[float] = []
    while len(times) < 2 or (clock() < end and len(times) < 1000):
        start = clock()
        run()
        times.append(clock() - start)
    return max(min(times), 1e-9)


MOST_RUNS = 200
"""Of one segment in a turn."""

Turns = list[list[float]]
"""Seconds of runs, turn by turn."""


def runs_of(loaded: Sequence[Loaded], share_s: float, clock: Clock, turns: int = 8) -> list[Turns]:
    """The runs of each. They take turns, so that what slows the machine for a while slows no one of them alone.

    share_s: about how long each one runs in a turn, and once at least.
    """
    found: list[Turns] = [[] for _ in loaded]
    for _ in range(turns):
        for one, own in zip(loaded, found, strict=True):
            times: list[float] = []
            end = clock() + share_s
            while not times or (len(times) < MOST_RUNS and clock() < end):
                start = clock()
                one.run()
                times.append(clock() - start)
            own.append(times)
    return found


def least_time(turns: Turns) -> float:
    """Of an undisturbed run: whatever else runs can only make it longer."""
    return max(min(map(min, turns)), 1e-9)


def usual_time(turns: Turns) -> float:
    """Of a run as a rule: the median. On a device with threads of its own the least is no rule: some runs end before
    the host has gone to sleep."""
    return max(statistics.median(statistics.median(times) for times in turns), 1e-9)


def _links(device: Device, budget_s: float, clock: Clock) -> tuple[Link, Link]:
    """Latency of the smallest transfer, and the rate of a large one; nothing where memory is the host's."""
    if device.allocate(64).host_view() is not None:
        return Link(), Link()
    seconds = []
    for size in (64, TRANSFER_BYTES):
        host, buffer = np.ones(size, np.uint8), device.allocate(size)
        seconds.append(_both_ways(device, host, buffer, budget_s / 4, clock))
    small, large = seconds
    found = [
        Link(round(latency * 1e9), round(TRANSFER_BYTES / max(total - latency, 1e-9)))
        for latency, total in zip(small, large, strict=True)
    ]
    return found[0], found[1]


def _both_ways(device: Device, host: Array, buffer: Buffer, budget_s: float, clock: Clock) -> Sequence[float]:
    return (
        fastest(lambda: device.write(host, buffer).wait(), budget_s, clock),
        fastest(lambda: device.read(buffer, host).wait(), budget_s, clock),
    )
