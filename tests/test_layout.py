"""The layout: real folders at the top, one import package, and who may import whom."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKS = ("core", "delegates", "partitioner", "devices.yaml")
CORE_ORDER = ("model", "graph", "ops", "abi", "devices", "runtime")
FREE = ("delegraph.core.errors", "delegraph.core.forks", "delegraph.core.version")


@pytest.mark.parametrize("name", LINKS)
def test_links_lead_to_the_real_folders(name: str) -> None:
    link = ROOT / "src" / "delegraph" / name
    assert link.is_symlink()
    assert link.readlink() == Path("../..") / name


@pytest.mark.parametrize("name", ["core", "delegates", "partitioner"])
def test_folders_refuse_to_be_imported_under_their_own_name(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True)
    assert f"import delegraph.{name}, not {name}" in done.stderr


def _modules() -> list[tuple[str, Path]]:
    found = []
    for folder in ("core", "delegates", "partitioner"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found.append((".".join(("delegraph", *parts)), path))
    return found


def _imports(path: Path) -> set[str]:
    """Every delegraph module that a file imports, at the top or inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "delegraph"}


def allowed(importer: str, imported: str) -> bool:
    """The import rules of ARCHITECTURE.md."""
    if imported in FREE or any(imported.startswith(f"{name}.") for name in FREE) or imported == "delegraph.core":
        return True
    own, other = importer.split("."), imported.split(".")
    if other[1] == "core" and other[2] in CORE_ORDER:
        if own[1] == "core":
            return len(own) > 2 and CORE_ORDER.index(other[2]) <= CORE_ORDER.index(own[2])
        if own[1] == "partitioner":
            return CORE_ORDER.index(other[2]) <= CORE_ORDER.index("devices")
        return own[1] == "delegates"
    if own[1] == "delegates":
        return other[1] == "delegates" and (len(own) < 3 or other[2:3] == own[2:3])
    return own[1] == "partitioner" and other[1] == "partitioner"


@pytest.mark.parametrize(("module", "path"), _modules(), ids=lambda v: v if isinstance(v, str) else "")
def test_imports_keep_to_the_rules(module: str, path: Path) -> None:
    broken = sorted(name for name in _imports(path) if not allowed(module, name))
    assert not broken, f"{module} may not import {broken}"


def test_the_rules_can_say_no() -> None:
    assert not allowed("delegraph.core.graph.graph", "delegraph.core.ops.opdef")
    assert not allowed("delegraph.core.ops.opdef", "delegraph.core.runtime.plan")
    assert not allowed("delegraph.core.model.reader", "delegraph.api")
    assert not allowed("delegraph.delegates.reference.delegate", "delegraph.delegates.cpu")
    assert not allowed("delegraph.delegates.reference.delegate", "delegraph.partitioner.placement")
    assert not allowed("delegraph.partitioner.placement", "delegraph.core.runtime.plan")
    assert allowed("delegraph.partitioner.placement", "delegraph.core.abi.values")
    assert allowed("delegraph.delegates.reference", "delegraph.delegates.reference.delegate")


def test_every_module_says_what_it_is_for() -> None:
    silent = [str(path) for _, path in _modules() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent


def test_import_is_light() -> None:
    """``import delegraph`` pulls in numpy and little else."""
    code = "import sys, delegraph; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    heavy = {
        "flatbuffers", "yaml", "rich", "click", "PIL", "jsonschema", "llvmlite", "pyopencl", "ai_edge_litert",
        "filelock", "scipy", "platformdirs", "xxhash", "highspy",
    }  # fmt: skip
    assert not heavy & set(done.stdout.split())


def test_public_names() -> None:
    import delegraph as dg

    wanted = {
        "CompiledModel", "DelegraphError", "Interpreter", "InvalidModel", "OpDef", "UnsupportedOp", "__version__",
        "compile", "devices", "load", "register_op",
    }  # fmt: skip
    assert wanted <= set(dg.__all__)
    assert all(hasattr(dg, name) for name in dg.__all__)
