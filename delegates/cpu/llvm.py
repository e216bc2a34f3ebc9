"""LLVM through llvmlite: IR text → image. Imported only to compile; what is loaded needs none of it.

No IR passes run: kernels are written as they are to be (facts-cpu.md §6). llvmlite is not thread-safe in all its
parts and holds a lock of its own in the rest, so compilations take turns.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

from delegraph.core.forks import RenewedLock
from delegraph.delegates.cpu.isa import Target
from delegraph.delegates.cpu.relocate import Image, link

_TRIPLE = "x86_64-unknown-linux-gnu"
_guard = RenewedLock()


def is_present() -> bool:
    """Whether llvmlite is installed; does not import it."""
    try:
        return importlib.util.find_spec("llvmlite") is not None
    except (ImportError, ValueError):
        return False


@functools.cache
def _binding() -> Any:
    import llvmlite.binding as binding

    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    return binding


@functools.cache
def _machine(target: Target) -> Any:
    """The target machine; making one takes longer than using it."""
    return (
        _binding()
        .Target.from_triple(_TRIPLE)
        .create_target_machine(
            cpu=target.llvm_cpu, features=target.llvm_features, opt=2, reloc="pic", codemodel="small"
        )
    )


def versions() -> str:
    """llvmlite's and LLVM's versions."""
    import llvmlite

    return f"llvmlite {llvmlite.__version__}, LLVM {'.'.join(map(str, _binding().llvm_version_info))}"


def compile_image(text: str, target: Target, *, verify: bool = False) -> Image:
    """The image of a module. verify: let LLVM check the module's rules first (for tests).

    Raises:
        RuntimeError: the text is no valid IR.
        RelocationError: the code needs something from outside.
    """
    with _guard.lock:
        module = _binding().parse_assembly(text)
        if verify:
            module.verify()
        return link(_machine(target).emit_object(module))


def assembly(text: str, target: Target) -> str:
    """The machine code of a module as text, for looking at it and for tests that count spills."""
    with _guard.lock:
        return str(_machine(target).emit_assembly(_binding().parse_assembly(text)))
