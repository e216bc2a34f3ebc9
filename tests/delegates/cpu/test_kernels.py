"""Kernels by being registered: valid IR for every target, nothing from outside, names that can be read."""

from __future__ import annotations

import re

import pytest

from delegraph.delegates.cpu import isa, llvm
from delegraph.delegates.cpu.isa import Target
from delegraph.delegates.cpu.kernels.kernel import kernel_name
from delegraph.delegates.cpu.kernels.registry import FAMILIES, all_kernels
from delegraph.delegates.cpu.program_text import ENTRY, join
from delegraph.delegates.cpu.relocate import RelocationError, link

pytest.importorskip("llvmlite")

NAME = re.compile(r"[a-z0-9_]+_[a-z0-9]+_[a-z0-9]+_[0-9a-f]{8}__[a-z0-9]+")


@pytest.mark.parametrize("target", isa.TARGETS, ids=lambda t: t.name)
def test_every_kernel_compiles_for_every_target(target: Target) -> None:
    """Also for targets that this machine lacks: LLVM needs no such CPU to make code for it."""
    kernels = all_kernels(target)
    functions = [kernel.build(kernel_name(kernel, target), target) for kernel in kernels]
    assert len({f.name for f in functions}) == len(functions)
    image = llvm.compile_image(join(functions).replace("define internal", "define dso_local"), target, verify=True)
    assert set(image.symbols) == {f.name for f in functions}


def test_names_decode() -> None:
    target = isa.TARGETS[0]
    names = [kernel_name(kernel, target) for kernel in all_kernels(target)]
    assert [name for name in names if not NAME.fullmatch(name)] == []


def test_every_family_has_an_example_on_every_target() -> None:
    for target in isa.TARGETS:
        assert [f.kind.__name__ for f in FAMILIES if not f.examples_for(target)] == []


@pytest.mark.parametrize(
    ("outside", "body", "message"),
    [
        ("declare float @expf(float)", "  call float @expf(float 0.0)", "found 'expf' from outside"),
        ("@state = internal global i32 7", "  store i32 1, ptr @state", "expected read-only data, found writable"),
    ],
)
def test_code_that_needs_more_than_itself_is_refused(outside: str, body: str, message: str) -> None:
    text = f"{outside}\ndefine dso_local void @{ENTRY}(ptr %context) {{\n{body}\n  ret void\n}}\n"
    with pytest.raises(RelocationError, match=message):
        llvm.compile_image(text, isa.TARGETS[-1])


@pytest.mark.parametrize("data", [b"", b"\x7fELF" + bytes(100), b"\x7fELF\x02\x01" + bytes(80)])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(RelocationError):
        link(data)
