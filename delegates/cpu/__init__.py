"""The CPU delegate: segments as native code for this machine's vector unit. Imports delegraph.core only.

The way of a segment: ``ops`` lower its nodes to commands (``lower``), ``kernels`` make the code of each in LLVM IR
(``ir``), ``llvm`` compiles it, ``relocate`` makes a flat image of it, ``artifact`` writes it down; ``program`` runs it.
"""

from delegraph.delegates.cpu.delegate import CpuDelegate

__all__ = ["CpuDelegate"]
