"""The memory plan: what is alive at the same time never overlaps, and reuse happens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from delegraph.core.runtime.memory import Usage, plan_memory


@st.composite
def usages(draw: st.DrawFn) -> list[Usage]:
    found = []
    for tensor in range(draw(st.integers(0, 24))):
        first = draw(st.integers(0, 12))
        found.append(Usage(tensor, draw(st.integers(0, 1000)), first, first + draw(st.integers(0, 6))))
    return found


@given(usages())
def test_what_is_alive_together_does_not_overlap(claims: list[Usage]) -> None:
    plan = plan_memory(claims)
    for i, a in enumerate(claims):
        assert plan.offsets[a.tensor] % 64 == 0
        assert plan.offsets[a.tensor] + a.size_bytes <= plan.size_bytes
        for b in claims[:i]:
            if a.overlaps(b) and a.size_bytes and b.size_bytes:
                x, y = plan.offsets[a.tensor], plan.offsets[b.tensor]
                assert x + a.size_bytes <= y or y + b.size_bytes <= x


@given(usages())
def test_arena_is_between_the_peak_and_the_sum(claims: list[Usage]) -> None:
    def aligned(size: int) -> int:
        return -(-size // 64) * 64

    plan = plan_memory(claims)
    peak = max((sum(aligned(u.size_bytes) for u in claims if u.first <= t <= u.last) for t in range(20)), default=0)
    assert peak <= plan.size_bytes <= sum(aligned(u.size_bytes) for u in claims)


def test_a_chain_needs_two_places() -> None:
    chain = [Usage(i, 640, i, i + 1) for i in range(10)]
    assert plan_memory(chain).size_bytes == 1280
