"""The C header: compiles as C99 and C++, and the loader's structs are its structs."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pytest
from tests.delegates.native.compiler import INCLUDE, STRICT, compiler, run

from delegraph.core.abi import ABI_VERSION
from delegraph.core.abi.native import structs

HEADER = INCLUDE / "delegraph_delegate.h"
STRUCTS = {
    "dg_error": structs.Error,
    "dg_option": structs.Option,
    "dg_device_info": structs.DeviceInfo,
    "dg_device_list": structs.DeviceList,
    "dg_constant": structs.Constant,
    "dg_tensor": structs.Tensor,
    "dg_node": structs.Node,
    "dg_graph": structs.Graph,
    "dg_segment": structs.Segment,
    "dg_support": structs.Support,
    "dg_answers": structs.Answers,
    "dg_artifact": structs.Artifact,
    "dg_packs": structs.Packs,
    "dg_buffer": structs.Buffer,
    "dg_host_api": structs.HostApi,
    "dg_delegate_api": structs.DelegateApi,
}


@pytest.mark.parametrize(("language", "flags"), [("c", STRICT), ("c++", ("-std=c++11", *STRICT[1:]))])
def test_header_compiles_without_warnings(language: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    source = tmp_path / f"use.{'c' if language == 'c' else 'cc'}"
    source.write_text(
        '#include "delegraph_delegate.h"\n#include "delegraph_delegate.h"\nint main(void) { return 0; }\n'
    )
    run(*compiler(language), *flags, f"-I{INCLUDE}", str(source), "-o", str(tmp_path / "use"))


def test_sizes_and_offsets_are_the_compilers(tmp_path: Path) -> None:
    fields = [(name, field[0]) for name, kind in STRUCTS.items() for field in kind._fields_]
    lines = [f'printf("{name} %u\\n", (unsigned)sizeof({name}));' for name in STRUCTS]
    lines += [f'printf("{s}.{f} %u\\n", (unsigned)offsetof({s}, {f}));' for s, f in fields]
    source = tmp_path / "sizes.c"
    body = "\n".join(lines)
    source.write_text(f'#include "delegraph_delegate.h"\n#include <stdio.h>\nint main(void) {{ {body} return 0; }}\n')
    run(*compiler(), *STRICT, f"-I{INCLUDE}", str(source), "-o", str(tmp_path / "sizes"))
    found = dict(line.split() for line in run(str(tmp_path / "sizes")).splitlines())
    ours = {name: str(ctypes.sizeof(kind)) for name, kind in STRUCTS.items()}
    ours |= {f"{s}.{f}": str(getattr(STRUCTS[s], f).offset) for s, f in fields}
    assert found == ours


def test_every_struct_of_the_header_is_known() -> None:
    text = HEADER.read_text()
    assert set(re.findall(r"^typedef struct (\w+) \{", text, re.MULTILINE)) == set(STRUCTS)
    for name, kind in STRUCTS.items():
        start = text.index(f"typedef struct {name} {{")
        body = re.sub(r"/\*.*?\*/", "", text[start : text.index(f"}} {name};", start)], flags=re.DOTALL)
        missing = [field[0] for field in kind._fields_ if not re.search(rf"\W{field[0]}\W", body)]
        assert not missing, f"{name} of the header lacks {missing}"
        assert body.count(";") == len(kind._fields_), name


def test_version_is_pythons() -> None:
    numbers = re.findall(r"#define DG_ABI_(?:MAJOR|MINOR) (\d+)u", HEADER.read_text())
    assert tuple(map(int, numbers)) == (structs.ABI_MAJOR, structs.ABI_MINOR) == ABI_VERSION
