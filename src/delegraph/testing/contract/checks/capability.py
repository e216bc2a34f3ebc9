"""supports(), check() and the estimates: what a device says of graphs."""

from __future__ import annotations

from delegraph.core.abi.values import Estimate, GraphView, Support, Verdict
from delegraph.core.errors import DelegraphError
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Graph, Op, Quantization, Tensor
from delegraph.core.model.table import Table
from delegraph.core.ops.opdef import Node, TensorSpec
from delegraph.core.ops.support import node_support
from delegraph.testing.contract import cases
from delegraph.testing.contract.check import check
from delegraph.testing.contract.finding import expect, fail, skip
from delegraph.testing.contract.subject import Subject


@check("supports.complete", "supports() gives one Support for each node of the view, in its order.")
def complete(subject: Subject) -> None:
    view = cases.everything().view
    for n_nodes in (0, 1, 2, len(view.nodes)):
        part = GraphView(view.graph, view.nodes[:n_nodes])
        found = list(subject.device.supports(part))
        expect(len(found) == n_nodes, f"{len(found)} answers for {n_nodes} nodes")
        wrong = [type(answer).__name__ for answer in found if not isinstance(answer, Support)]
        expect(not wrong, f"an answer is of type {(wrong or [''])[0]}")


@check("supports.stable", "supports() says the same each time, also after the device was opened anew.")
def stable(subject: Subject) -> None:
    view = cases.everything().view
    first = subject.answers(view)
    for when in ("asked again", "opened anew"):
        device = subject.device if when == "asked again" else subject.reopened()
        for node, one, two in zip(view.nodes, first, device.supports(view), strict=True):
            same = one.verdict is two.verdict
            expect(same, f"{node.op.name}: first {one.verdict.value}, {when} {two.verdict.value}")


@check(
    "supports.reasons", "A NO has the id of the constraint that decided and a sentence; a DEVIATES says how it differs."
)
def reasons(subject: Subject) -> None:
    view = cases.everything().view
    for node, answer in zip(view.nodes, subject.answers(view), strict=True):
        if answer.verdict is Verdict.NO:
            expect(bool(answer.constraint), f"NO to {node.op.name} without the id of a constraint")
        if answer.verdict is not Verdict.YES:
            expect(bool(answer.reason.strip()), f"{answer.verdict.name} to {node.op.name} without a reason")
        for name in ("constraint", "reason", "advice", "value", "limit"):
            found = getattr(answer, name)
            expect(isinstance(found, str), f"{name} of {node.op.name}'s answer is {type(found).__name__}, not str")


@check("supports.never_raises", "supports() never raises for a model's sake: odd shapes, types and ops are a NO.")
def never_raises(subject: Subject) -> None:
    device = subject.device
    for view in oddities():
        (odd,) = view.nodes
        if not _is_asked_about(odd):
            continue
        try:
            found = list(device.supports(view))
        except Exception as exc:
            shapes = " and ".join(f"{s.dtype}{list(s.shape)}" for s in odd.inputs if s is not None)
            fail(f"{odd.op.name} of {shapes}: it raised {type(exc).__name__}: {exc}")
        answer = found[0] if len(found) == 1 else None
        if odd.op.is_custom and isinstance(answer, Support):
            expect(not answer.runs, f"it takes {odd.op.name}, a custom op that nobody knows")


def _is_asked_about(node: Node) -> bool:
    """Whether core lets a model with this node come as far as a device."""
    try:
        node_support(node.op, node)
    except DelegraphError:
        return False
    return True


