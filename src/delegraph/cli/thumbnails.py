"""Small grey pictures in the terminal, several side by side, each with lines of text under it.

Where there are colours, a character cell shows two pixels, one above the other ("▀" in two greys); elsewhere two
characters show one pixel, as dark as they can. The text is never longer than 80 columns unless a caption is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from delegraph.cli import render
from delegraph.core.graph.graph import Array

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

WIDTH = 80
_INDENT, _GAP = 2, 3
_SHADES = " ░▒▓█"
_ASCII_SHADES = " .:-=+*#%@"
_HALF = "▀"
_BLACK, _WHITE = 20, 255


@dataclass(frozen=True)
class Thumbnail:
    """pixels: float [H, W] in 0..1, H even. caption: lines under it. style: of the caption, as rich names it."""

    pixels: Array
    caption: tuple[str, ...]
    style: str = ""


def show(thumbnails: Sequence[Thumbnail]) -> None:
    """Prints the pictures, as many in a line as fit."""
    console = _colour_console()
    if console is None:
        for line in plain_lines(thumbnails, _SHADES if can_print(_SHADES) else _ASCII_SHADES):
            print(line)
        return
    for text in _colour_lines(thumbnails):
        console.print(text, no_wrap=True, overflow="ignore", crop=False)


def can_print(text: str) -> bool:
    """Whether stdout's encoding has these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def plain_lines(thumbnails: Sequence[Thumbnail], shades: str) -> Iterator[str]:
    """The pictures without colours. shades: characters from black to white."""
    for row in _rows(thumbnails, pixel_width=2):
        blocks = [[*_shaded(each.pixels, shades), *each.caption] for each in row]
        width = max(len(line) for block in blocks for line in block)
        for cells in zip_longest(*blocks, fillvalue=""):
            yield (" " * _INDENT + (" " * _GAP).join(f"{cell:^{width}}" for cell in cells)).rstrip()
        yield ""


def _shaded(pixels: Array, shades: str) -> list[str]:
    levels = np.rint(pixels * (len(shades) - 1)).astype(int)
    return ["".join(shades[level] * 2 for level in line) for line in levels]


def _rows(thumbnails: Sequence[Thumbnail], pixel_width: int) -> Iterator[Sequence[Thumbnail]]:
    """The pictures in rows of about the same length."""
    width = max(max(pixel_width * each.pixels.shape[1], *(len(line) for line in each.caption)) for each in thumbnails)
    fit = max(1, (WIDTH - _INDENT + _GAP) // (width + _GAP))
    n_rows = -(-len(thumbnails) // fit)
    per_row = -(-len(thumbnails) // n_rows)
    for start in range(0, len(thumbnails), per_row):
        yield thumbnails[start : start + per_row]


def _colour_console() -> Console | None:
    """Where to print in colours; None if stdout has none."""
    if not render.is_terminal() or not can_print(_HALF):
        return None
    from rich.console import Console

    console = Console(highlight=False)
    return None if console.color_system is None or console.no_color else console


def _colour_lines(thumbnails: Sequence[Thumbnail]) -> Iterator[Text]:
    from rich.text import Text

    for row in _rows(thumbnails, pixel_width=1):
        blocks = [[*_halves(each.pixels), *(Text(line, each.style) for line in each.caption)] for each in row]
        width = max(line.cell_len for block in blocks for line in block)
        for cells in zip_longest(*blocks, fillvalue=Text()):
            line = Text(" " * _INDENT)
            for cell in cells:
                left = (width - cell.cell_len) // 2
                line = line + Text(" " * left) + cell + Text(" " * (width - left - cell.cell_len + _GAP))
            yield line
        yield Text()


def _halves(pixels: Array) -> Iterator[Text]:
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    grey = np.rint(_BLACK + pixels * (_WHITE - _BLACK)).astype(int)
    for upper, lower in zip(grey[::2], grey[1::2], strict=True):
        text = Text()
        for u, v in zip(upper.tolist(), lower.tolist(), strict=True):
            text.append(_HALF, Style(color=Color.from_rgb(u, u, u), bgcolor=Color.from_rgb(v, v, v)))
        yield text
