"""delegraph: a hardware-accelerator delegate framework for TensorFlow Lite models.

>>> import delegraph as dg
>>> m = dg.compile("mobilenet_v2.tflite")            # doctest: +SKIP
>>> y = m(image)                                     # doctest: +SKIP
>>> print(m.placement)                               # doctest: +SKIP
"""

from delegraph.api import compile, explain, load
from delegraph.compiled import CompiledModel
from delegraph.core.abi.values import DelegateError
from delegraph.core.errors import (
    CustomOpError,
    DataError,
    DelegraphError,
    InternalError,
    InvalidArgument,
    InvalidDevices,
    InvalidModel,
    NoEnergyModel,
    OutOfMemory,
    UnsupportedOp,
)
from delegraph.core.ops.opdef import OpDef
from delegraph.core.ops.registry import register_op
from delegraph.core.version import __version__
from delegraph.interpreter import Interpreter, OpResolverType
from delegraph.partitioner.placement import Placement
from delegraph.plugins import load_delegate
from delegraph.registry import device, devices

__all__ = [
    "CompiledModel",
    "CustomOpError",
    "DataError",
    "DelegateError",
    "DelegraphError",
    "InternalError",
    "Interpreter",
    "InvalidArgument",
    "InvalidDevices",
    "InvalidModel",
    "NoEnergyModel",
    "OpDef",
    "OpResolverType",
    "OutOfMemory",
    "Placement",
    "UnsupportedOp",
    "__version__",
    "compile",
    "device",
    "devices",
    "explain",
    "load",
    "load_delegate",
    "register_op",
]
