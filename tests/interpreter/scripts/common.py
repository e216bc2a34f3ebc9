"""What the scripts share. Imports nothing of delegraph.

A script takes the module (``m.Interpreter``, ...), the models and a transcript ``t``: ``t(function, ...)`` calls and
takes down what comes back, ``t.note(value)`` takes down a value.
"""

from __future__ import annotations

from typing import Any

import numpy as np

F = np.float32


def make(m: Any, path: str, **options: Any) -> Any:
    return m.Interpreter(model_path=path, **options)


def ready(m: Any, path: str, **options: Any) -> Any:
    interpreter = m.Interpreter(model_path=path, **options)
    interpreter.allocate_tensors()
    return interpreter


def describe(i: Any, t: Any) -> None:
    """All that can be asked of a model before it is allocated."""
    t(i.get_input_details)
    t(i.get_output_details)
    t(i.get_tensor_details)
    t(i._get_ops_details)
    t(i.num_subgraphs)
    t(i.get_signature_list)
    t(i._get_full_signature_list)
    for index in range(1, i.num_subgraphs()):
        t(i.get_tensor_details, index)


def counted(shape: Any, dtype: Any = np.float32) -> Any:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)
