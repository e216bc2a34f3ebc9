"""What a segment's outputs have to be: the reference kernels' results, and how far floats may be from them.

Integers are exact. A float output may differ by its op's bound (``OpDef.bound``), and by what the bounds of the ops
before it may have grown to: for ops that never enlarge a difference that is the sum of the operands' differences, for
others it is measured by disturbing the operands. Imports core.ops and testing.conformance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from delegraph.core.graph.graph import Array
from delegraph.core.ops import registry
from delegraph.core.ops.opdef import Kernel, Node, OpDef
from delegraph.testing.conformance import difference
from delegraph.testing.contract.sketch import Specimen

_GENTLE = frozenset({"ADD", "SUB", "MAXIMUM", "MINIMUM", "RELU", "RELU6", "NEG", "ABS", "RESHAPE"})
"""A difference in an operand is at most as large in the result."""

_LOOSE_SHARE = 1 / 16
"""Of a device that deviates in ways that it declares in words only: what share of the range of the values it may be
away, so that a wrong answer is still told from another rounding."""


@dataclass(frozen=True, eq=False)
class Expectation:
    """values, allowed: for each delivered tensor. ops: the name of the op that makes it."""

    values: tuple[Array, ...]
    allowed: tuple[Any, ...]
    ops: tuple[str, ...]


def of_feed(specimen: Specimen, k: int) -> Expectation:
    """What the k-th feed has to give; computed once."""
    if k not in specimen.expected:
        specimen.expected[k] = expectation(specimen, specimen.feed(k))
    found: Expectation = specimen.expected[k]
    return found


def expectation(specimen: Specimen, feed: Sequence[Array]) -> Expectation:
    """The reference's results for these inputs."""
    segment = specimen.segment
    values: dict[int, Array] = dict(zip(segment.inputs, feed, strict=True))
    allowed: dict[int, Any] = {}
    maker = dict.fromkeys(segment.variables, "a variable")
    with np.errstate(all="ignore"):
        for node in segment.nodes:
            opdef = registry.find(node.op.name)
            assert opdef is not None
            form = opdef.form(node)
            assert form is not None, f"the reference has no form of {node.place}"
            kernel = form.prepare(node)
            operands = [_operand(i, spec, values) for i, spec in zip(node.op.inputs, node.inputs, strict=True)]
            results = [np.asarray(result) for result in kernel(*operands)]
            errors = [allowed.get(i, 0.0) for i in node.op.inputs]
            limits = _limits(opdef, node, kernel, operands, errors, results)
            made = (*node.op.outputs, *(node.op.inputs[slot] for slot in opdef.variables))
            for i, result, limit in zip(made, results, limits, strict=True):
                values[i], allowed[i] = result, limit
                maker[i] = node.op.name
    wanted = specimen.delivered
    return Expectation(
        tuple(np.array(values[i]) for i in wanted),
        tuple(allowed.get(i, 0.0) for i in wanted),
        tuple(maker[i] for i in wanted),
    )


def _operand(tensor: int, spec: Any, values: Mapping[int, Array]) -> Array | None:
    if spec is None:
        return None
    found: Array = values[tensor] if spec.value is None else spec.value
    return found


def _limits(
    opdef: OpDef,
    node: Node,
    kernel: Kernel,
    operands: Sequence[Array | None],
    errors: Sequence[Any],
    results: Sequence[Array],
) -> list[Any]:
    own: Sequence[Any] = [0.0] * len(results)
    n_outputs = len(node.outputs)
    if opdef.bound is not None and any(y.dtype.kind == "f" for y in results):
        found = list(opdef.bound(node, operands, list(results[:n_outputs])))
        own = found + [found[-1]] * (len(results) - n_outputs)
    if not any(np.any(e) for e in errors):
        return [limit if y.dtype.kind == "f" else 0.0 for limit, y in zip(own, results, strict=True)]
    if opdef.name in _GENTLE and results[0].dtype.kind == "f":
        (y,) = results
        total = sum(np.max(e, initial=0.0) if np.shape(e) != y.shape else e for e in errors)
        return [own[0] + total + 2 * np.spacing(np.abs(y))]
    return [limit + moved for limit, moved in zip(own, _moved(kernel, operands, errors, results), strict=True)]


def _moved(
    kernel: Kernel, operands: Sequence[Array | None], errors: Sequence[Any], results: Sequence[Array]
) -> list[Any]:
    """Four times how far results move when each operand is as wrong as it may be."""
    rng = np.random.default_rng(0)
    moved: list[Any] = [np.zeros(y.shape) for y in results]
    for signs in (1.0, -1.0, None, None, None):
        disturbed = [
            x
            if x is None or x.dtype.kind != "f"
            else (x + e * (rng.choice([-1.0, 1.0], x.shape) if signs is None else signs)).astype(x.dtype)
            for x, e in zip(operands, errors, strict=True)
        ]
        for i, (y, z) in enumerate(zip(results, kernel(*disturbed), strict=True)):
            moved[i] = np.maximum(moved[i], 4 * difference(y, np.asarray(z)))
    return moved


def complaint(expected: Expectation, found: Sequence[Array], *, is_loose: bool = False) -> str:
    """What is wrong with these outputs, or "". is_loose: the device declared that it deviates."""
    for i, (y, z) in enumerate(zip(expected.values, found, strict=True)):
        if y.size == 0:
            continue
        error = difference(y, z)
        limit = np.broadcast_to(np.asarray(expected.allowed[i], np.float64), y.shape)
        if is_loose:
            limit = np.maximum(limit, _loose_limit(y))
        bad = error > limit
        if bad.any():
            at = tuple(int(k) for k in np.argwhere(bad)[0]) if y.ndim else ()
            allowed = f", allowed is a difference of {limit[at]:.3g}" if limit[at] else ""
            return (
                f"output {i} (of {expected.ops[i]}): {int(bad.sum())} of {y.size} elements are wrong, first at "
                f"{list(at)}: expected {y[at]}, found {z[at]}{allowed}"
            )
    return ""


def _loose_limit(y: Array) -> float:
    if y.dtype.kind == "f":
        finite = y[np.isfinite(y)]
        return float(np.abs(finite).max(initial=1.0)) * _LOOSE_SHARE
    if y.dtype.kind in "iu":
        info = np.iinfo(y.dtype)
        return max(2.0, (float(info.max) - float(info.min)) * _LOOSE_SHARE)
    return 0.0
