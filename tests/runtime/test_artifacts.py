"""The digest of a segment: equal ones mean that a delegate is shown the same, names of tensors apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from delegraph.core.abi.native.segment_model import segment_model
from delegraph.core.abi.values import Segment
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Op, Quantization, Tensor
from delegraph.core.model.table import Table
from delegraph.core.ops.opdef import Node, TensorSpec
from delegraph.core.runtime.artifacts import segment_digest
from delegraph.testing.contract import cases, glue
from delegraph.testing.contract.packs import KeptPacks
from delegraph.testing.contract.sketch import Specimen, UnusableSketch

PACKS = KeptPacks()


def digest(segment: Segment) -> str:
    return segment_digest(segment, PACKS)


def shown(segment: Segment) -> bytes:
    """What a delegate in C or in another process is shown, without the names of the tensors."""
    model = segment_model(segment)
    nameless = tuple(replace(tensor, name=f"t{i}") for i, tensor in enumerate(model.tensors))
    model = replace(model, name="main", tensors=nameless)
    return model.to_bytes() + b"".join(b"%d:" % i + data.tobytes() for i, data in sorted(model.external.items()))


def specimens() -> Iterator[Specimen]:
    """Graphs of one op, with types of every kind, and of several ops."""
    pieces = cases.pieces()
    groups = [*([piece] for piece in pieces[::3]), *(list(pieces[i : i + 2]) for i in range(1, len(pieces) - 2, 12))]
    for group in groups:
        try:
            yield cases.bundle(group)
        except UnusableSketch:
            continue
    for name in ("float32", "int8", "int16"):
        kind = glue.type_of(name, (1, 3, 4, 5))
        _, palette = glue.trial(kind)
        yield glue.workbench(palette, kind)
        yield glue.random_graph(palette, kind, 1, n_ops=4)


def with_tensor(segment: Segment, index: int, **fields: Any) -> Segment:
    """The segment with other fields of a TensorSpec, wherever it is told of that tensor."""

    def told(i: int, spec: TensorSpec | None) -> TensorSpec | None:
        return spec if spec is None or i != index else replace(spec, **fields)

    def of_node(node: Node) -> Node:
        made = [i for i in node.op.outputs if i >= 0]
        outputs = tuple(replace(s, **fields) if i == index else s for i, s in zip(made, node.outputs, strict=True))
        return replace(node, inputs=tuple(map(told, node.op.inputs, node.inputs)), outputs=outputs)

    given = {name: value for name, value in fields.items() if name in ("dtype", "quantization", "sparsity")}
    tensors = tuple(replace(t, **given) if t.index == index else t for t in segment.graph.tensors)
    specs = {i: replace(spec, **fields) if i == index else spec for i, spec in segment.specs.items()}
    graph = replace(segment.graph, tensors=tensors)
    return replace(segment, graph=graph, nodes=tuple(map(of_node, segment.nodes)), specs=specs)


def with_node(segment: Segment, position: int, change: Callable[[Node], Node]) -> Segment:
    nodes = list(segment.nodes)
    nodes[position] = change(nodes[position])
    return replace(segment, nodes=tuple(nodes))


def with_extra(segment: Segment, *extra: Tensor) -> Segment:
    """With more tensors in the graph, numbered on from the last."""
    first = len(segment.graph.tensors)
    tensors = tuple(replace(tensor, index=first + i) for i, tensor in enumerate(extra))
    return replace(segment, graph=replace(segment.graph, tensors=segment.graph.tensors + tensors))


def constant(value: Any, quantization: Quantization | None = None) -> Tensor:
    array = np.asarray(value)
    data = array.reshape(-1).view(np.uint8).copy()
    data.flags.writeable = False
    return Tensor(0, "extra", DType.of(array.dtype), array.shape, array.shape, quantization=quantization, data=data)


def op_variants(segment: Segment, position: int) -> Iterator[Segment]:
    def with_op(segment: Segment, **fields: Any) -> Segment:
        return with_node(segment, position, lambda node: replace(node, op=replace(node.op, **fields)))

    def with_options(options: Table) -> Segment:
        changed = with_op(segment, options=options)
        return with_node(changed, position, lambda node: replace(node, options=options))

    op: Op = segment.nodes[position].op
    yield with_op(segment, version=op.version + 1)
    if op.options is not None:
        yield with_op(segment, options=None)
        for name, value in op.options:
            if isinstance(value, bool):
                yield with_options(op.options.replace(**{name: not value}))
            elif isinstance(value, int | float):
                yield with_options(op.options.replace(**{name: value + 1}))
    extra = len(segment.graph.tensors)
    for quantization in (Quantization.per_tensor(0.5, 3), Quantization.per_tensor(0.25, 3), None):
        for value in (np.zeros(3, np.int16), np.ones(3, np.int16), np.zeros(4, np.int16)):
            inner = with_extra(segment, constant(value, quantization), constant(value))
            yield with_op(inner, intermediates=(extra,))
    yield with_op(inner, intermediates=(extra, extra + 1))
    yield with_op(inner, intermediates=(extra, -1))


def tensor_variants(segment: Segment, index: int, spec: TensorSpec) -> Iterator[Segment]:
    yield with_tensor(segment, index, is_variable=not spec.is_variable)
    old = spec.quantization or Quantization.per_tensor(1.0)
    for quantization in (
        replace(old, scales=old.scales * 2),
        replace(old, zero_points=old.zero_points + 1),
        replace(old, axis=old.axis + 1),
        None,
    ):
        yield with_tensor(segment, index, quantization=quantization)
    extra = len(segment.graph.tensors)
    for block_size in (16, 32):
        for scales in (np.zeros(2, np.float16), np.ones(2, np.float16), np.ones(2, np.float32)):
            blockwise = replace(old, block_size=block_size, block_scales=extra)
            yield with_tensor(with_extra(segment, constant(scales)), index, quantization=blockwise)
    if spec.value is not None and spec.value.size and spec.dtype.is_plain:
        value = spec.value.copy()
        value.reshape(-1).view(np.uint8)[-1] ^= 1
        yield with_tensor(segment, index, value=value)


def variants(segment: Segment) -> Iterator[Segment]:
    yield replace(segment, outputs=segment.outputs[::-1])
    yield replace(segment, inputs=segment.inputs[::-1])
    yield replace(segment, outputs=segment.outputs[:1])
    for position in range(len(segment.nodes)):
        yield from op_variants(segment, position)
    specs = dict(segment.specs)
    for node in segment.nodes:
        specs |= {i: spec for i, spec in zip(node.op.inputs, node.inputs, strict=True) if spec is not None}
    for index, spec in specs.items():
        yield from tensor_variants(segment, index, spec)


def renumbered(segment: Segment) -> Segment:
    """The same with every tensor numbered otherwise, as in another model."""
    n = len(segment.graph.tensors)
    number = {-1: -1, **{i: n + 2 - i for i in range(n)}}

    def numbers(tensors: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(number[i] for i in tensors)

    def of_op(op: Op) -> Op:
        made = numbers(op.outputs)
        return replace(op, inputs=numbers(op.inputs), outputs=made, intermediates=numbers(op.intermediates))

    spare = tuple(constant(np.zeros(1, np.int8)) for _ in range(3))
    tensors = tuple(replace(tensor, index=i) for i, tensor in enumerate((*spare, *segment.graph.tensors[::-1])))
    return Segment(
        replace(segment.graph, tensors=tensors),
        tuple(replace(node, op=of_op(node.op)) for node in segment.nodes),
        numbers(segment.inputs),
        numbers(segment.outputs),
        numbers(segment.variables),
        {number[i]: spec for i, spec in segment.specs.items()},
    )


def test_equal_digests_mean_the_same_segment() -> None:
    known: dict[str, bytes] = {}
    n = 0
    for specimen in specimens():
        for segment in (specimen.segment, *variants(specimen.segment)):
            n += 1
            found = shown(segment)
            assert known.setdefault(digest(segment), found) == found, specimen.name
    assert n > 3000 and len(known) > n // 2


def test_a_segment_of_another_model_has_the_same_digest() -> None:
    for specimen in specimens():
        other = renumbered(specimen.segment)
        assert shown(other) == shown(specimen.segment), specimen.name
        assert digest(other) == digest(specimen.segment), specimen.name


def test_scales_of_blocks_are_noted_by_value_not_by_number() -> None:
    for specimen in (glue.chain(*reversed_trial()),):
        segment = specimen.segment
        first, extra = segment.inputs[0], len(segment.graph.tensors)
        found = []
        for scales in ((constant([1.0]), constant([2.0])), (constant([2.0]), constant([1.0]))):
            for k in range(2):
                blocks = replace(Quantization.per_tensor(1.0), block_size=32, block_scales=extra + k)
                found.append(digest(with_tensor(with_extra(segment, *scales), first, quantization=blocks)))
        assert found[0] == found[3] != found[1] == found[2]


def reversed_trial() -> tuple[glue.Palette, glue.Type]:
    kind = glue.type_of("float32", (2, 3))
    return glue.trial(kind)[1], kind
