"""The Ethos-U rules against Arm's compiler, op by op on real models: ``pip install ethos-u-vela`` to run it.

Vela is asked as its compiler driver asks it, for each op of the main graph as the file has it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import shared_path

import delegraph as dg
from delegraph.core.devices import load
from delegraph.core.devices.capability import Capability
from delegraph.core.errors import DelegraphError
from delegraph.core.graph.build import build
from delegraph.core.ops import registry
from delegraph.core.ops.nodes import infer_op
from delegraph.core.ops.opdef import Node, TensorSpec

KNOWN = {"SHAPE"}
"""Ops that Vela takes and the profile leaves to the CPU: they are computed ahead of the run."""

pytestmark = pytest.mark.by_hand


def _models() -> list[Path]:
    return sorted((shared_path() / "models" / "real").glob("*.tflite"))


@pytest.fixture(scope="module")
def vela() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("ethosu.vela.vela", reason="needs ethos-u-vela")


@pytest.mark.parametrize("path", _models(), ids=lambda path: path.stem)
def test_ops_that_vela_takes(path: Path, vela: Any) -> None:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = _vela_answers(path)
    capability = Capability(load().profiles["ethos-u55-128"])
    different = []
    for node in _nodes(path):
        takes = capability.constraints(node.op.name) is not None and not capability.broken(node)
        if node.op.index in theirs and node.op.name not in KNOWN and takes != theirs[node.op.index][0]:
            different.append((node.place, takes, theirs[node.op.index][1]))
    assert different == []


def _nodes(path: Path) -> Iterator[Node]:
    """The ops whose shapes are known before the run."""
    graph = build(dg.load(path)).main
    specs: dict[int, TensorSpec] = {}
    for op in graph.ops:
        opdef = registry.find(op.name)
        if opdef is None or opdef.host:
            return
        try:
            node = infer_op(graph, op, opdef, specs)
        except DelegraphError:
            return
        if node is None:
            return
        yield node


def _vela_answers(path: Path) -> dict[int, tuple[bool, str]]:
    """Op index → whether Vela takes it, and what it says."""
    reader, op_module, semantics, rules = (
        importlib.import_module(f"ethosu.vela.{name}")
        for name in ("model_reader", "operation", "tflite_model_semantic", "tflite_supported_operators")
    )
    try:
        network, _ = reader.read_model(str(path), reader.ModelReaderOptions())
    except Exception as exc:  # it can't read every file: custom ops, sparse and 4-bit weights
        pytest.skip(f"Vela can't read it: {type(exc).__name__}")
    supported, semantic = rules.TFLiteSupportedOperators(), semantics.TFLiteSemantic()
    found = {}
    kinds = op_module.Op
    for op in network.subgraphs[0].get_all_ops():
        if op.type not in (kinds.Placeholder, kinds.SubgraphInput, kinds.Const):
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                takes = semantic.is_operator_semantic_valid(op) and supported.is_operator_supported(op)
            found[op.op_index] = (bool(takes), said.getvalue())
    return found
