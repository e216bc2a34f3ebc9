"""What callers pass as inputs, as arrays that a model takes: nothing is cast. Imports core.graph."""

from __future__ import annotations

import array as arrays
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from delegraph import advice
from delegraph.core.errors import InvalidArgument
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Graph, Shape, Tensor

_BUFFERS = (memoryview, bytearray, arrays.array)
_PLAIN = frozenset({bool, int, float, complex})
_MAX_RANK = 64  # NumPy's


# --- which value is which input -------------------------------------------------------------------------------------


def by_position(args: Sequence[Any], kwargs: Mapping[str, Any], graph: Graph) -> Sequence[Any]:
    """One value per graph input from positional and named arguments. Names need not be unique in a model: what stands
    at a position goes there, and a name that several inputs have is of no use."""
    if not kwargs and len(args) == len(graph.inputs):
        return args
    names = [graph.tensors[i].name for i in graph.inputs]
    return named_by_position(names, args, kwargs, graph)


def named_by_position(
    names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any], graph: Graph, *, taker: str = "the model"
) -> list[Any]:
    """As ``by_position``, for inputs that have these names. taker: what takes them, for messages."""
    for value in args:
        if isinstance(value, Mapping):
            raise _no_mapping("inputs")
    if len(args) > len(names):
        raise InvalidArgument("inputs", f"at most {_counted(len(names))}", f"{len(args)}")
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
        found = f"no value for {', '.join(map(repr, missing))}"
        raise InvalidArgument("inputs", _counted(len(names)), found, f"{taker} takes {_described(names, graph)}")
    return [given[i] for i in range(len(names))]


def _described(names: Sequence[str], graph: Graph) -> str:
    tensors = [graph.tensors[i] for i in graph.inputs]
    return ", ".join(f"{n}: {t.dtype}{list(t.shape_signature)}" for n, t in zip(names, tensors, strict=True))


def _counted(n: int) -> str:
    return f"{n} input" + ("" if n == 1 else "s")


def _no_mapping(where: str) -> InvalidArgument:
    return InvalidArgument(where, "one value per input", "a dict", "pass what is in it by name: m(**inputs)")


# --- one value ------------------------------------------------------------------------------------------------------


def checked(value: Any, tensor: Tensor, *, resized: bool, what: str = "input", name: str | None = None) -> Array:
    """The value as an array of the tensor's dtype and a shape it can have.

    Python numbers and lists become the tensor's dtype, as they have none of their own, where it can hold them. Arrays
    (also of other libraries, and within lists) must have it. Text becomes bytes in UTF-8. resized: take any shape.
    what, name: what the tensor is to the caller, and what it is called there, for messages.

    Raises:
        InvalidArgument: another dtype or shape, or a value that the tensor can't hold.
    """
    wanted, dtype = tensor.shape_signature, tensor.dtype
    if (
        type(value) is np.ndarray
        and value.dtype == dtype.numpy
        and value.shape == wanted
        and dtype is not DType.STRING  # arrays of objects hold anything
    ):
        return value  # the usual case
    where = f"{what} {(tensor.name if name is None else name)!r}"
    if isinstance(value, Mapping):
        raise _no_mapping(where)
    if dtype is DType.STRING:
        found = _from_text(value, where)
    elif _is_array(value):
        found = _read(value, tensor, where)
    else:
        found = _from_python(value, tensor, where)
    if not resized and not _is_shape(found.shape, wanted):
        raise InvalidArgument(
            where, f"shape {list(wanted)}", str(list(found.shape)), advice.to_shape(found.shape, wanted)
        )
    return found


def _is_shape(found: Shape, wanted: Shape) -> bool:
    return len(found) == len(wanted) and all(w in (-1, n) for w, n in zip(wanted, found, strict=True))


# --- arrays ---------------------------------------------------------------------------------------------------------


def _is_array(value: Any) -> bool:
    """Whether NumPy reads it as an array that has a dtype."""
    return hasattr(value, "__array__") or hasattr(value, "__array_interface__") or isinstance(value, _BUFFERS)


def _read(value: Any, tensor: Tensor, where: str) -> Array:
    """An array, whoever's, if it has the tensor's dtype."""
    try:
        found = np.asarray(value)
    except Exception as exc:  # of a library's own code
        kind = type(value).__name__
        raise InvalidArgument(where, f"{tensor.dtype} values", f"{kind} that NumPy can't read", str(exc)) from exc
    if found.dtype != tensor.dtype.numpy:
        what_to_do = advice.to_dtype(found, tensor.dtype, tensor.quantization)
        raise InvalidArgument(where, str(tensor.dtype), str(found.dtype), what_to_do)
    return found


