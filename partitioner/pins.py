"""Pins: which device the user wants for which ops. Imports delegraph.core up to ops.

A pin's key names ops of the main graph, or of graph G with ``G:`` in front: an index ("12"), a range ("3-17", both ends
included), or the name of an operator ("CONV_2D"). Of several pins that name an op, the last one counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from delegraph.core.errors import InvalidArgument
from delegraph.core.graph.graph import GraphSet

_KEY = re.compile(r"(?:(?P<graph>\d+):)?(?:(?P<first>\d+)(?:-(?P<last>\d+))?|(?P<name>[A-Za-z_]\w*))")


@dataclass(frozen=True, slots=True)
class Pins:
    """(graph, op) → device id."""

    devices: Mapping[tuple[int, int], str]


def parse_pins(pins: Mapping[str | int, str] | Mapping[str, str] | Mapping[int, str], graphs: GraphSet) -> Pins:
    """Pins by key, resolved against the model's ops.

    Raises:
        InvalidArgument: a key that is no index, range or operator name, or names no op of the model.
    """
    found: dict[tuple[int, int], str] = {}
    for key, device in pins.items():
        match = _KEY.fullmatch(str(key))
        if match is None:
            raise InvalidArgument("pin", "an op's index, a range such as 3-17, or an operator's name", repr(key))
        index = int(match["graph"] or 0)
        ops = graphs.graphs[index].all_ops if index < len(graphs.graphs) else ()
        if match["name"]:
            chosen = [op.index for op in ops if op.name == match["name"]]
        else:
            first, last = int(match["first"]), int(match["last"] or match["first"])
            chosen = [op.index for op in ops if first <= op.index <= last]
        if not chosen:
            raise InvalidArgument(
                "pin", f"ops of {graphs.source}", f"none that {key!r} names", "see: delegraph inspect MODEL --ops"
            )
        found.update(((index, op), device) for op in chosen)
    return Pins(found)
