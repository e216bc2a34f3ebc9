"""LLVM IR as text: functions, values, loops. Imports nothing of delegraph.

Text is made directly, without an object model, and no IR passes follow: what a kernel says is what is compiled
(Source: facts-cpu.md §6). Values are immutable (SSA); a loop carries what changes from one turn to the next:

    with f.loop(0, n, 4, carry=[zero]) as turn:
        turn.carry = [f.add(turn.carry[0], f.load("i32", f.at(p, turn.index, 4)))]
    total = turn.results[0]

Memory operations assume no alignment: callers' arrays may have none, and on x86 that costs nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Value:
    """An SSA value or a constant: its text and its type."""

    text: str
    type: str

    def __str__(self) -> str:
        return f"{self.type} {self.text}"


Operand = Value | int


def vector(lanes: int, element: str) -> str:
    """The type of ``lanes`` elements."""
    return f"<{lanes} x {element}>"


def lanes_of(type_: str) -> int:
    """Elements of a vector type; 1 for a scalar."""
    return int(type_[1:].split(" ", 1)[0]) if type_.startswith("<") else 1


def element_of(type_: str) -> str:
    """The element type of a vector type; a scalar's own."""
    return type_[1:-1].split(" x ", 1)[1] if type_.startswith("<") else type_


def _number(element: str, value: float) -> str:
    """The text of a constant. Floats are printed as the bits of a double, which is exact."""
    if element == "float":
        (value,) = struct.unpack("<f", struct.pack("<f", value)) if abs(value) < 3.4e38 else (value,)
    if element in ("float", "double"):
        return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    return str(int(value))


def const(type_: str, value: float | Sequence[float]) -> Value:
    """A constant; one number for a vector is repeated."""
    element, lanes = element_of(type_), lanes_of(type_)
    if not type_.startswith("<"):
        assert isinstance(value, int | float)
        return Value(_number(element, value), type_)
    numbers = [value] * lanes if isinstance(value, int | float) else list(value)
    return Value("<" + ", ".join(f"{element} {_number(element, n)}" for n in numbers) + ">", type_)


def zero(type_: str) -> Value:
    """Zeros of any type."""
    return Value("zeroinitializer", type_) if type_.startswith("<") else const(type_, 0)


@dataclass(slots=True)
class Turn:
    """One turn of a loop: its index (i64), what came in, and (set by the body) what goes out."""

    index: Value
    carry: list[Value]
    results: list[Value] = field(default_factory=list)


