"""The TFLite FlatBuffer: bytes to Model and back.

``reader.read`` and ``writer.write`` are driven by ``schema_table``, which ``python -m tools.schema_table`` makes
from ``schema.fbs``: a new field of the format is one line there. Only the writer needs the flatbuffers package,
so it is imported where it is used.
"""

from delegraph.core.model.control import control_dependencies
from delegraph.core.model.external import external_data
from delegraph.core.model.model import Model, builtin_code
from delegraph.core.model.reader import read
from delegraph.core.model.table import Table

__all__ = ["Model", "Table", "builtin_code", "control_dependencies", "external_data", "read"]
