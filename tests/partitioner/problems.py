"""Problems for the tests and the benchmark of the solver: random ones, networks of known shapes, and real models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from delegraph.core.abi.values import Limits, Link
from delegraph.core.errors import DelegraphError
from delegraph.core.graph.build import build
from delegraph.core.graph.graph import Graph
from delegraph.core.model.reader import read
from delegraph.core.ops import effects, registry
from delegraph.core.ops.nodes import infer_op, node_of, spec_of
from delegraph.core.ops.opdef import Node, TensorSpec
from delegraph.core.ops.prepare import prepare
from delegraph.partitioner.solver.problem import (
    CORE,
    COST_LIMIT,
    Problem,
    ProblemDevice,
    ProblemOp,
    ProblemTensor,
    copy_table,
)


def random_problem(rng: np.random.Generator, n_ops: int, n_devices: int, *, has_limits: bool = False) -> Problem:
    """A graph without any structure: every cost, copy and launch is of the same magnitude, so that nothing is obvious.

    has_limits: some devices take a prefix alone, few segments, or none of a single op.
    """

    def number(below: int) -> int:
        return int(rng.integers(0, below))

    devices = [ProblemDevice("d0", number(60))]
    for index in range(1, n_devices):
        limits = Limits()
        if has_limits:
            limits = (Limits(), Limits(max_segments=1), Limits(prefix_only=True), Limits(min_ops=2))[number(4)]
        domain = "host" if rng.random() < 0.2 else f"memory {index}"
        devices.append(ProblemDevice(f"d{index}", number(60), domain, limits=limits))
    ops = [
        ProblemOp(tuple(number(100) if d == 0 or rng.random() < 0.75 else None for d in range(n_devices)))
        for _ in range(n_ops)
    ]
    tensors = []
    for producer in range(-1, n_ops):
        later = range(producer + 1, n_ops)
        n_readers = min(len(later), 1 + number(3)) if producer < n_ops - 1 else 0
        readers = sorted(int(op) for op in rng.choice(later, n_readers, replace=False)) if n_readers else []
        near = producer + 1
        if readers and near not in readers and rng.random() < 0.5:
            readers[0] = near
        links = [Link(number(40), 0) for _ in devices]
        copy = copy_table(1, [device.domain for device in devices], links, [Link(number(40), 0) for _ in devices], 0)
        is_output = producer >= 0 and (not readers or rng.random() < 0.15)
        tensors.append(ProblemTensor(None if producer < 0 else producer, tuple(sorted(readers)), is_output, copy))
    order = ((0, n_ops - 1),) if n_ops > 1 and rng.random() < 0.2 else ()
    return Problem(tuple(devices), 0, tuple(ops), tuple(tensors), order)


def with_budgets(rng: np.random.Generator, problem: Problem) -> Problem:
    """The problem with constants, and budgets for them that are easily exceeded, on every device but the host."""
    ops = tuple(replace(op, weight_bytes=int(rng.integers(0, 50))) for op in problem.ops)
    devices = [
        device
        if d == problem.host
        else replace(device, limits=replace(device.limits, weight_budget_bytes=40), stream_bytes_per_s=10**9)
        for d, device in enumerate(problem.devices)
    ]
    return replace(problem, ops=ops, devices=tuple(devices))


def all_assignments(problem: Problem) -> npt.NDArray[np.int64]:
    """[n_assignments, n_ops], every one that the domains allow, in lexicographic order."""
    grids = np.meshgrid(*(np.array(domain) for domain in problem.domains), indexing="ij")
    return np.stack([grid.ravel() for grid in grids], axis=1)


def all_surrogates(problem: Problem, entries: Sequence[int]) -> npt.NDArray[np.int64]:
    """SURROGATE_λ of ``all_assignments``, straight from its definition."""
    assignments = all_assignments(problem)
    rows = np.arange(len(assignments))
    total = np.zeros(len(assignments), np.int64)
    for op in range(len(problem.ops)):
        total += problem.op_costs[op, assignments[:, op]]
    for tensor in problem.tensors:
        copy = np.array(tensor.copy, np.int64)
        made = tensor.producer
        home = np.full(len(rows), problem.host) if made is None else assignments[:, made]
        for d, device in enumerate(problem.devices):
            read = np.zeros(len(rows), bool)
            for op in tensor.consumers:
                read |= assignments[:, op] == d
            entered = read & (home != d)
            total += np.where(entered, copy[home, d] + entries[d], 0)
            if device.limits.prefix_only and made is not None:
                total += np.where(entered, COST_LIMIT, 0)
            if d == problem.host and tensor.is_output:
                total += np.where(~read, copy[home, d], 0)
    for a, b in problem.order:
        for d in problem.prefix_devices:
            total += np.where((assignments[:, b] == d) & (assignments[:, a] != d), COST_LIMIT, 0)
    return total


@dataclass(frozen=True)
class Chip:
    """A device for made-up networks and real models: rates in operations and bytes per ns; refuses: operators."""

    device: ProblemDevice
    macs_per_ns: float
    bytes_per_ns: float
    link: Link
    refuses: tuple[str, ...] = ()
    only_integers: bool = False


CPU = Chip(ProblemDevice("cpu", 2_000), 20.0, 20.0, Link())
GPU = Chip(
    ProblemDevice("gpu", 30_000, "gpu memory"), 400.0, 100.0, Link(10_000, 8_000_000_000), ("SOFTMAX", "RESHAPE", "PAD")
)
NPU = Chip(
    ProblemDevice("npu", 80_000, "npu memory", limits=Limits(weight_budget_bytes=4 << 20), stream_bytes_per_s=10**9),
    2000.0, 60.0, Link(25_000, 3_000_000_000), ("SOFTMAX", "RESIZE_BILINEAR", "ARG_MAX", "LOGISTIC"), True,
)  # fmt: skip
PREFIX = Chip(
    ProblemDevice("tpu", 100_000, "tpu memory", limits=Limits(max_segments=1, prefix_only=True)),
    2000.0, 60.0, Link(50_000, 300_000_000), ("SOFTMAX", "ARG_MAX", "QUANTIZE"), True,
)  # fmt: skip
DSP = Chip(
    ProblemDevice("dsp", 15_000, "dsp memory", limits=Limits(min_ops=2)),
    120.0,
    30.0,
    Link(5_000, 4_000_000_000),
    ("PRELU",),
)
SETS: dict[str, tuple[Chip, ...]] = {
    "cpu+gpu": (CPU, GPU),
    "npu+cpu": (NPU, CPU),
    "tpu+cpu": (PREFIX, CPU),
    "npu+gpu+cpu": (NPU, GPU, CPU),
    "npu+gpu+dsp+cpu": (NPU, GPU, DSP, CPU),
}


def _cost(chip: Chip, name: str, macs: int, size_bytes: int, is_integer: bool) -> int | None:
    if name in chip.refuses or (chip.only_integers and not is_integer):
        return None
    return max(int(macs / chip.macs_per_ns), int(size_bytes / chip.bytes_per_ns)) + 200


class Network:
    """A made-up network, layer by layer: ``y = net.op("CONV_2D", [x], size_bytes, macs)``; tensor 0 is the input."""

    def __init__(self, input_bytes: int) -> None:
        self._sizes = [input_bytes]
        self._ops: list[tuple[str, list[int], int]] = []

    def op(self, name: str, inputs: Sequence[int], size_bytes: int, macs: int = 0) -> int:
        self._ops.append((name, sorted(set(inputs)), macs))
        self._sizes.append(size_bytes)
        return len(self._sizes) - 1

    def problem(self, chips: Sequence[Chip]) -> Problem:
        """The network on these chips, of which the one called cpu is the host. Tensors nobody reads are outputs."""
        host = next(i for i, chip in enumerate(chips) if chip.device.id == "cpu")
        domains = [chip.device.domain for chip in chips]
        links = [chip.link for chip in chips]
        ops = []
        for index, (name, inputs, macs) in enumerate(self._ops):
            moved = self._sizes[index + 1] + sum(self._sizes[i] for i in inputs)
            ops.append(ProblemOp(tuple(_cost(chip, name, macs, moved, True) for chip in chips)))
        tensors = []
        for tensor, size in enumerate(self._sizes):
            readers = tuple(op for op, (_, inputs, _) in enumerate(self._ops) if tensor in inputs)
            copy = copy_table(size, domains, links, links, host)
            tensors.append(ProblemTensor(tensor - 1 if tensor else None, readers, tensor > 0 and not readers, copy))
        return Problem(tuple(chip.device for chip in chips), host, tuple(ops), tuple(tensors))


def densenet(n_ops: int, chips: Sequence[Chip]) -> Problem:
    """Dense blocks in which every layer reads all earlier ones by itself (no shared concatenation): very wide."""
    net = Network(600_000)
    x = net.op("CONV_2D", [0], 800_000, 100_000_000)
    n, block = 1, 0
    while n < n_ops:
        parts = [x]
        for layer in range(16):
            if n + 3 > n_ops:
                break
            joined = net.op("CONCATENATION", parts, 100_000 * (layer + 2) >> block % 3)
            thin = net.op("CONV_2D", [joined], 200_000 >> block % 3, 2_000_000 * (layer + 1))
            parts.append(net.op("LOGISTIC" if layer % 5 == 4 else "CONV_2D", [thin], 50_000 >> block % 3, 9_000_000))
            n += 3
        x = net.op("CONV_2D", parts, 100_000, 5_000_000)
        n, block = n + 1, block + 1
    net.op("SOFTMAX", [x], 4_000)
    return net.problem(chips)


def hrnet(n_ops: int, chips: Sequence[Chip]) -> Problem:
    """Four branches of falling resolution that exchange everything after every few layers."""
    net = Network(600_000)
    stem = net.op("CONV_2D", [0], 800_000, 50_000_000)
    branches = [net.op("CONV_2D", [stem], 400_000 >> i, 20_000_000) for i in range(4)]
    n, stage = 5, 0
    while n + 40 <= n_ops:
        for i in range(4):
            for layer in range(3):
                name = "LOGISTIC" if (stage + i + layer) % 11 == 10 else "CONV_2D"
                done = net.op(name, [branches[i]], 400_000 >> i, 15_000_000)
                branches[i] = net.op("ADD", [branches[i], done], 400_000 >> i)
                n += 2
        mixed = []
        for i in range(4):
            parts = [branches[i]]
            for j in range(4):
                if j != i:
                    name = "RESIZE_BILINEAR" if j > i and stage % 2 else "CONV_2D"
                    parts.append(net.op(name, [branches[j]], 400_000 >> i, 1_000_000))
            mixed.append(net.op("ADD_N", parts, 400_000 >> i))
            n += 4
        branches, stage = mixed, stage + 1
    net.op("CONCATENATION", branches, 700_000)
    return net.problem(chips)


def chain(n_ops: int, chips: Sequence[Chip]) -> Problem:
    """Inverted residuals, one after another, with now and then an operator that an accelerator refuses."""
    net = Network(600_000)
    x = 0
    for block in range((n_ops + 3) // 4):
        wide = net.op("CONV_2D", [x], 1_200_000 >> block % 4, 10_000_000)
        deep = net.op("DEPTHWISE_CONV_2D", [wide], 1_200_000 >> block % 4, 4_000_000)
        name = ("CONV_2D", "LOGISTIC", "CONV_2D", "RESIZE_BILINEAR", "CONV_2D", "PRELU", "PAD")[block % 7]
        thin = net.op(name, [deep], 200_000 >> block % 4, 10_000_000)
        x = net.op("ADD", [x, thin] if block else [thin], 200_000 >> block % 4)
    net.op("SOFTMAX", [x], 4_000)
    return net.problem(chips)


def real_problems(path: Path, chips: Sequence[Chip]) -> list[tuple[str, Problem]]:
    """One problem per graph of a model, costed by a roofline; graphs without ops and unreadable models have none."""
    try:
        graphs = prepare(build(read(path))).graphs
    except DelegraphError:
        return []
    found = []
    for graph in graphs:
        nodes = _nodes(graph)
        if nodes:
            found.append((f"{path.stem}:{graph.index}", _problem(graph, nodes, chips)))
    return found


def _nodes(graph: Graph) -> list[Node]:
    """The nodes of ops that delegraph knows, with shapes as far as they can be told."""
    specs: dict[int, TensorSpec] = {
        i: spec_of(graph.tensors[i], tuple(max(1, n) for n in graph.tensors[i].shape)) for i in graph.inputs
    }
    found = []
    for op in graph.ops:
        opdef = registry.find(op.name)
        if opdef is not None:
            try:
                node = infer_op(graph, op, opdef, specs)
            except DelegraphError:
                node = None
            found.append(node or node_of(graph, op, opdef, specs))
    return found


def _problem(graph: Graph, nodes: Sequence[Node], chips: Sequence[Chip]) -> Problem:
    host = next(i for i, chip in enumerate(chips) if chip.device.id == "cpu")
    devices = (*(chip.device for chip in chips), ProblemDevice(CORE))
    domains = [device.domain for device in devices]
    links = [*(chip.link for chip in chips), Link()]
    ops = []
    readers: dict[int, list[int]] = {}
    sizes: dict[int, int] = {}
    makers: dict[int, int] = {}
    for position, node in enumerate(nodes):
        ops.append(_op(node, chips))
        for index, spec in zip(node.op.inputs, node.inputs, strict=True):
            if spec is not None and spec.value is None and position not in readers.setdefault(index, []):
                readers[index].append(position)
                sizes[index] = spec.size_bytes
        for index, spec in zip((i for i in node.op.outputs if i >= 0), node.outputs, strict=True):
            makers[index], sizes[index] = position, spec.size_bytes
    tensors = [
        ProblemTensor(
            makers.get(index),
            tuple(readers.get(index, ())),
            index in makers and index in graph.outputs,
            copy_table(sizes[index], domains, links, links, host),
        )
        for index in sorted(sizes)
    ]
    order = sorted((a, b) for b, wait in enumerate(effects.order(graph, nodes)) for a in wait)
    return Problem(devices, host, tuple(ops), tuple(tensors), tuple(order))


def _op(node: Node, chips: Sequence[Chip]) -> ProblemOp:
    opdef = registry.find(node.op.name)
    assert opdef is not None
    specs = [spec for spec in (*node.inputs, *node.outputs) if spec is not None]
    if opdef.host or not all(spec.dtype.is_plain for spec in specs):
        return ProblemOp((*(None for _ in chips), 1_000))
    try:
        macs = opdef.count(node).macs
    except (DelegraphError, IndexError, ZeroDivisionError):
        macs = 0
    size = sum(spec.size_bytes for spec in specs)
    is_integer = node.outputs[0].dtype.numpy.kind in "iu" if node.outputs else False
    weights = sum(spec.size_bytes for spec in node.inputs if spec is not None and spec.value is not None)
    return ProblemOp((*(_cost(chip, node.op.name, macs, size, is_integer) for chip in chips), None), weights)