class Function:
    """A function under construction. parameters: (name, type) pairs, read with ``self["name"]``."""

    def __init__(self, name: str, parameters: Sequence[tuple[str, str]], *, exported: bool = False) -> None:
        self.name = name
        self._parameters = list(parameters)
        self._exported = exported
        self._lines: list[str] = []
        self._allocas: list[str] = []
        self._n = 0
        self._block = "entry"
        self.declarations: dict[str, None] = {}

    def __getitem__(self, name: str) -> Value:
        return Value(f"%{name}", dict(self._parameters)[name])

    def text(self) -> str:
        """The finished definition."""
        linkage = "dso_local" if self._exported else "internal"
        parameters = ", ".join(f"{t} %{n}" for n, t in self._parameters)
        body = [*self._allocas, *self._lines, "  ret void"]
        return f"define {linkage} void @{self.name}({parameters}) nounwind {{\nentry:\n" + "\n".join(body) + "\n}\n"

    def emit(self, type_: str, text: str) -> Value:
        """A new value of an instruction."""
        self._n += 1
        value = Value(f"%t{self._n}", type_)
        self._lines.append(f"  {value.text} = {text}")
        return value

    def comment(self, text: str) -> None:
        self._lines.append(f"  ; {text}")

    # --- arithmetic

    def _two(self, a: Value, b: Operand) -> tuple[Value, Value]:
        return a, b if isinstance(b, Value) else const(a.type, b)

    def binary(self, op: str, a: Value, b: Operand) -> Value:
        a, b = self._two(a, b)
        assert a.type == b.type, (op, a, b)
        return self.emit(a.type, f"{op} {a}, {b.text}")

    def add(self, a: Value, b: Operand) -> Value:
        return self.binary("fadd" if _is_float(a) else "add", a, b)

    def sub(self, a: Value, b: Operand) -> Value:
        return self.binary("fsub" if _is_float(a) else "sub", a, b)

    def mul(self, a: Value, b: Operand) -> Value:
        return self.binary("fmul" if _is_float(a) else "mul", a, b)

    def compare(self, predicate: str, a: Value, b: Operand) -> Value:
        a, b = self._two(a, b)
        op = "fcmp" if _is_float(a) else "icmp"
        type_ = vector(lanes_of(a.type), "i1") if a.type.startswith("<") else "i1"
        return self.emit(type_, f"{op} {predicate} {a}, {b.text}")

    def select(self, condition: Value, a: Value, b: Operand) -> Value:
        a, b = self._two(a, b)
        return self.emit(a.type, f"select {condition}, {a}, {b}")

    def convert(self, op: str, a: Value, type_: str) -> Value:
        """``sext``, ``trunc``, ``bitcast``, ``sitofp`` ... to another type."""
        if a.type == type_:
            return a
        return self.emit(type_, f"{op} {a} to {type_}")

    def call(self, name: str, type_: str, *args: Value) -> Value:
        """An intrinsic (or another function that gives a value)."""
        self.declarations[f"declare {type_} @{name}({', '.join(a.type for a in args)})"] = None
        return self.emit(type_, f"call {type_} @{name}({', '.join(map(str, args))})")

    def call_void(self, name: str, *args: Value) -> None:
        """A function of this module."""
        self._lines.append(f"  call void @{name}({', '.join(map(str, args))})")

    def intrinsic(self, name: str, *args: Value) -> Value:
        """``llvm.<name>`` of arguments of one type, which is also the result's."""
        type_ = args[0].type
        suffix = ("v" + str(lanes_of(type_)) if type_.startswith("<") else "") + {"float": "f32", "double": "f64"}.get(
            element_of(type_), element_of(type_)
        )
        return self.call(f"llvm.{name}.{suffix}", type_, *args)

    def clamp(self, x: Value, low: Value, high: Value) -> Value:
        """Integers within [low, high]; floats too, where a NaN stays."""
        if _is_float(x):
            x = self.select(self.compare("olt", x, low), low, x)
            return self.select(self.compare("ogt", x, high), high, x)
        return self.intrinsic("smin", self.intrinsic("smax", x, low), high)

    # --- vectors

    def splat(self, scalar: Value, lanes: int) -> Value:
        """A vector of one scalar."""
        type_ = vector(lanes, scalar.type)
        one = self.emit(type_, f"insertelement {type_} poison, {scalar}, i64 0")
        return self.emit(type_, f"shufflevector {type_} {one.text}, {type_} poison, <{lanes} x i32> zeroinitializer")

    def shuffle(self, a: Value, b: Value | None, indices: Sequence[int]) -> Value:
        """Elements of ``a`` (and behind them of ``b``) by constant indices."""
        mask = ", ".join(f"i32 {i}" for i in indices)
        other = b.text if b is not None else "poison"
        type_ = vector(len(indices), element_of(a.type))
        return self.emit(type_, f"shufflevector {a}, {a.type} {other}, <{len(indices)} x i32> <{mask}>")

    def extract(self, a: Value, index: Operand) -> Value:
        i = index if isinstance(index, Value) else const("i64", index)
        return self.emit(element_of(a.type), f"extractelement {a}, {i}")

    # --- memory

    def at(self, pointer: Value, index: Operand, scale: int = 1) -> Value:
        """``pointer + index * scale`` bytes."""
        if isinstance(index, int):
            if index * scale == 0:
                return pointer
            return self.emit("ptr", f"getelementptr i8, ptr {pointer.text}, i64 {index * scale}")
        scaled = index if scale == 1 else self.mul(index, scale)
        return self.emit("ptr", f"getelementptr i8, ptr {pointer.text}, i64 {scaled.text}")

    def load(self, type_: str, pointer: Value) -> Value:
        return self.emit(type_, f"load {type_}, ptr {pointer.text}, align 1")

    def store(self, value: Value, pointer: Value) -> None:
        self._lines.append(f"  store {value}, ptr {pointer.text}, align 1")

    def alloca(self, size_bytes: int) -> Value:
        """Memory on the stack for the whole function, aligned to 64."""
        name = f"%stack{len(self._allocas)}"
        self._allocas.append(f"  {name} = alloca [{size_bytes} x i8], align 64")
        return Value(name, "ptr")

    # --- control

    @contextmanager
    def loop(self, start: int, stop: Operand, step: int = 1, carry: Sequence[Value] = ()) -> Iterator[Turn]:
        """Turns with index ``start``, ``start + step`` ... below ``stop``; at least one. See the module's example."""
        if isinstance(stop, int) and stop <= start + step:
            turn = Turn(const("i64", start), list(carry))
            yield turn
            turn.results = list(turn.carry)
            return
        self._n += 1
        label, before = f"loop{self._n}", self._block
        index = Value(f"%i{self._n}", "i64")
        slots = [Value(f"%c{self._n}.{k}", v.type) for k, v in enumerate(carry)]
        self._lines.append(f"  br label %{label}")
        self._lines.append(f"{label}:")
        self._block = label
        phis = len(self._lines)
        turn = Turn(index, list(slots))
        yield turn
        assert len(turn.carry) == len(slots)
        following = self.add(index, step)
        again = self.compare("slt", following, stop)
        latch, after = self._block, f"{label}.end"
        self._lines.append(f"  br {again}, label %{label}, label %{after}")
        self._lines.append(f"{after}:")
        self._block = after
        pairs = [(index, const("i64", start), following), *zip(slots, carry, turn.carry, strict=True)]
        self._lines[phis:phis] = [
            f"  {slot.text} = phi {slot.type} [ {first.text}, %{before} ], [ {last.text}, %{latch} ]"
            for slot, first, last in pairs
        ]
        turn.results = list(turn.carry)


def _is_float(value: Value) -> bool:
    return element_of(value.type) in ("float", "double")
