"""A broken rule on its way out of the reader, gathering the path of its place."""

from __future__ import annotations


class Malformed(Exception):
    """What was expected and found; each level it passes through puts its step in front of the place.

    So that places cost nothing where nothing is wrong, which is nearly everywhere.
    """

    def __init__(self, expected: str, found: object, place: str = "") -> None:
        self.expected, self.found, self.place = expected, str(found), place

    def under(self, step: str) -> Malformed:
        """This, one level further out: step is ``.name`` or ``[index]``."""
        self.place = step + self.place
        return self
