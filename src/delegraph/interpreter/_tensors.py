"""The tensors that an interpreter holds: current shapes, and the memory of inputs, outputs, variables and whatever
else is kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Graph, Shape, Tensor
from delegraph.interpreter._details import dtype_class, signature
from delegraph.interpreter._values import store


class Memory:
    """The tensors of all subgraphs. Views refer to it: as long as one lives, it has more than one reference."""

    __slots__ = ("subgraphs",)

    def __init__(self, graphs: Iterable[Graph]) -> None:
        self.subgraphs = [Tensors(graph) for graph in graphs]

    def subgraph(self, index: int) -> Tensors:
        """Raises ValueError when there is no such subgraph."""
        if not 0 <= index < len(self.subgraphs):
            raise ValueError(f"Invalid subgraph index {index} exceeds max subgraph index {len(self.subgraphs)}")
        return self.subgraphs[index]

    def view(self, index: int, subgraph: int = 0) -> Any:
        """A writable array over the tensor's own memory; a copy of what has no dimensions, and of strings."""
        tensors = self.subgraph(subgraph)
        value = tensors.read(index)
        if value.dtype == object or value.ndim == 0:
            return tensors.copy(index)
        return np.asarray(_View(self, value))


class _View:
    """Gives an array over another's memory whose base leads to the ``Memory``."""

    __slots__ = ("__array_interface__", "_array", "_memory")

    def __init__(self, memory: Memory, array: Array) -> None:
        self._memory, self._array = memory, array
        self.__array_interface__ = array.__array_interface__


class Tensors:
    """One subgraph's tensors.

    shapes: current ones, of every tensor. values: memory, of those that have some. is_ready: planned for these shapes.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.shapes: dict[int, Shape] = {t.index: t.shape for t in graph.tensors}
        self.values: dict[int, Array] = {}
        self.variables = tuple(t.index for t in graph.tensors if t.is_variable)
        self.is_ready = False

    def find(self, index: int) -> Tensor:
        """Raises ValueError when there is no such tensor."""
        tensors = self.graph.tensors
        if not 0 <= index < len(tensors):
            raise ValueError(f"Invalid tensor index {index} exceeds max tensor index {len(tensors)}")
        return tensors[index]

    def read(self, index: int) -> Array:
        """The tensor's memory, or its constant. Raises ValueError when it has neither."""
        tensor = self.find(index)
        value = self.values.get(index)
        if value is None:
            value = tensor.constant
        if value is None:
            if math.prod(self.shapes[index]) or tensor.dtype is DType.STRING:
                raise ValueError("Tensor data is null. Run allocate_tensors() first")
            value = _new(tensor, self.shapes[index])
        if tensor.dtype.numpy.type is np.uint8 and dtype_class(tensor.dtype) is np.int8:
            return value.view(np.int8)  # float8
        return value

    def copy(self, index: int) -> Any:
        """A copy of the value; a NumPy scalar when it has no dimensions, as LiteRT returns it."""
        value = self.read(index).copy()
        return value[()] if value.ndim == 0 and value.dtype != object else value

    def write(self, index: int, value: Any) -> None:
        """Raises ValueError as ``store``."""
        tensor = self.find(index)
        memory = store(tensor, self.shapes[index], value, self.values.get(index))
        if memory is not None:
            self.values[index] = memory

    def resize(self, index: int, shape: Shape, *, strict: bool) -> None:
        """Sets a tensor's shape; unless it had it already, the subgraph has to be allocated again.

        Raises:
            RuntimeError: no such tensor, a constant, a shape that can't be, or, strict, a dimension that is known.
        """
        if not 0 <= index < len(self.graph.tensors):
            raise RuntimeError("tensor_index < context_.tensors_size && tensor_index >= 0 was not true.")
        tensor, current = self.graph.tensors[index], self.shapes[index]
        if strict:
            _check_strictly(tensor, current, shape)
        if current == shape and (index in self.values or tensor.is_constant):
            return
        self.is_ready = False
        if tensor.is_constant:
            raise RuntimeError("Attempting to resize a fixed-size tensor.")
        if tensor.dtype.is_plain and (min(shape, default=0) < 0 or math.prod(shape) >= 2**63):
            raise RuntimeError("BytesRequired number of elements overflowed.")
        self.shapes[index] = shape
        self.values.pop(index, None)

    def allocate(self, shapes: Mapping[int, Shape], kept: Iterable[int]) -> None:
        """Gives memory to inputs, variables (zeros) and kept tensors whose shape is known; inputs stay if they fit."""
        tensors = self.graph.tensors
        inputs = set(self.graph.inputs)
        self.shapes.update(shapes)
        for i in {*inputs, *self.variables, *kept}:
            if i < 0 or tensors[i].is_constant:
                continue
            shape = self.shapes[i]
            if i in inputs and i in self.values and self.values[i].shape == shape:
                continue
            if i in inputs or i in self.variables or i in shapes:
                self.values[i] = _new(tensors[i], shape)
            else:
                self.values.pop(i, None)
        self.is_ready = True

    def update(self, values: Mapping[int, Array]) -> None:
        """Takes over what a run has made, in place where the shape is the same."""
        for i, value in values.items():
            if self.graph.tensors[i].is_constant:
                continue
            held = self.values.get(i)
            if held is not None and held.shape == value.shape:
                np.copyto(held, value)
            else:
                self.values[i] = value if value.flags.c_contiguous else value.copy()
            self.shapes[i] = value.shape

    def reset_variables(self) -> None:
        """Raises RuntimeError when a variable has no memory yet."""
        for i in self.variables:
            if i not in self.values:
                raise RuntimeError("tensor.data.raw != nullptr was not true.")
            self.values[i][...] = 0


def _check_strictly(tensor: Tensor, current: Shape, shape: Shape) -> None:
    if len(current) != len(shape):
        raise RuntimeError(f"tensor->dims->size != dims.size() ({len(current)} != {len(shape)})")
    for axis, (old, new) in enumerate(zip(signature(tensor, current), shape, strict=True)):
        if old not in (-1, new):
            raise RuntimeError(
                f"Attempting to resize dimension {axis} of tensor {tensor.index} with value {old} to {new}. "
                "ResizeInputTensorStrict only allows mutating unknown dimensions identified by -1."
            )


def _new(tensor: Tensor, shape: Shape) -> Array:
    if tensor.dtype.numpy.hasobject:
        return np.full(shape, b"", object)
    return np.zeros(shape, tensor.dtype.numpy)
