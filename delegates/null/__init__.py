"""Delegate "null": the skeleton to copy. See ``delegate`` for how."""

from delegraph.delegates.null.delegate import NullDelegate

__all__ = ["NullDelegate"]
