"""Delegates in a child process: a crash there is a failing device here, and no more. Imports core.abi.

``IsolatedDelegate(spec, options)`` is a Delegate like others. ``process`` holds the child (start, calls, death),
``wire`` the messages, ``memory`` the shared memory of tensors, ``encoding`` the values in JSON, ``child`` the other
end.

The child is trusted less than we are. Nothing that it sends is executed or unpickled: a message is JSON and bytes, each
field is checked when it is read, and memory that both map is ours and can't be resized by it. It runs with our rights,
though: this protects against bugs, not against malice.
"""

from delegraph.core.abi.native.isolation.delegate import IsolatedDelegate
from delegraph.core.abi.native.isolation.process import Patience

__all__ = ["IsolatedDelegate", "Patience"]
