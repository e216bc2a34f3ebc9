"""Output: tables and notes, plain text when piped, folded and with a spinner on a terminal. Nothing is ever cut off."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from delegraph.cli import layout

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
    """A line on stdout. On a terminal a long one folds between words, as far in as it starts."""
    inside = text.lstrip()
    paragraph(text[: len(text) - len(inside)], inside)


def paragraph(start: str, text: str) -> None:
    """A line as ``line`` has it; where it folds, further lines begin below the text, behind ``start``."""
    start, text = plain(start), plain(text)
    folded = layout.folded(text, _width(), first=start, later=" " * len(start)) if is_terminal() else [start + text]
    for each in folded:
        print(each)


def heading(text: str) -> None:
    """A line that introduces a table."""
    if is_terminal():
        from rich.console import Console
        from rich.text import Text

        Console().print(Text(plain(text), style="bold"))
    else:
        print(plain(text))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """A table on stdout. right: columns to align right (numbers). Empty cells are shown as ``-``.

    A cell that is a tuple has several parts: lines on a terminal, else joined by semicolons. A terminal's table folds
    to its width, and leaves out columns without a value; piped, a row is a line, and the columns are always the same.
    """
    cells = [[_parts(cell) for cell in row] for row in rows]
    if is_terminal():
        _table_on_terminal(columns, cells, right)
        return
    texts = [["; ".join(parts) for parts in row] for row in cells]
    widths = [max(len(row[i]) for row in ([*columns], *texts)) for i in range(len(columns))]
    for row in ([*columns], *texts):
        shown = (
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(columns, row, widths, strict=True)
        )
        print("  ".join(shown).rstrip())


def fits(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> bool:
    """Whether a table's rows are lines: always when piped, on a terminal if it is wide enough."""
    return not is_terminal() or layout.fits(columns, [[_parts(cell) for cell in row] for row in rows], _width())


def _parts(cell: object) -> tuple[str, ...]:
    found = cell if isinstance(cell, tuple) else (cell,)
    return tuple(plain(part) for part in found if part not in (None, "")) or (layout.NOTHING,)


def _table_on_terminal(columns: Sequence[str], cells: Sequence[Sequence[Sequence[str]]], right: Sequence[str]) -> None:
    from rich.console import Console
    from rich.text import Text

    head, lines = layout.table_lines(columns, cells, right, _width())
    console = Console()
    for text in head:
        console.print(Text(text, style="bold"), soft_wrap=True)
    print("─" * min(max(map(layout.cell_width, (*head, *lines))), _width()))
    for text in lines:
        print(text)


def _width() -> int:
    """The terminal's, in columns."""
    return shutil.get_terminal_size().columns


def pairs(items: Sequence[tuple[str, object]], *, indent: int = 0) -> None:
    """Names with their values, one a line; those without a value are left out."""
    known = [(name, value) for name, value in items if value not in (None, "")]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        paragraph(f"{' ' * indent}{plain(name).ljust(width)}  ", str(value))


def counted(n: int, what: str) -> str:
    """A number of things: ``1 op``, ``2 ops``."""
    return f"{n} {what}" + ("" if n == 1 else "s")


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


def rate(per_second: float) -> str:
    """What a device does in a second, in billions, with three digits that count: ``39.9 G``."""
    value = per_second / 1e9
    digits = 0 if value < 1e-9 else max(0, 2 - math.floor(math.log10(value)))
    return f"{value:.{digits}f} G"


def shape(dims: Sequence[int]) -> str:
    return f"[{','.join('?' if n < 0 else str(n) for n in dims)}]"
