"""Tables and paragraphs in a terminal's width. Words (names, ids, numbers) are never broken: texts fold between them.

A column whose texts would fold into more than FOLDS lines on average goes below its row instead, under its name. A
single word that is wider than the terminal stays whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

NOTHING = "-"
"""What a cell without a value shows."""
FOLDS = 2
_GAP = "  "
_INDENT = "    "

Cell = Sequence[str]
"""The parts of a cell: each starts on a line of its own."""


@dataclass(frozen=True)
class _Column:
    """One column. cells: from top to bottom. is_right: whether they are aligned right: numbers, which don't fold."""

    head: str
    cells: Sequence[Cell]
    is_right: bool

    @cached_property
    def _texts(self) -> list[int]:
        """The width of each text."""
        return [cell_width(part) for cell in self.cells for part in cell]

    @cached_property
    def whole(self) -> int:
        """The width in which nothing folds."""
        return max([cell_width(self.head), *self._texts])

    @cached_property
    def least(self) -> int:
        """The width of the longest text that must not fold."""
        texts = [*self.head.split(), *itertools.chain.from_iterable(self.cells)]
        words = texts if self.is_right else [word for text in texts for word in text.split()]
        return max(map(cell_width, words), default=0)

    def is_narrow(self, width: int) -> bool:
        """Whether its texts fold too often in that width."""
        return sum(-(-text // max(width, 1)) for text in self._texts) > FOLDS * len(self._texts)

    @cached_property
    def is_empty(self) -> bool:
        return all(tuple(cell) == (NOTHING,) for cell in self.cells)


def cell_width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    from rich.cells import cell_len

    return cell_len(text)


def fits(heads: Sequence[str], rows: Sequence[Sequence[Cell]], width: int) -> bool:
    """Whether a table is no wider than that without folding."""
    columns = _columns(heads, rows, ())
    return sum(column.whole for column in columns) + len(_GAP) * (len(columns) - 1) <= width


def table_lines(
    heads: Sequence[str], rows: Sequence[Sequence[Cell]], right: Sequence[str], width: int
) -> tuple[list[str], list[str]]:
    """The lines of the head, and those of the rows. Columns in which no row has a value are left out."""
    columns = _columns(heads, rows, right)
    beside, below = _split(columns, width)
    widths = _widths(beside, width)
    head = _row([(column.head,) for column in beside], beside, widths)
    lines = []
    for i in range(len(rows)):
        lines += _row([column.cells[i] for column in beside], beside, widths)
        for column in below:
            lines += _below(column.head, column.cells[i], width)
    return head, lines


def _columns(heads: Sequence[str], rows: Sequence[Sequence[Cell]], right: Sequence[str]) -> list[_Column]:
    columns = [_Column(head, [row[i] for row in rows], head in right) for i, head in enumerate(heads)]
    return [column for column in columns if not column.is_empty] or columns


def _split(columns: Sequence[_Column], width: int) -> tuple[list[_Column], list[_Column]]:
    """The columns that go beside one another, and those that go below: the widest ones, but never the first column."""
    beside = list(columns)
    while len(beside) > 1:
        widths = _widths(beside, width)
        is_narrow = any(column.is_narrow(given) for column, given in zip(beside, widths, strict=True))
        if not is_narrow and sum(widths) + len(_GAP) * (len(beside) - 1) <= width:
            break
        beside.remove(max(beside[1:], key=lambda column: column.whole))
    return beside, [column for column in columns if column not in beside]


def _widths(columns: Sequence[_Column], width: int) -> list[int]:
    """A width for each column: as much as it can use, or as all wide ones get alike; more than there is, where their
    words need it."""
    room = width - len(_GAP) * (len(columns) - 1)
    limit = max(column.whole for column in columns)
    while True:
        widths = [max(column.least, min(column.whole, limit)) for column in columns]
        if sum(widths) <= room or limit == 0:
            return widths
        limit -= 1


def _row(cells: Sequence[Cell], columns: Sequence[_Column], widths: Sequence[int]) -> list[str]:
    stacks = [
        [line for part in cell for line in folded(part, width)] for cell, width in zip(cells, widths, strict=True)
    ]
    lines = []
    for parts in itertools.zip_longest(*stacks, fillvalue=""):
        spaces = [" " * (width - cell_width(part)) for part, width in zip(parts, widths, strict=True)]
        padded = [
            space + part if column.is_right else part + space
            for part, space, column in zip(parts, spaces, columns, strict=True)
        ]
        lines.append(_GAP.join(padded).rstrip())
    return lines


def _below(head: str, cell: Cell, width: int) -> list[str]:
    """A cell under its row: the column's name, and its parts beside that."""
    if tuple(cell) == (NOTHING,):
        return []
    first = f"{_INDENT}{head}: "
    later = " " * len(first)
    lines = []
    for part in cell:
        lines += folded(part, width, first=first, later=later)
        first = later
    return lines


def folded(text: str, width: int, *, first: str = "", later: str = "") -> list[str]:
    """The text in lines of at most that width, unless a word is wider. first, later: what stands in front of them."""
    if cell_width(first + text) <= width:
        return [(first + text).rstrip()]
    lines, line, is_blank = [], first, True
    for word in text.split():
        if not is_blank and cell_width(f"{line} {word}") > width:
            lines.append(line)
            line, is_blank = later, True
        line += word if is_blank else f" {word}"
        is_blank = False
    return [*lines, line]
