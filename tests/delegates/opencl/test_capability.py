"""Each rule at its limit and one past it, on a device that does not exist: none of this needs OpenCL."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from subprocess import run

import numpy as np
import pytest
from tests.delegates.opencl.harness import TRAITS, case_segment

from delegraph.core.abi.values import Verdict
from delegraph.core.ops import registry
from delegraph.core.ops.opdef import Node, TensorSpec
from delegraph.delegates.opencl import capability
from delegraph.delegates.opencl.kernels import LOWERINGS
from delegraph.delegates.opencl.lowering import Lowering, Rule
from delegraph.delegates.opencl.rules import COMMON, MAX_ELEMENTS
from delegraph.delegates.opencl.traits import Traits

BARE = replace(TRAITS, fp64=False, rounded_division=False)
Broken = tuple[Node, Traits]


def _node(lowering: Lowering, slot: int = 0) -> Node:
    """A node that the lowering takes, with an operand at ``slot``."""
    op = registry.find(lowering.op)
    assert op is not None and op.cases is not None
    for seed in range(4):
        for case in op.cases(np.random.default_rng(seed)):
            segment = case_segment(op, case)
            if segment is None or not lowering.takes(segment.nodes[0]) or not segment.nodes[0].has_input(slot):
                continue
            if capability.support(segment.nodes[0], TRAITS).verdict is Verdict.YES:
                return segment.nodes[0]
    pytest.fail(f"{lowering.op} {lowering.types}: no case")


def _activated(node: Node, activation: int) -> Node:
    return replace(node, options=node.options.replace(fused_activation_function=activation))


def _computed(node: Node, slot: int) -> Node:
    inputs = list(node.inputs)
    spec = inputs[slot]
    assert spec is not None
    inputs[slot] = replace(spec, value=None)
    return replace(node, inputs=tuple(inputs))


def _slot(lowering: Lowering, rule: Rule) -> int:
    """The operand that a rule on constants speaks of."""
    name = rule.id.removeprefix("constant_")
    op = registry.find(lowering.op)
    assert op is not None
    names = [operand.rstrip("?*") for operand in op.inputs]
    return names.index({"axes": "axis"}.get(name, name))


def _pair(lowering: Lowering, rule: Rule) -> tuple[Broken, Broken]:
    """A node on a device that keeps the rule just so, and one that breaks it."""
    if rule.id == "activation":
        node = _node(lowering)
        return (_activated(node, 3), TRAITS), (_activated(node, 4), TRAITS)
    if rule.id.startswith("constant_"):
        slot = _slot(lowering, rule)
        node = _node(lowering, slot)
        return (node, TRAITS), (_computed(node, slot), TRAITS)
    if rule.id == "division":
        node = _node(lowering)
        return (node, replace(BARE, fp64=True)), (node, BARE)
    assert rule.id in ("fp64", "accuracy"), f"this test does not know how to break {rule.id}"
    node = next(n for n in _nodes(lowering) if rule.test(n, BARE) is not None)
    return (node, TRAITS), (node, BARE)


def _nodes(lowering: Lowering) -> list[Node]:
    return [_node(replace(lowering, types=(types,))) for types in lowering.types]


RULES = [(lowering, rule) for lowering in LOWERINGS for rule in lowering.rules]


@pytest.mark.parametrize(("lowering", "rule"), RULES, ids=[f"{low.op}-{rule.id}" for low, rule in RULES])
def test_rule(lowering: Lowering, rule: Rule) -> None:
    (kept, kept_on), (broken, broken_on) = _pair(lowering, rule)
    assert capability.support(kept, kept_on).verdict is Verdict.YES
    answer = capability.support(broken, broken_on)
    assert answer.constraint == f"opencl.{rule.id}"
    assert answer.verdict is (Verdict.DEVIATES if rule.deviates else Verdict.NO)
    assert rule.sentence in answer.reason and answer.value in answer.reason


def _relu(shape: tuple[int, ...]) -> Node:
    node = _node(next(lowering for lowering in LOWERINGS if lowering.op == "RELU"))
    spec: TensorSpec = replace(node.input(0), shape=shape)
    return replace(node, inputs=(spec,), outputs=(replace(node.outputs[0], shape=shape),))


COMMON_PAIRS: dict[str, tuple[Broken, Broken]] = {
    "not_empty": ((_relu((1, 1)), TRAITS), (_relu((1, 0)), TRAITS)),
    "index_range": ((_relu((MAX_ELEMENTS,)), TRAITS), (_relu((MAX_ELEMENTS + 1,)), TRAITS)),
    "buffer_size": tuple((_relu((size,)), replace(TRAITS, max_buffer_bytes=400)) for size in (100, 101)),  # type: ignore[dict-item]
    "denormals": ((_relu((2,)), TRAITS), (_relu((2,)), replace(TRAITS, denormals=False))),
}


@pytest.mark.parametrize("rule", COMMON, ids=lambda rule: rule.id)
def test_common_rule(rule: Rule) -> None:
    kept, broken = COMMON_PAIRS[rule.id]
    assert capability.support(*kept).verdict is Verdict.YES
    answer = capability.support(*broken)
    assert answer.constraint == f"opencl.{rule.id}"
    assert answer.verdict is (Verdict.DEVIATES if rule.deviates else Verdict.NO)


def test_every_rule_has_a_sentence_of_its_own() -> None:
    sentences: dict[str, set[str]] = {}
    for _, _, rule in capability.rules():
        sentences.setdefault(rule.id, set()).add(rule.sentence)
    several = {name for name, texts in sentences.items() if len(texts) > 1}
    assert several <= {"accuracy", "fp64"}  # says how much, or what for


def test_unknown_ops_and_types_are_refused_with_a_reason() -> None:
    op = registry.find("CUMSUM")
    assert op is not None and op.cases is not None
    segment = next(s for case in op.cases(np.random.default_rng(0)) if (s := case_segment(op, case)))
    answer = capability.support(segment.nodes[0], TRAITS)
    assert (answer.verdict, answer.constraint) == (Verdict.NO, "opencl.op")
    add = registry.find("ADD")
    assert add is not None and add.cases is not None
    cases = (case for case in add.cases(np.random.default_rng(0)) if case.name.startswith("int64"))
    segment = next(s for case in cases if (s := case_segment(add, case)))
    answer = capability.support(segment.nodes[0], TRAITS)
    assert (answer.verdict, answer.constraint) == (Verdict.NO, "opencl.types")
    assert "int64" in answer.reason and "float32, float32 -> float32" in answer.reason


def test_listing_and_asking_import_no_pyopencl() -> None:
    code = "import sys, delegraph.delegates.opencl.capability; print('pyopencl' in sys.modules)"
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "False", done.stderr
