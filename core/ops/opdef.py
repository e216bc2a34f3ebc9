"""OpDef: the one declaration of an operator, from which everything else about it is made. Imports core.graph.

A family's module reads from top to bottom: declarations, shapes, work, reference kernels per form, cases.

How the parts fit: a ``Node`` is one op with what is known of its operands. ``OpDef.shapes(node)`` gives the output
shapes; ``OpDef.form(node)`` picks the combination of types; ``form.prepare(node)`` does once what does not depend on
the data (packing weights, multipliers) and returns the kernel, which is called with the input arrays, run after run
and from several threads at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from delegraph.core.errors import (
    DataError,
    DelegraphError,
    InternalError,
    InvalidArgument,
    InvalidModel,
    OutOfMemory,
)
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Op, Quantization, Shape
from delegraph.core.model.table import Table
from delegraph.core.ops.expression import Expression

T = TypeVar("T")

Kernel = Callable[..., Sequence[Array]]
"""``kernel(*inputs) -> outputs``: arrays in operand order, None for an optional input that was left out; a tuple of
arrays, also where there is one. Must not write to its inputs, and may return views of them."""


@dataclass(frozen=True, slots=True, eq=False)
class TensorSpec:
    """What is known of a tensor before a run: type, concrete shape, quantization, and its value if that is known.

    sparsity: of a sparse constant, whose ``value`` is then 1-D with the stored elements.
    """

    dtype: DType
    shape: Shape
    quantization: Quantization | None = None
    value: Array | None = None
    sparsity: Table | None = None
    is_variable: bool = False

    @property
    def n_elements(self) -> int:
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor as a dense array."""
        return self.n_elements * self.dtype.numpy.itemsize


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One op with the specs of its operands, as the functions of an OpDef see it.

    inputs: None for an optional operand that was left out. outputs: type and quantization as the file has them; the
    shape is meaningful once ``OpDef.shapes`` has been asked. options: the op's options with defaults filled in.
    """

    op: Op
    inputs: tuple[TensorSpec | None, ...]
    outputs: tuple[TensorSpec, ...]
    options: Table

    @property
    def place(self) -> str:
        return f"{self.op.place} {self.op.name}"

    def input(self, slot: int) -> TensorSpec:
        """The operand at ``slot``. Raises InvalidModel when it was left out."""
        spec = self.inputs[slot] if slot < len(self.inputs) else None
        if spec is None:
            raise InvalidModel(f"{self.place}.inputs[{slot}]", "a tensor", "none")
        return spec

    def custom_options(self) -> Mapping[str, Any]:
        """The attributes of a custom op, by name: a map in the FlexBuffers format, as TFLite's converter writes them.

        Raises:
            InvalidModel: the bytes are no such map.
        """
        from flatbuffers import flexbuffers

        if not self.op.custom_options:
            return {}
        try:
            found = flexbuffers.Loads(self.op.custom_options)
        except Exception as exc:  # the parser raises whatever the bytes lead it to
            raise InvalidModel(f"{self.place}.custom_options", "a FlexBuffers map", f"{exc}") from exc
        if not isinstance(found, dict):
            raise InvalidModel(f"{self.place}.custom_options", "a FlexBuffers map", type(found).__name__)
        return found

    def has_input(self, slot: int) -> bool:
        return slot < len(self.inputs) and self.inputs[slot] is not None

    def quantization(self, slot: int) -> Quantization:
        """Quantization of input ``slot``. Raises InvalidModel when the tensor has none."""
        return self._quantization(self.input(slot), f"inputs[{slot}]")

    def output_quantization(self, slot: int = 0) -> Quantization:
        return self._quantization(self.outputs[slot], f"outputs[{slot}]")

    def _quantization(self, spec: TensorSpec, name: str) -> Quantization:
        if spec.quantization is None or spec.quantization.scales.size == 0:
            raise InvalidModel(f"{self.place}.{name}", f"quantization of the {spec.dtype} tensor", "none")
        return spec.quantization

    def expect(self, holds: bool, name: str, expected: str, found: object) -> None:
        """Raises InvalidModel naming this op and ``name`` ("inputs[1]", "axis") unless ``holds``."""
        if not holds:
            raise InvalidModel(f"{self.place}.{name}", expected, str(found))

    def require(self, holds: bool, expected: str, found: object) -> None:
        """Raises DataError, for data that a kernel meets in a run, unless ``holds``."""
        if not holds:
            raise DataError(self.place, expected, str(found))


@contextmanager
def blamed_on(node: Node) -> Iterator[None]:
    """What a shape function or a kernel raises by mistake becomes an error that names the op.

    Raises:
        InvalidModel: in place of one that does not say which op.
        OutOfMemory: in place of MemoryError.
        InternalError: in place of anything else that is no DelegraphError.
    """
    try:
        yield
    except InvalidModel as exc:
        if exc.place.startswith(node.place):
            raise
        raise InvalidModel(f"{node.place}.{exc.place}", exc.expected, exc.found, exc.source) from exc
    except DelegraphError:
        raise
    except MemoryError as exc:
        raise OutOfMemory(node.place, str(exc)) from exc
    except Exception as exc:
        raise InternalError(node.place, f"{type(exc).__name__}: {exc}") from exc


def packed(spec: TensorSpec | None, pack: Callable[[Array], T]) -> Callable[[Array], T]:
    """A function that packs an operand: once if its value is known before the run, else at each call."""
    if spec is None or spec.value is None:
        return pack
    value = pack(spec.value)
    return lambda _: value


@dataclass(frozen=True, slots=True)
class Form:
    """A combination of operand types that an op exists in.

    types: ``"int8, int8, int32? -> int8"``. A name is a DType, several are joined with ``|``; ``?`` marks an operand
    that may be absent, ``*`` the last operand repeated any number of times, ``any`` takes every type.
    prepare: Node → Kernel. when: a further condition on the node (per channel, constant weights, ...).
    note: what sets this form apart from another of the same types.

    Raises:
        InvalidArgument: ``types`` is not written like that, or ``prepare`` is no function.
    """

    types: str
    prepare: Callable[[Node], Kernel]
    when: Callable[[Node], bool] | None = None
    note: str = ""
    _inputs: tuple[_Slot, ...] = field(init=False, repr=False, compare=False)
    _outputs: tuple[_Slot, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.types, str) or self.types.count("->") != 1:
            raise InvalidArgument("form", "types such as 'float32, int32? -> float32'", repr(self.types))
        if not callable(self.prepare):
            raise InvalidArgument(f"form {self.types!r}", "prepare, a function from Node to kernel", repr(self.prepare))
        inputs, _, outputs = self.types.partition("->")
        object.__setattr__(self, "_inputs", self._parsed(inputs))
        object.__setattr__(self, "_outputs", self._parsed(outputs))

    def __str__(self) -> str:
        return self.types + (f" ({self.note})" if self.note else "")

    def matches(self, node: Node) -> bool:
        return (
            _match(self._inputs, node.inputs)
            and _match(self._outputs, node.outputs)
            and (self.when is None or self.when(node))
        )

    def _parsed(self, text: str) -> tuple[_Slot, ...]:
        try:
            return _slots(text)
        except KeyError as exc:
            known = ", ".join(map(str, DType))
            raise InvalidArgument(
                f"form {self.types!r}", f"names of types ({known}, any)", repr(str(exc.args[0]).lower())
            ) from None


@dataclass(frozen=True, slots=True)
class _Slot:
    dtypes: frozenset[DType] | None  # None: any
    optional: bool
    repeated: bool


def _slots(text: str) -> tuple[_Slot, ...]:
    slots = []
    for word in text.replace(" ", "").split(","):
        if not word:
            continue
        names = word.rstrip("?*")
        dtypes = None if names == "any" else frozenset(DType.parse(name) for name in names.split("|"))
        slots.append(_Slot(dtypes, word.endswith("?"), word.endswith("*")))
    return tuple(slots)


def _match(slots: tuple[_Slot, ...], specs: Sequence[TensorSpec | None]) -> bool:
    if slots and slots[-1].repeated:
        slots = slots[:-1] + slots[-1:] * max(0, len(specs) - len(slots) + 1)
    if len(specs) > len(slots):
        return False
    for i, slot in enumerate(slots):
        spec = specs[i] if i < len(specs) else None
        if spec is None:
            if not slot.optional:
                return False
        elif slot.dtypes is not None and spec.dtype not in slot.dtypes:
            return False
    return True


def forms(types: str, prepare: Callable[[Node], Kernel], **names: Sequence[str]) -> tuple[Form, ...]:
    """Forms of a template, one per value of its variable.

    ``forms("{T}, {T} -> {T}", prepare, T=("int32", "int64"))``
    """
    ((variable, values),) = names.items()
    return tuple(Form(types.format(**{variable: value}), prepare) for value in values)


@dataclass(frozen=True, slots=True)
class Constraint:
    """A rule that an op has to meet beyond its types: what LiteRT's kernel refuses, in one sentence.

    test: Node → what was found, when the rule is broken, else None.
    """

    id: str
    sentence: str
    test: Callable[[Node], str | None]


@dataclass(frozen=True, slots=True)
class Work:
    """What one run of an op costs: multiply-accumulates, other element operations, bytes read and written."""

    macs: int
    element_ops: int
    bytes_read: int
    bytes_written: int


@dataclass(frozen=True, slots=True, eq=False)
class Operand:
    """An input of a test case. data: its value; constant: stored in the model rather than passed in.

    sparsity: of a sparse constant, whose ``data`` is 1-D with the stored values and whose shape is ``shape``.
    """

    data: Array
    quantization: Quantization | None = None
    constant: bool = False
    dtype: DType | None = None  # only where the NumPy dtype does not tell (int4)
    sparsity: Table | None = None
    shape: Shape | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """An output of a test case: type and quantization; the shape comes from ``OpDef.shapes``."""

    dtype: DType
    quantization: Quantization | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One op to try: what the conformance tests, the contract suite and the fuzzers build their models from.

    oracle: "reference" (LiteRT's BUILTIN_REF), or "builtin" where the errata table says that BUILTIN_REF is no oracle.
    """

    name: str
    inputs: tuple[Operand | None, ...]
    outputs: tuple[Result, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    version: int | None = None
    oracle: str = "reference"


Bound = Callable[[Node, Sequence[Any], Sequence[Array]], Sequence[Any]]
"""``bound(node, inputs, expected) -> for each output the allowed |error| per element`` (a number or an array)."""


@dataclass(frozen=True, slots=True, eq=False)
class OpDef:
    """The declaration of an operator.

    name: the builtin's name, or the custom op's code. versions: the lowest and highest version it stands for.
    inputs, outputs: operand names, for messages and docs; ``?`` optional, ``*`` repeated.
    options: the options table's name in the schema, None for an op without ("" in a custom op).
    shapes: Node → output shapes; an entry is None when it depends on data that is not known yet.
    forms: the type combinations with their reference kernels; the first that matches is used.
    work: Node → Work; None counts one element operation per output element.
    bound: how far a float result may be from the reference's (integers must be equal). See core.ops.bounds.
    expression: for elementwise ops, the formula that every code generator renders.
    variables: input slots that hold state which the op updates: the kernel returns their new values behind its outputs.
    host: "" for an op that a delegate runs; "control" or "resource" for one that core runs itself.
    is_pure: the same inputs give the same outputs, so that it may be computed ahead of the run.
    cases: random generator → test cases.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: Callable[[Node], Sequence[Shape | None]]
    forms: tuple[Form, ...]
    options: str | None = None
    versions: tuple[int, int] = (1, 1)
    constraints: tuple[Constraint, ...] = ()
    work: Callable[[Node], Work] | None = None
    bound: Bound | None = None
    expression: Expression | None = None
    variables: tuple[int, ...] = ()
    host: str = ""
    is_pure: bool = True
    is_custom: bool = False
    cases: Callable[[np.random.Generator], Iterator[Case]] | None = None

    def __repr__(self) -> str:
        custom = "custom, " if self.is_custom else ""
        return f"OpDef({self.name!r}, {custom}{'; '.join(map(str, self.forms)) or 'no forms'})"

    def check_arity(self, op: Op) -> None:
        """Raises InvalidModel unless the op has as many operands and results as declared."""
        for field_name, names, tensors in (("inputs", self.inputs, op.inputs), ("outputs", self.outputs, op.outputs)):
            least = sum(not name.endswith(("?", "*")) for name in names)
            most = None if any(name.endswith("*") for name in names) else len(names)
            if len(tensors) < least or (most is not None and len(tensors) > most):
                expected = f"{least}" if least == most else f"{least} to {most}" if most else f"at least {least}"
                raise InvalidModel(f"{op.place} {op.name}.{field_name}", f"{expected} tensors", f"{len(tensors)}")

    def form(self, node: Node) -> Form | None:
        """The first form that the node's types match, or None."""
        return next((form for form in self.forms if form.matches(node)), None)

    def count(self, node: Node) -> Work:
        """The work of one run."""
        if self.work is not None:
            return self.work(node)
        return elementwise_work(node)


def elementwise_work(node: Node, per_element: int = 1, macs: int = 0) -> Work:
    """Work of an op that touches each of its operands once."""
    return Work(
        macs=macs,
        element_ops=per_element * sum(spec.n_elements for spec in node.outputs),
        bytes_read=sum(spec.size_bytes for spec in node.inputs if spec is not None),
        bytes_written=sum(spec.size_bytes for spec in node.outputs),
    )
