"""What callers pass as inputs, as arrays that a model takes: nothing is cast. Imports core.graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from delegraph.core.errors import InvalidArgument
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Graph, Tensor


def by_position(args: Sequence[Any], kwargs: Mapping[str, Any], graph: Graph) -> Sequence[Any]:
    """One value per graph input from positional and named arguments. Names need not be unique in a model: what stands
    at a position goes there, and a name that several inputs have is of no use."""
    if not kwargs and len(args) == len(graph.inputs):
        return args
    names = [graph.tensors[i].name for i in graph.inputs]
    return named_by_position(names, args, kwargs, graph)


def named_by_position(names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any], graph: Graph) -> list[Any]:
    """As ``by_position``, for inputs that have these names."""
    if len(args) > len(names):
        raise InvalidArgument("inputs", f"at most {len(names)} inputs", f"{len(args)}")
    given: dict[int, Any] = dict(enumerate(args))
    for name, value in kwargs.items():
        positions = [i for i, other in enumerate(names) if other == name]
        if not positions:
            raise InvalidArgument("inputs", f"one of {', '.join(map(repr, names))}", repr(name))
        if len(positions) > 1:
            raise InvalidArgument(f"input {name!r}", "a name of one input", f"{len(positions)}", "pass it by position")
        if positions[0] in given:
            raise InvalidArgument(f"input {name!r}", "one value", "two: by position and by name")
        given[positions[0]] = value
    missing = [name for i, name in enumerate(names) if i not in given]
    if missing:
        raise InvalidArgument(
            "inputs", f"{len(names)} inputs", f"no value for {', '.join(map(repr, missing))}", _input_help(graph)
        )
    return [given[i] for i in range(len(names))]


def _input_help(graph: Graph) -> str:
    described = ", ".join(
        f"{t.name}: {t.dtype}{list(t.shape_signature)}" for t in (graph.tensors[i] for i in graph.inputs)
    )
    return f"the model takes {described}"


def checked(value: Any, tensor: Tensor, *, resized: bool, what: str = "input") -> Array:
    """The value as an array of the tensor's dtype and a shape it can have.

    Python numbers and lists become the tensor's dtype, as they have none of their own, where it can hold them. resized:
    take any shape. what: what the tensor is to the caller, for messages.

    Raises:
        InvalidArgument: another dtype or shape, or a number that the tensor can't hold.
    """
    wanted, dtype = tensor.shape_signature, tensor.dtype.numpy
    if type(value) is np.ndarray and value.dtype == dtype and value.shape == wanted:
        return value  # the usual case
    where = f"{what} {tensor.name!r}"
    if tensor.dtype is DType.STRING:
        array = np.asarray(value, object)
    elif isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
    else:
        array = _from_python(value, tensor, where)
    if array.dtype != dtype:
        raise InvalidArgument(where, str(tensor.dtype), str(array.dtype), f"convert it with .astype(numpy.{dtype})")
    fits = len(array.shape) == len(wanted) and all(w in (-1, n) for w, n in zip(wanted, array.shape, strict=True))
    if not fits and not resized:
        raise InvalidArgument(where, f"shape {list(wanted)}", str(list(array.shape)))
    return array


def _from_python(value: Any, tensor: Tensor, where: str) -> Array:
    """Python numbers as the tensor's dtype; nothing is rounded to a whole number, and nothing wraps around."""
    dtype = tensor.dtype.numpy
    try:
        natural = np.asarray(value)
        if natural.dtype.kind not in "biufcO":
            raise TypeError
        if natural.size and dtype.kind in "biu":
            _expect_whole(value, natural, tensor, where)
        elif natural.dtype == object and not all(isinstance(n, int | float | complex) for n in natural.flat):
            raise TypeError
        return np.asarray(value, dtype)
    except (ValueError, TypeError, OverflowError) as exc:
        if isinstance(exc, InvalidArgument):
            raise
        raise InvalidArgument(where, f"{tensor.dtype} values", type(value).__name__) from exc


def _expect_whole(value: Any, natural: Array, tensor: Tensor, where: str) -> None:
    """Raises InvalidArgument for the first number that an integer or bool tensor can't hold."""
    low, high = _range(tensor.dtype)
    if natural.dtype.kind in "biu" and low <= int(natural.min()) and int(natural.max()) <= high:
        return
    for number in np.asarray(value, object).flat:
        if not isinstance(number, int | np.integer | np.bool_):
            may_round = tensor.dtype.is_integer and isinstance(number, float | np.floating)
            advice = "round it, or quantize it as the tensor is" if may_round else ""
            raise InvalidArgument(where, f"{tensor.dtype} values", repr(number), advice)
        if not low <= int(number) <= high:
            raise InvalidArgument(where, f"{tensor.dtype} values in [{low}, {high}]", str(number))


def _range(dtype: DType) -> tuple[int, int]:
    if dtype is DType.BOOL:
        return 0, 1
    bits = dtype.bits or dtype.numpy.itemsize * 8  # a handle has no size in the file
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if dtype.numpy.kind == "i" else (0, (1 << bits) - 1)