# --- text -----------------------------------------------------------------------------------------------------------


def encoded(texts: Array) -> Array:
    """Text as string tensors hold it: bytes, those of a str in UTF-8.

    Raises:
        TypeError: an element that is no text, which it names.
        UnicodeEncodeError: a str that UTF-8 can't say.
    """
    found = np.empty(texts.shape, object)
    for at, text in np.ndenumerate(texts):
        if not isinstance(text, str | bytes):
            raise TypeError(_shown(text))
        found[at] = text.encode() if isinstance(text, str) else bytes(text)
    return found


def _from_text(value: Any, where: str) -> Array:
    try:
        return encoded(np.asarray(value, object))
    except TypeError as exc:
        raise InvalidArgument(where, "text (str, or bytes in UTF-8)", str(exc)) from None
    except UnicodeEncodeError as exc:
        raise InvalidArgument(where, "text that UTF-8 can say", repr(exc.object)) from exc


def _shown(value: object) -> str:
    """A value in a message: in full if it is short for certain."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a whole number of {value.bit_length()} bits"
    if value is None or isinstance(value, int | float | complex | np.number | np.bool_):
        return repr(value)
    return type(value).__name__


# --- Python's numbers -----------------------------------------------------------------------------------------------


def _from_python(value: Any, tensor: Tensor, where: str) -> Array:
    """Python numbers as the tensor's dtype; nothing is rounded to a whole number, wraps around or becomes infinite."""
    for each in _arrays_within(value):
        _read(each, tensor, where)
    dtype = tensor.dtype.numpy
    try:
        natural = np.asarray(value)
        if natural.dtype.kind not in "biufcO":
            raise TypeError
        if natural.size and dtype.kind in "biu":
            _expect_whole(value, natural, tensor, where)
        elif natural.dtype == object and not all(isinstance(n, int | float | complex) for n in natural.flat):
            raise TypeError
        with np.errstate(over="ignore"):
            found = np.asarray(value, dtype)
        if dtype.kind in "fc":
            _expect_finite(found, natural, tensor, where)
        return found
    except (ValueError, TypeError, OverflowError) as exc:
        if isinstance(exc, InvalidArgument):
            raise
        raise InvalidArgument(where, f"{tensor.dtype} values", _shown(value)) from exc


def _arrays_within(value: Any) -> list[Any]:
    """The arrays in nested lists. What has no dimensions, a NumPy scalar for one, is a number like Python's; so beside
    a number there is no array, and a list's first item tells. Level by level, as lists may hold themselves."""
    found, level = [], [value]
    for _ in range(_MAX_RANK):
        below: list[Any] = []
        for item in level:
            if isinstance(item, list | tuple):
                if item and type(item[0]) not in _PLAIN:
                    below += item
            elif _is_array(item) and getattr(item, "ndim", None) != 0:
                found.append(item)
        level = below
    return found


def _expect_whole(value: Any, natural: Array, tensor: Tensor, where: str) -> None:
    """Raises InvalidArgument for the first number that an integer or bool tensor can't hold."""
    low, high = advice.limits(tensor.dtype)
    if natural.dtype.kind in "biu" and low <= int(natural.min()) and int(natural.max()) <= high:
        return
    for number in np.asarray(value, object).flat:
        if not isinstance(number, int | np.integer | np.bool_):
            raise InvalidArgument(where, f"{tensor.dtype} values", _shown(number), _to_whole(number, tensor))
        if not low <= int(number) <= high:
            raise InvalidArgument(where, f"{tensor.dtype} values in [{low}, {high}]", _shown(int(number)))


def _to_whole(number: object, tensor: Tensor) -> str:
    """What to do about a number that is no integer."""
    if not tensor.dtype.is_integer or not isinstance(number, float | np.floating):
        return ""
    if tensor.quantization is not None and tensor.quantization.scales.size:
        return advice.to_quantized(tensor.dtype, tensor.quantization, "numpy.array(x)")
    return "round it"


def _expect_finite(found: Array, natural: Array, tensor: Tensor, where: str) -> None:
    """Raises InvalidArgument for the first number that a float tensor could hold only as an infinity."""
    infinite = np.isinf(found)
    if not infinite.any():
        return
    wide = np.asarray(natural, np.complex128 if found.dtype.kind == "c" else np.float64)
    lost = infinite & np.isfinite(wide)
    if lost.any():
        limit, first = float(np.finfo(found.dtype).max), natural[lost].tolist()[0]
        raise InvalidArgument(where, f"{tensor.dtype} values in [{-limit:.5g}, {limit:.5g}]", _shown(first))
