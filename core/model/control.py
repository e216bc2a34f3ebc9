"""Control dependencies: orders between operators that no tensor shows, kept in a model's metadata.

Imports Model. All numbers in the content are base-128 integers, low bits first, a byte's high bit saying that
more follow; signed ones are zigzag-coded::

    content  = version (1), n_subgraphs, n_subgraphs edges
    edges    = n_edges, n_edges (signed operator, signed later operator)

Source: LiteRT, tflite/converter/experimental/remat/metadata_util.cc.
"""

from __future__ import annotations

from delegraph.core.errors import InvalidModel
from delegraph.core.model.model import Model

METADATA_NAME = "model_control_dependencies"
_VERSION = 1


def control_dependencies(model: Model) -> tuple[tuple[tuple[int, int], ...], ...]:
    """For each subgraph, pairs of operator indices of which the first must run before the second.

    Raises: InvalidModel if the metadata is cut short, or names subgraphs or operators that don't exist.
    """
    content = model.metadata.get(METADATA_NAME)
    if content is None:
        return tuple(() for _ in model.subgraphs)
    numbers = _Numbers(content.tobytes(), model.source)
    numbers.expect("version", numbers.next(), _VERSION, _VERSION + 1)
    n_subgraphs = numbers.next()
    numbers.expect("subgraphs", n_subgraphs, len(model.subgraphs), len(model.subgraphs) + 1)
    found = []
    for subgraph in model.subgraphs:
        n_operators = len(subgraph.operators or ())
        edges = []
        for _ in range(numbers.next()):
            edge = numbers.next_signed(), numbers.next_signed()
            for operator in edge:
                numbers.expect("operators", operator, 0, n_operators)
            edges.append(edge)
        found.append(tuple(edges))
    numbers.expect("end", numbers.at, len(content), len(content) + 1)
    return tuple(found)


class _Numbers:
    """The numbers in the content, one after the other."""

    def __init__(self, content: bytes, source: str) -> None:
        self.content, self.source = content, source
        self.at = 0

    def next(self) -> int:
        value = 0
        for shift in range(0, 35, 7):
            if self.at == len(self.content):
                raise self.error("end", "more bytes", f"{self.at}")
            byte = self.content[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise self.error("number", "a number of 32 bits", f"a longer one before byte {self.at}")

    def next_signed(self) -> int:
        value = self.next()
        return -(value + 1) // 2 if value % 2 else value // 2

    def expect(self, what: str, value: int, low: int, high: int) -> None:
        if not low <= value < high:
            raise self.error(what, f"a value in [{low}, {high})", str(value))

    def error(self, what: str, expected: str, found: str) -> InvalidModel:
        return InvalidModel(f"metadata[{METADATA_NAME!r}].{what}", expected, found, self.source)
