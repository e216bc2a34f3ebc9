"""A compiled model's ways in (the main graph, or a signature, with inputs and outputs by position), timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from delegraph.cli import render
from delegraph.cli.metadata import ModelMetadata
from delegraph.cli.models import tensor_metadata
from delegraph.cli.tensors import NO_METADATA, Port, ports
from delegraph.core.errors import InvalidArgument
from delegraph.core.graph.graph import Array

if TYPE_CHECKING:
    from delegraph.compiled import CompiledModel


def say_unused(model: CompiledModel) -> dict[str, str]:
    """Notes the devices that were to be used, named or not, and can't be; returns why, with what to do."""
    from delegraph import registry

    found: dict[str, str] = {}
    for event in model.receipt().events:
        if not event.ops:  # no op's: it was out of the question from the start
            remedies = [info.remedy for info in registry.resolve(event.device, floor=False) if info.id == event.device]
            found[event.device] = "; ".join(filter(None, (event.message, *remedies)))
    for device, why in found.items():
        render.note(f"{device} was not used: {why}")
    return found


@dataclass(frozen=True)
class Entry:
    """Inputs, outputs and the call. signature: its key, None for the main graph."""

    signature: str | None
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    call: Callable[[Sequence[Array]], list[Array]]


def entry_of(model: CompiledModel, signature: str | None, about: ModelMetadata) -> Entry:
    """The main graph's entry, or a signature's.

    Raises:
        InvalidArgument: the model has no signature of that key.
    """
    if signature is None:
        return _main(model, about)
    if signature not in model.signatures:
        known = ", ".join(map(repr, model.signatures))
        raise InvalidArgument(
            "--signature",
            f"one of {known}" if known else "none, as the model has no signatures",
            repr(signature),
            f"run {model.signatures[0]}: --signature {model.signatures[0]}" if known else "leave --signature out",
        )
    return _signature(model, signature, about)


def _main(model: CompiledModel, about: ModelMetadata) -> Entry:
    of_inputs, of_outputs = tensor_metadata(about, 0)
    indices = [info.index for info in model.outputs]
    session = model.session()

    def call(arrays: Sequence[Array]) -> list[Array]:
        values = session.run(0, arrays)
        return [values[i] for i in indices]

    return Entry(
        None,
        tuple(ports(model.inputs, of_inputs, "input")),
        tuple(ports(model.outputs, of_outputs, "output")),
        call,
    )


def _signature(model: CompiledModel, key: str, about: ModelMetadata) -> Entry:
    signature = model.session().signature(key)
    found = model.graphs.signatures[key]
    graph = model.graphs.graphs[found.graph]
    of_inputs, of_outputs = tensor_metadata(about, found.graph)
    by_tensor = dict(zip(graph.inputs, of_inputs, strict=False)) if len(of_inputs) == len(graph.inputs) else {}
    if len(of_outputs) == len(graph.outputs):
        by_tensor |= dict(zip(graph.outputs, of_outputs, strict=False))
    inputs, outputs = signature.inputs, signature.outputs

    def call(arrays: Sequence[Array]) -> list[Array]:
        values = signature(**dict(zip(inputs, arrays, strict=True)))
        return [values[name] for name in outputs]

    def described(infos: dict[str, Any], kind: str) -> tuple[Port, ...]:
        known = [by_tensor.get(info.index, NO_METADATA) for info in infos.values()]
        return tuple(ports(list(infos.values()), known, kind))

    return Entry(key, described(inputs, "input"), described(outputs, "output"), call)


@dataclass(frozen=True)
class Timing:
    """Seconds of each run, the first one (which may still prepare things) included."""

    seconds: tuple[float, ...]

    @property
    def later(self) -> tuple[float, ...]:
        """All runs but the first, unless there is no other."""
        return self.seconds[1:] or self.seconds

    def to_json(self) -> dict[str, Any]:
        return {
            "runs": len(self.seconds),
            "first_ms": self.seconds[0] * 1e3,
            "median_ms": statistics.median(self.later) * 1e3,
            "min_ms": min(self.later) * 1e3,
            "max_ms": max(self.later) * 1e3,
        }

    def __str__(self) -> str:
        ms = self.to_json()
        if len(self.seconds) == 1:
            return f"{ms['first_ms']:.1f} ms (1 run)"
        return (
            f"median {ms['median_ms']:.2f} ms, min {ms['min_ms']:.2f}, max {ms['max_ms']:.2f} "
            f"({len(self.later)} runs after a first one of {ms['first_ms']:.1f} ms)"
        )


def timed_runs(entry: Entry, arrays: Sequence[Array], repeat: int) -> tuple[list[Array], Timing]:
    """The outputs of the first run, and the times of all."""
    seconds = []
    first: list[Array] = []
    for i in range(repeat):
        start = time.perf_counter()
        values = entry.call(arrays)
        seconds.append(time.perf_counter() - start)
        if i == 0:
            first = values
    return first, Timing(tuple(seconds))
