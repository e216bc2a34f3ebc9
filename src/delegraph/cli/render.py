"""Output: tables and notes, plain text when piped and rich on a terminal. Nothing is ever cut to a width when piped."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def is_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def plain(text: object) -> str:
    """Text from a file, fit for a terminal: control characters (which could move the cursor) are spelled out."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], str(text))


def note(text: str) -> None:
    """A remark on stderr: what was decided for the user."""
    print(f"note: {plain(text)}", file=sys.stderr)


def warn(text: str) -> None:
    """A remark on stderr: something that may make the answer wrong."""
    print(f"warning: {plain(text)}", file=sys.stderr)


def show_progress() -> None:
    """From now on, what takes its time is a remark on stderr, as the library tells its log."""
    import logging

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            note(record.getMessage())

    logger = logging.getLogger("delegraph.progress")
    logger.setLevel(logging.INFO)
    logger.handlers[:] = [Notes()]


def line(text: str = "") -> None:
    print(plain(text))


def heading(text: str) -> None:
    """A line that introduces a table."""
    if is_terminal():
        from rich.console import Console
        from rich.text import Text

        Console().print(Text(plain(text), style="bold"))
    else:
        print(plain(text))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """A table on stdout. right: columns to align right (numbers). Empty cells are shown as ``-``."""
    cells = [[plain(cell) if cell not in (None, "") else "-" for cell in row] for row in rows]
    if is_terminal():
        _rich_table(columns, cells, right)
        return
    widths = [max(len(row[i]) for row in ([*columns], *cells)) for i in range(len(columns))]
    for row in ([*columns], *cells):
        shown = (
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(columns, row, widths, strict=True)
        )
        print("  ".join(shown).rstrip())


def _rich_table(columns: Sequence[str], cells: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        shown.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in cells:
        shown.add_row(*map(Text, row))
    Console().print(shown)


def pairs(items: Sequence[tuple[str, object]]) -> None:
    """Names with their values, one a line; those without a value are left out."""
    known = [(name, value) for name, value in items if value not in (None, "")]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        print(f"{name.ljust(width)}  {plain(value)}")


def write_json(value: Any) -> None:
    """The one JSON value of ``--json``. Numbers that JSON lacks (NaN, infinity) become null."""
    print(json_text(value))


def json_text(value: Any) -> str:
    return json.dumps(_clean(value), indent=2, allow_nan=False)


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, complex):
        return [_clean(value.real), _clean(value.imag)]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value


@contextmanager
def status(text: str) -> Iterator[None]:
    """A spinner on stderr while something takes its time; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(escape(plain(text))):
        yield


def size(n_bytes: int) -> str:
    """Bytes in words: ``3.4 MiB``."""
    value = float(n_bytes)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def count(n: int) -> str:
    """A large number in words: ``299.6 M``."""
    value = float(n)
    for unit in ("", " k", " M"):
        if value < 1000:
            return f"{value:.0f}" if not unit else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:.1f} G"


def number(value: float) -> str:
    """A measured value with four digits that count."""
    return f"{value:.4g}"


def shape(dims: Sequence[int]) -> str:
    return f"[{','.join('?' if n < 0 else str(n) for n in dims)}]"
