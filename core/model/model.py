"""A model: the root table of a TFLite file, and the few things everybody asks it.

Imports Table and the generated schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from delegraph.core.model.schema_table import ENUMS
from delegraph.core.model.table import Table

_BUILTIN_NAMES = {code: name for name, code in ENUMS["BuiltinOperator"].items()}
_CUSTOM = ENUMS["BuiltinOperator"]["CUSTOM"]


@dataclass(frozen=True, eq=False)
class Model:
    """A TFLite model as an immutable value; equal to another if their root tables are.

    Attributes:
        root: the schema's ``Model`` table. Constants in it may be views on a mapped file, which stays mapped
            while any of them lives.
        source: the file's name as the caller wrote it, or "model"; for messages.
        directory: where files of external buffers lie; None for a model that was not read from a file.
    """

    root: Table
    source: str = "model"
    directory: Path | None = None

    def __eq__(self, other: object) -> bool:
        return self.root == other.root if isinstance(other, Model) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # holds arrays

    def __repr__(self) -> str:
        return f"Model({self.source!r}, {len(self.subgraphs)} subgraphs, {len(self.buffers)} buffers)"

    @property
    def subgraphs(self) -> tuple[Table, ...]:
        """The ``SubGraph`` tables; the first is the main one."""
        return self.root.subgraphs or ()

    @property
    def operator_codes(self) -> tuple[Table, ...]:
        """The ``OperatorCode`` tables that ``Operator.opcode_index`` counts in."""
        return self.root.operator_codes or ()

    @property
    def buffers(self) -> tuple[Table, ...]:
        """The ``Buffer`` tables that tensors and metadata count in."""
        return self.root.buffers or ()

    @property
    def signatures(self) -> tuple[Table, ...]:
        """The ``SignatureDef`` tables."""
        return self.root.signature_defs or ()

    @property
    def metadata(self) -> dict[str, np.ndarray]:
        """Metadata by name, as read-only bytes; of entries with one name, the first."""
        found: dict[str, np.ndarray] = {}
        for entry in self.root.metadata or ():
            data = self.buffers[entry.buffer].data
            found.setdefault(entry.name or "", _NO_BYTES if data is None else data)
        return found

    def buffer_data(self, index: int) -> np.ndarray | None:
        """The bytes of a buffer, read-only uint8, or None if it has none (a tensor of it is no constant).

        Buffer 0 stands for "no data" whatever it holds. An empty array is a constant without elements.
        Where the array starts is up to the file: usually, not surely, on a multiple of 16.
        """
        data: np.ndarray | None = self.buffers[index].data if index else None
        return data

    def builtin_code(self, operator: Table) -> int:
        """The operator's code in the enum ``BuiltinOperator``; newer than the schema if not in it."""
        return builtin_code(self.operator_codes[operator.opcode_index])

    def op_name(self, operator: Table) -> str:
        """The operator's name: "CONV_2D", a custom op's own name, or "BUILTIN_300" if the schema is older."""
        code = self.operator_codes[operator.opcode_index]
        number = builtin_code(code)
        if number == _CUSTOM and code.custom_code:
            return str(code.custom_code)
        return _BUILTIN_NAMES.get(number) or f"BUILTIN_{number}"


def builtin_code(code: Table) -> int:
    """The builtin operator that an ``OperatorCode`` table names.

    Older files fill only the one-byte field; newer ones write 127 there for codes that it can't hold.
    Source: schema.fbs of TFLite, table OperatorCode.
    """
    return max(int(code.builtin_code), int(code.deprecated_builtin_code))


_NO_BYTES = np.empty(0, np.uint8)
_NO_BYTES.flags.writeable = False
