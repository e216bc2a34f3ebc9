"""The OpenCL delegate: segments as OpenCL C kernels, for GPUs and other OpenCL devices. Imports delegraph.core only.

Importing this package needs no pyopencl: only ``open`` does. The way of a segment: ``compiler`` asks each op's
``Lowering`` (``kernels/``) for launches, fuses elementwise chains, plans scratch memory and builds the program;
``artifact`` is the result as bytes; ``program`` loads and runs it.
"""

from delegraph.delegates.opencl.delegate import OpenClDelegate

__all__ = ["OpenClDelegate"]
