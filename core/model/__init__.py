"""The TFLite FlatBuffer: bytes to Model and back.

``read`` and ``write`` are driven by ``schema_table``, which ``python -m tools.schema_table`` makes from
``schema.fbs``: a new field of the format is one line there.
"""

from __future__ import annotations

from delegraph.core.model.control import control_dependencies
from delegraph.core.model.external import external_data
from delegraph.core.model.model import Model, builtin_code
from delegraph.core.model.reader import read
from delegraph.core.model.table import Table
from delegraph.core.model.writer import write, write_file

__all__ = [
    "Model",
    "Table",
    "builtin_code",
    "control_dependencies",
    "external_data",
    "read",
    "write",
    "write_file",
]
