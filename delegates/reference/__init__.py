"""The reference delegate: the OpDefs' NumPy kernels behind the ABI. Imports delegraph.core only."""

from delegraph.delegates.reference.delegate import ReferenceDelegate

__all__ = ["ReferenceDelegate"]
