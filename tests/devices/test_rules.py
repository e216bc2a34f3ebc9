"""Every rule, alone and as each shipped profile sets it: an op at the limit passes, one past it is refused."""

from __future__ import annotations

from typing import Any

import pytest
from tests.devices.nodes import CASES

from delegraph.core.devices import load, op_sets
from delegraph.core.devices.rules import RULES, limit_text


@pytest.mark.parametrize("name", sorted(RULES))
def test_rule_at_its_limit_and_past_it(name: str) -> None:
    op, limit, pair = CASES[name]
    _try(name, op, limit, pair)


@pytest.mark.parametrize("profile", load().profiles.values(), ids=lambda p: p.id)
def test_constraints_of_shipped_profiles(profile: Any) -> None:
    tried = 0
    for op in profile.ops or ["ADD", "CONV_2D"]:
        for name, limit in {**profile.every_op, **profile.ops.get(op, {})}.items():
            if limit is not None:
                _try(name, op, limit, CASES[name][2])
                tried += 1
    assert tried or profile.op_set.nnapi_level


@pytest.mark.parametrize("level", op_sets.LEVELS)
def test_constraints_of_nnapi(level: int) -> None:
    for op, entry in op_sets.OPS.items():
        if entry.level <= level:
            for name, limit in entry.limits(level).items():
                _try(name, op, limit, CASES[name][2])


def _try(name: str, op: str, limit: Any, pair: Any) -> None:
    rule = RULES[name]
    assert rule.ops is None or op in rule.ops
    constraint = rule.constraint(limit)
    at, past = pair(op, limit)
    assert constraint.test(at) is None, (name, op, limit, constraint.test(at))
    found = constraint.test(past)
    assert found, (name, op, limit)
    assert "{" not in constraint.sentence + constraint.advice
    assert constraint.limit == ("" if limit is True else limit_text(limit))


def test_every_case_is_of_a_rule() -> None:
    assert set(CASES) == set(RULES)


def test_sentences_follow_the_style() -> None:
    for rule in RULES.values():
        assert not rule.sentence.endswith(".") and rule.sentence[0].islower() or rule.sentence[0].isdigit(), rule.name
        assert rule.sentence.count("{limit}") == (0 if rule.name in _flags() else 1), rule.name


def _flags() -> set[str]:
    return {name for name, (_, limit, _) in CASES.items() if limit is True}
