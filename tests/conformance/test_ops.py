"""Every OpDef against LiteRT, on the cases that it declares itself: integers equal, floats within its bound."""

from __future__ import annotations

import numpy as np
import pytest

from delegraph.core.ops import registry
from delegraph.core.ops.opdef import OpDef
from delegraph.testing import Oracle
from delegraph.testing.conformance import check

ROUNDS = 2
NOT_IN_PYTHON = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
"""Types that LiteRT's Python interface can't pass: what only moves them is taken to be as right as for other types."""

OPS = [op for op in registry.all_ops() if op.cases is not None]


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_op_agrees_with_litert(op: OpDef, oracle: Oracle) -> None:
    _check(op, oracle, range(ROUNDS))


@pytest.mark.slow
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_op_agrees_with_litert_at_length(op: OpDef, oracle: Oracle) -> None:
    _check(op, oracle, range(ROUNDS, ROUNDS + 6))


def _check(op: OpDef, oracle: Oracle, seeds: range) -> None:
    assert op.cases is not None
    n_compared = 0
    for seed in seeds:
        for verdict in check(op, op.cases(np.random.default_rng(seed)), oracle):
            assert verdict.outcome == "same", f"seed {seed}, case {verdict.case}: {verdict.outcome}: {verdict.detail}"
            n_compared += not verdict.detail  # a case that both refuse has a detail
    assert n_compared, "no case was run by both"


def test_every_op_has_cases() -> None:
    """Ops that core runs itself are tested with models instead."""
    assert [op.name for op in registry.all_ops() if op.cases is None and not op.host] == []


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_every_form_has_a_case(op: OpDef) -> None:
    """A kernel that no case reaches is not tested."""
    from delegraph.core.graph.build import build
    from delegraph.core.ops.cases import case_model
    from delegraph.core.ops.nodes import node_of

    assert op.cases is not None
    reached = set()
    for seed in range(6):
        for case in op.cases(np.random.default_rng(seed)):
            graph = build(case_model(op, case)).main
            form = op.form(node_of(graph, graph.ops[0], op, {}))
            if form is not None:
                reached.add(str(form))
    untested = [str(form) for form in op.forms if str(form) not in reached]
    assert [form for form in untested if not any(name in form for name in NOT_IN_PYTHON)] == []