def oddities() -> list[GraphView]:
    """Ops that a model may have, and that are easily forgotten, each in a graph of its own."""
    f32 = DType.FLOAT32
    shapes: list[list[tuple[int, ...]]] = [[(), ()], [(0,), (0,)], [(2, 0, 3), (2, 0, 3)], [(1,) * 9, (1,) * 9]]
    found = [_node("ADD", "AddOptions", [(f32, shape) for shape in pair]) for pair in shapes]
    found += [
        _node("ADD", "AddOptions", [(dtype, (2, 2)), (dtype, (2, 2))])
        for dtype in (DType.FLOAT64, DType.BOOL, DType.INT4, DType.STRING, DType.BFLOAT16, DType.COMPLEX64)
    ]
    quantized = Quantization.per_tensor(0.5, 1)
    found += [
        _node("ADD", "AddOptions", [(f32, (2, 3)), (f32, (4, 5))]),
        _node("ADD", "AddOptions", [(DType.INT8, (2, 2)), (DType.INT8, (2, 2))]),
        _node("ADD", "AddOptions", [(DType.INT8, (2, 2)), (f32, (2, 2))], quantized),
        _node("CONV_2D", "Conv2DOptions", [(f32, (4,)), (f32, (1, 1, 1, 1)), (f32, (1,))]),
        _node("CONV_2D", "Conv2DOptions", [(f32, (1, 0, 4, 3)), (f32, (2, 1, 1, 3)), (f32, (2,))]),
        _node("FULLY_CONNECTED", "FullyConnectedOptions", [(f32, (2, 3)), (f32, (4, 3)), None]),
        _node("RESHAPE", "ReshapeOptions", [(f32, (2, 3)), (DType.INT32, (2,))]),
        _node("SOFTMAX", "SoftmaxOptions", [(f32, ())]),
        _node("acme.no-such-op", "AddOptions", [(f32, (2, 2))], custom=b"\xff\x00\x01"),
    ]
    return found


def _node(
    name: str,
    options: str,
    operands: list[tuple[DType, tuple[int, ...]] | None],
    quantization: Quantization | None = None,
    custom: bytes = b"",
) -> GraphView:
    inputs = tuple(None if o is None else TensorSpec(o[0], o[1], quantization) for o in operands)
    result = next(spec for spec in inputs if spec is not None)
    given = [spec for spec in inputs if spec is not None]
    numbers = tuple(-1 if spec is None else given.index(spec) for spec in inputs)
    tensors = tuple(
        Tensor(i, f"t{i}", spec.dtype, spec.shape, spec.shape, quantization=spec.quantization)
        for i, spec in enumerate((*given, result))
    )
    table = Table(options)
    op = Op(0, name, 1, numbers, (len(given),), table, custom, bool(custom), place="subgraphs[0].operators[0]")
    graph = Graph(0, "odd", tensors, (op,), tuple(range(len(given))), (len(given),), (), (op,))
    return GraphView(graph, (Node(op, inputs, (result,), table),))


@check("check.answers", "check() answers with a Support, the same each time, and a NO has constraint and reason.")
def answers(subject: Subject) -> None:
    for specimen in (subject.workbench(), subject.weighted()):
        first, second = subject.device.check(specimen.segment), subject.device.check(specimen.segment)
        expect(isinstance(first, Support), f"it answers with {type(first).__name__}")
        expect(first.verdict is second.verdict, f"first {first.verdict.value}, then {second.verdict.value}")
        if not first.runs:
            expect(bool(first.constraint and first.reason), "a NO without constraint and reason")


@check(
    "estimate.well_formed",
    "estimate() gives an Estimate or None for each node; times and energies are whole numbers from 0.",
)
def well_formed(subject: Subject) -> None:
    specimen = subject.workbench()
    found = list(subject.device.estimate(specimen.view))
    n_nodes = len(specimen.view.nodes)
    expect(len(found) == n_nodes, f"{len(found)} estimates for {n_nodes} nodes")
    for estimate in (*found, subject.device.estimate_segment(specimen.segment)):
        if estimate is None:
            continue
        expect(isinstance(estimate, Estimate), f"{type(estimate).__name__} in place of Estimate or None")
        for name in ("time_ns", "energy_nj"):
            value = getattr(estimate, name)
            expect(isinstance(value, int) and value >= 0, f"{name} is {value!r}")


@check("estimate.stable", "The estimates of a graph are the same each time: placements can be made again.")
def estimate_stable(subject: Subject) -> None:
    specimen = subject.workbench()
    first, second = list(subject.device.estimate(specimen.view)), list(subject.device.estimate(specimen.view))
    if all(estimate is None for estimate in first):
        skip("the device leaves estimates to core")
    expect(first == second, f"first {first}, then {second}")
