"""Fuzz compilation and a run: ``python -m tools.fuzz_compile --seconds N [--seed S] MODEL ...``.

Small models are damaged where the reader can't object: numbers in options, shapes, types, constants and the order of
operands change within the rules of the file. Whatever comes of it has to be a result or a DelegraphError; anything else
is printed with the seed that repeats it.
"""

from __future__ import annotations

import argparse
import resource
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

import delegraph as dg
from delegraph.core.model.model import Model
from delegraph.core.model.table import Table
from delegraph.core.model.writer import write

MEMORY_BYTES = 6 << 30


def mutate(model: Model, rng: np.random.Generator) -> Model:
    """The model with one to three things changed in its main graph."""
    root = model.root
    for _ in range(int(rng.integers(1, 4))):
        graph = root.subgraphs[0]
        if rng.random() < 0.5:
            changed = _replace_one(graph, "tensors", rng, _mutate_tensor)
        else:
            changed = _replace_one(graph, "operators", rng, _mutate_operator)
        root = root.replace(subgraphs=(changed, *root.subgraphs[1:]))
        if rng.random() < 0.2:
            root = _replace_one(root, "buffers", rng, _mutate_buffer)
    return Model(root, model.source)


def _replace_one(table: Table, field: str, rng: np.random.Generator, change: Any) -> Table:
    rows = list(getattr(table, field) or ())
    if not rows:
        return table
    i = int(rng.integers(len(rows)))
    rows[i] = change(rows[i], rng, table)
    return table.replace(**{field: tuple(rows)})


def _number(rng: np.random.Generator) -> int:
    return int(rng.choice([-1, 0, 1, 2, 3, 5, 7, 31, 32, 127, 255, 1000, 65535, 2**31 - 1, -(2**31)]))


def _mutate_tensor(tensor: Table, rng: np.random.Generator, graph: Table) -> Table:
    kind = rng.integers(4)
    if kind == 0 and tensor.shape is not None and len(tensor.shape):
        shape = np.array(tensor.shape)
        shape[rng.integers(len(shape))] = abs(_number(rng)) % 300
        return tensor.replace(shape=shape, buffer=tensor.buffer if rng.random() < 0.3 else 0)
    if kind == 1:
        return tensor.replace(type=int(rng.integers(0, 23)))
    if kind == 2 and tensor.shape is not None:
        return tensor.replace(shape=np.array(tensor.shape)[: int(rng.integers(0, len(tensor.shape) + 1))])
    if tensor.quantization is not None and tensor.quantization.scale is not None:
        scale = np.array(tensor.quantization.scale) * np.float32(10.0 ** rng.integers(-30, 30))
        return tensor.replace(quantization=tensor.quantization.replace(scale=scale))
    return tensor.replace(quantization=None)


def _mutate_operator(operator: Table, rng: np.random.Generator, graph: Table) -> Table:
    options = operator.builtin_options
    if options is not None and rng.random() < 0.6:
        names = [name for name, value in options if isinstance(value, int) and not isinstance(value, bool)]
        if names:
            name = str(rng.choice(names))
            if "subgraph" not in name:
                try:
                    return operator.replace(builtin_options=options.replace(**{name: _number(rng)}))
                except dg.DelegraphError:
                    return operator
    field = "inputs" if rng.random() < 0.8 else "outputs"
    tensors = getattr(operator, field)
    if tensors is None or not len(tensors):
        return operator
    tensors = np.array(tensors)
    if rng.random() < 0.4:
        return operator.replace(**{field: tensors[:-1]})
    tensors[rng.integers(len(tensors))] = rng.integers(-1 if field == "inputs" else 0, len(graph.tensors))
    return operator.replace(**{field: tensors})


def _mutate_buffer(buffer: Table, rng: np.random.Generator, root: Table) -> Table:
    if buffer.data is None or not len(buffer.data):
        return buffer
    data = np.array(buffer.data)
    for _ in range(3):
        data[rng.integers(len(data))] = rng.integers(256)
    return buffer.replace(data=data)


def attempt(model: Model, rng: np.random.Generator) -> str:
    """ "ran" or the class of the DelegraphError. Raises what should not have been raised."""
    try:
        compiled = dg.compile(write(model), devices="reference")
        inputs = []
        for info in compiled.inputs:
            shape = [1 if n < 0 else n for n in info.shape]
            if info.dtype.numpy.kind == "O":
                inputs.append(np.full(shape, b"a", object))
            else:
                inputs.append((rng.random(shape) * 8).astype(info.dtype.numpy))
        compiled.session().run(0, inputs)
        return "ran"
    except dg.DelegraphError as exc:
        return type(exc).__name__


def main() -> int:
    """Exit code 1 if anything but a result or a DelegraphError came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    models = [dg.load(Path(name)) for name in args.models]
    outcomes: dict[str, int] = {}
    failures: dict[str, str] = {}
    seed, end = args.seed, time.monotonic() + args.seconds
    while time.monotonic() < end:
        rng = np.random.default_rng(seed)
        model = models[int(rng.integers(len(models)))]
        start = time.monotonic()
        try:
            outcome = attempt(mutate(model, rng), rng)
        except Exception as exc:
            outcome = f"BAD {type(exc).__name__}"
            frames = [f for f in traceback.extract_tb(exc.__traceback__) if "delegraph" in f.filename]
            place = f"{frames[-1].filename.split('/')[-1]}:{frames[-1].lineno} {type(exc).__name__}"
            failures.setdefault(place, f"seed {seed}, {Path(model.source).name}: {str(exc)[:120]}")
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        if time.monotonic() - start > 10:
            failures[f"slow: {time.monotonic() - start:.0f} s"] = f"seed {seed}, {model.source}"
        seed += 1
    print(f"{seed - args.seed} cases: {outcomes}")
    for what, where in failures.items():
        print(f"  {what}  ({where})")
    return int(bool(failures))


if __name__ == "__main__":
    raise SystemExit(main())
