"""Generated pages are what their generators make, and links within the documents lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tools import ops_table

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def test_table_of_ops_is_up_to_date() -> None:
    assert ops_table.PAGE.read_text() == ops_table.page(), "run: python -m tools.ops_table"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
