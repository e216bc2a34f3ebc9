"""Core's packs, lent to a C plug-in as ``dg_packs``. Imports structs, library."""

from __future__ import annotations

from typing import Any

import numpy as np

from delegraph.core.abi.native import structs
from delegraph.core.abi.native.library import code_number, text
from delegraph.core.abi.protocols import Packs
from delegraph.core.abi.values import DelegateError, ErrorCode
from delegraph.core.graph.graph import Array


class LentPacks:
    """found: what the plug-in was given, which has to outlive its use of it."""

    def __init__(self, packs: Packs) -> None:
        found: list[Array] = []

        def get(
            _self: int, name: bytes | None, fill: int | None, user: int | None, size: int, out: Any, out_size: Any
        ) -> int:
            """``dg_packs.get``. Nothing may leave it but a code."""
            try:
                make = None if not fill else lambda: _made(structs.Fill(fill), user, size)
                pack = packs.get(text(name), make)
                found.append(pack)
                out[0], out_size[0] = pack.ctypes.data, pack.nbytes
            except DelegateError as exc:
                return code_number(exc.code)
            except MemoryError:
                return code_number(ErrorCode.OUT_OF_MEMORY)
            except Exception:
                return code_number(ErrorCode.INTERNAL)
            return 0

        self.found = found
        self.struct = structs.Packs(get=structs.GetPack(get))


def _made(fill: Any, user: int | None, size: int) -> Array:
    memory = np.empty(size, np.uint8)
    code = fill(user, memory.ctypes.data, size)
    if code != 0:
        raise DelegateError("packs", ErrorCode.INTERNAL, f"the plug-in's fill returned {code}")
    return memory
