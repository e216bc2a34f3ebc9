"""One case of an OpDef, run by LiteRT and by the op's own kernel, and compared within the op's bound.

What the conformance tests and the op-by-op oracle share. Imports core and the oracle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from delegraph.core.errors import DelegraphError
from delegraph.core.graph.build import build
from delegraph.core.graph.graph import Array
from delegraph.core.model.writer import write
from delegraph.core.ops.cases import case_model
from delegraph.core.ops.nodes import node_of, spec_of, with_shapes
from delegraph.core.ops.opdef import Case, Node, OpDef
from delegraph.core.ops.support import node_support
from delegraph.testing.oracle import Job, Oracle, OracleError, OracleResult


@dataclass(frozen=True)
class Verdict:
    """What came of a case. outcome: "same" (equal, or within the bound), "different", "oracle refused", "we refused".

    worst: the largest |difference| of any output; share: the largest difference as a share of what is allowed.
    """

    op: str
    case: str
    outcome: str
    detail: str = ""
    worst: float = 0.0
    share: float = 0.0


def kernel_outputs(op: OpDef, case: Case) -> tuple[Node, list[Array]]:
    """Runs a case with the OpDef's own form. Raises DelegraphError when the op refuses it."""
    graph = build(case_model(op, case)).main
    (the_op,) = graph.ops
    node = node_of(graph, the_op, op, {i: spec_of(graph.tensors[i]) for i in the_op.inputs if i >= 0})
    problem = node_support(the_op, node)
    if problem is not None:
        raise problem.error(the_op)
    shapes = tuple(op.shapes(node))
    if all(shape is not None for shape in shapes):
        node = with_shapes(node, tuple(s for s in shapes if s is not None))
    form = op.form(node)
    assert form is not None
    operands = [None if o is None else o.data for o in case.inputs]
    while len(operands) > len(the_op.inputs):
        operands.pop()
    with np.errstate(all="ignore"):
        results = [np.asarray(r) for r in form.prepare(node)(*operands)]
    for shape, result in zip(shapes, results, strict=True):
        if shape is not None and shape != result.shape:
            raise AssertionError(f"{op.name}:{case.name}: shapes() said {shape}, the kernel made {result.shape}")
    return node, results


def check(op: OpDef, cases: Iterable[Case], oracle: Oracle) -> Iterator[Verdict]:
    """Compares each case with LiteRT's result."""
    cases = list(cases)
    jobs = [
        Job(
            write(case_model(op, case)),
            [o.data for o in case.inputs if o is not None and not o.constant],
            resolver="reference" if case.oracle == "reference" else "builtin",
        )
        for case in cases
    ]
    for case, result in zip(cases, oracle.run_many(jobs), strict=True):
        yield compare_case(op, case, result)


def compare_case(op: OpDef, case: Case, result: OracleResult | OracleError) -> Verdict:
    """The verdict on one case, given what LiteRT made of it."""
    refused = result if isinstance(result, OracleError) else None
    try:
        node, ours = kernel_outputs(op, case)
    except DelegraphError as exc:
        if refused is not None:
            return Verdict(op.name, case.name, "same", f"both refuse: {exc} | {refused}")
        return Verdict(op.name, case.name, "we refused", str(exc))
    if refused is not None:
        return Verdict(op.name, case.name, "oracle refused", str(refused))
    assert isinstance(result, OracleResult)
    expected = list(result.outputs)
    inputs = [None if o is None else o.data for o in case.inputs]
    return compare(op, case.name, node, inputs, expected, ours)


def compare(
    op: OpDef, name: str, node: Node, inputs: Sequence[Any], expected: Sequence[Array], ours: Sequence[Array]
) -> Verdict:
    """Element by element: integers equal, floats within the op's bound."""
    allowed: Sequence[Any] = [0.0] * len(expected)
    if op.bound is not None and any(y.dtype.kind == "f" for y in expected):
        with np.errstate(all="ignore"):
            allowed = op.bound(node, inputs, expected)
    worst, share = 0.0, 0.0
    for i, (y, z) in enumerate(zip(expected, ours, strict=True)):
        if y.shape != z.shape or y.dtype != z.dtype:
            detail = f"output {i}: expected {y.dtype}{list(y.shape)}, found {z.dtype}{list(z.shape)}"
            return Verdict(op.name, name, "different", detail)
        error = difference(y, z)
        limit = np.broadcast_to(np.asarray(allowed[i] if y.dtype.kind == "f" else 0.0), y.shape)
        if error.size == 0:
            continue
        worst = max(worst, float(error.max()))
        with np.errstate(all="ignore"):
            shares = np.where(error == 0, 0.0, error / limit)
        share = max(share, float(np.nan_to_num(shares, nan=np.inf).max()))
        bad = error > limit
        if bad.any():
            at = tuple(int(k) for k in np.argwhere(bad)[0]) if y.ndim else ()
            detail = (
                f"output {i}: {int(bad.sum())} of {y.size} elements, first at {list(at)}: "
                f"expected {y[at]!r}, found {z[at]!r}, allowed {limit[at]}"
            )
            return Verdict(op.name, name, "different", detail, worst, share)
    return Verdict(op.name, name, "same", "", worst, share)


def difference(y: Array, z: Array) -> Array:
    """|y - z| per element as float64: 0 where both are the same NaN or infinity, inf where only one is."""
    if y.dtype.kind in "OSUb":
        return np.asarray(y != z, np.float64)
    if y.dtype.kind in "iu":
        distance: Array = np.abs(y.astype(np.float64) - z.astype(np.float64)) + (y != z) * 1e-300
        return distance
    with np.errstate(all="ignore"):
        error = np.abs(y.astype(np.complex128) - z.astype(np.complex128))
        same = (y == z) | ((y != y) & (z != z))
    error = np.where(same, 0.0, error)
    return np.nan_to_num(error, nan=np.inf, posinf=np.inf)
