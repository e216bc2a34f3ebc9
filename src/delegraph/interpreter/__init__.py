"""A drop-in for ``tflite_runtime.interpreter``, ``ai_edge_litert.interpreter`` and ``tf.lite``'s Interpreter.

The same script on both gives the same: methods, argument names, dictionaries, exception types and the first sentence
of messages. docs/interpreter.md lists what differs on purpose. Source of the behaviour: tflite/python/interpreter.py,
interpreter_wrapper.cc, numpy.cc and core/subgraph.cc (LiteRT 2.3.0), probed.
"""

from delegraph.interpreter._delegates import load_delegate
from delegraph.interpreter._interpreter import Interpreter, OpResolverType
from delegraph.interpreter._signature import SignatureRunner

__all__ = ["Interpreter", "OpResolverType", "SignatureRunner", "load_delegate"]
