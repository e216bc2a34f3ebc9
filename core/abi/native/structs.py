"""``delegraph_delegate.h`` in ctypes, struct by struct in its order, and how structs are read. Imports ctypes only.

A test compares sizes and offsets with the compiler's.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char_p,
    c_double,
    c_float,
    c_int32,
    c_int64,
    c_size_t,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any, ClassVar, TypeVar

ABI_MAJOR, ABI_MINOR = 0, 2
NO_DEADLINE = 2**63 - 1

SIZE_LIMIT_BYTES = 1 << 16
"""No struct of the ABI will ever be larger: a ``struct_size`` above it is damage."""


class Sized(Structure):
    """A struct of the ABI: its first field is its size as its maker knows it."""

    required: ClassVar[str] = ""
    """The first field that a struct of version 0.2 may lack; "" for none: all are required."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(struct_size=ctypes.sizeof(type(self)), **fields)


class Error(Sized):
    _fields_ = [("struct_size", c_uint32), ("code", c_int32), ("message", c_char_p)]


class Option(Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("type", c_int32),
        ("name", c_char_p),
        ("int_value", c_int64),
        ("float_value", c_double),
        ("text", c_char_p),
        ("ints", POINTER(c_int64)),
        ("n_ints", c_size_t),
    ]


class DeviceInfo(Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("is_available", c_uint32),
        ("id", c_char_p),
        ("kind", c_char_p),
        ("vendor", c_char_p),
        ("driver", c_char_p),
        ("reason", c_char_p),
        ("remedy", c_char_p),
        ("dtypes", POINTER(c_int32)),
        ("n_dtypes", c_size_t),
        ("fingerprint_names", POINTER(c_char_p)),
        ("fingerprint_values", POINTER(c_char_p)),
        ("n_fingerprint", c_size_t),
        ("features", POINTER(c_char_p)),
        ("n_features", c_size_t),
        ("is_virtual", c_uint32),
        ("may_hang", c_uint32),
        ("load_may_jit", c_uint32),
        ("prefix_only", c_uint32),
        ("resource", c_char_p),
        ("numerics", c_char_p),
        ("launch_ns", c_int64),
        ("to_device_latency_ns", c_int64),
        ("to_device_bytes_per_s", c_int64),
        ("from_device_latency_ns", c_int64),
        ("from_device_bytes_per_s", c_int64),
        ("max_segments", c_int64),
        ("weight_budget_bytes", c_int64),
        ("min_ops", c_int64),
    ]


class DeviceList(Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("items", POINTER(POINTER(DeviceInfo))),
        ("n_items", c_size_t),
    ]


class Constant(Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("tensor", c_int32),
        ("data", c_void_p),
        ("size_bytes", c_uint64),
        ("digest", c_char_p),
        ("file", c_char_p),
        ("file_offset", c_uint64),
        ("is_external", c_uint32),
        ("reserved", c_uint32),
    ]


class Tensor(Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("dtype", c_int32),
        ("name", c_char_p),
        ("shape", POINTER(c_int64)),
        ("rank", c_size_t),
        ("size_bytes", c_uint64),
        ("scales", POINTER(c_float)),
        ("zero_points", POINTER(c_int64)),
        ("n_scales", c_size_t),
        ("axis", c_int32),
        ("is_variable", c_uint32),
        ("constant", POINTER(Constant)),
        ("is_sparse", c_uint32),
        ("block_size", c_uint32),
    ]


class Node(Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("op", c_int32),
        ("name", c_char_p),
        ("version", c_int32),
        ("index", c_int32),
        ("inputs", POINTER(c_int32)),
        ("n_inputs", c_size_t),
        ("outputs", POINTER(c_int32)),
        ("n_outputs", c_size_t),
        ("options", POINTER(POINTER(Option))),
        ("n_options", c_size_t),
        ("custom_options", POINTER(c_uint8)),
        ("n_custom_options", c_size_t),
    ]


class Graph(Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("tensors", POINTER(POINTER(Tensor))),
        ("n_tensors", c_size_t),
        ("nodes", POINTER(POINTER(Node))),
        ("n_nodes", c_size_t),
    ]


class Segment(Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("graph", POINTER(Graph)),
        ("inputs", POINTER(c_int32)),
        ("n_inputs", c_size_t),
        ("outputs", POINTER(c_int32)),
        ("n_outputs", c_size_t),
        ("n_variables", c_size_t),
        ("tflite", POINTER(c_uint8)),
        ("tflite_size_bytes", c_uint64),
        ("constants", POINTER(POINTER(Constant))),
        ("n_constants", c_size_t),
    ]


class Support(Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("verdict", c_int32),
        ("constraint", c_char_p),
        ("reason", c_char_p),
        ("advice", c_char_p),
        ("value", c_char_p),
        ("limit", c_char_p),
    ]


class Answers(Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("items", POINTER(POINTER(Support))),
        ("n_items", c_size_t),
    ]


class Artifact(Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("format", c_char_p),
        ("payload", c_void_p),
        ("size_bytes", c_uint64),
        ("packs", POINTER(c_char_p)),
        ("n_packs", c_size_t),
    ]


Fill = CFUNCTYPE(c_int32, c_void_p, c_void_p, c_uint64)
GetPack = CFUNCTYPE(c_int32, c_void_p, c_char_p, c_void_p, c_void_p, c_uint64, POINTER(c_void_p), POINTER(c_uint64))


class Packs(Sized):
    _fields_ = [("struct_size", c_uint32), ("reserved", c_uint32), ("self", c_void_p), ("get", GetPack)]


class Buffer(Sized):
    _fields_ = [("struct_size", c_uint32), ("reserved", c_uint32), ("data", c_void_p), ("size_bytes", c_uint64)]


Log = CFUNCTYPE(None, c_int32, c_char_p)
NowNs = CFUNCTYPE(c_int64)


class HostApi(Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("abi_major", c_uint32),
        ("abi_minor", c_uint32),
        ("reserved", c_uint32),
        ("log", Log),
        ("now_ns", NowNs),
    ]


_Failure = POINTER(Error)
_Options = POINTER(POINTER(Option))
_Handle = c_void_p
_Release = CFUNCTYPE(None, c_void_p)


class DelegateApi(Sized):
    required = "check"
    _fields_ = [
        ("struct_size", c_uint32),
        ("abi_major", c_uint32),
        ("abi_minor", c_uint32),
        ("reserved", c_uint32),
        ("name", c_char_p),
        ("version", c_char_p),
        ("release_error", _Release),
        ("devices", CFUNCTYPE(_Failure, _Options, c_size_t, POINTER(c_void_p))),
        ("release_devices", _Release),
        ("open", CFUNCTYPE(_Failure, c_char_p, _Options, c_size_t, POINTER(c_void_p))),
        ("release_device", _Release),
        ("supports", CFUNCTYPE(_Failure, _Handle, POINTER(Graph), POINTER(c_void_p))),
        ("release_answers", _Release),
        (
            "compile",
            CFUNCTYPE(
                _Failure, _Handle, POINTER(Segment), POINTER(Packs), _Options, c_size_t, c_int64, POINTER(c_void_p)
            ),
        ),
        ("release_artifact", _Release),
        (
            "load",
            CFUNCTYPE(_Failure, _Handle, POINTER(Artifact), POINTER(Segment), POINTER(Packs), POINTER(c_void_p)),
        ),
        ("release_program", _Release),
        ("scratch_bytes", CFUNCTYPE(c_uint64, _Handle)),
        ("alignment", CFUNCTYPE(c_uint32, _Handle)),
        ("context", CFUNCTYPE(_Failure, _Handle, POINTER(Buffer), POINTER(c_void_p))),
        ("release_context", _Release),
        (
            "bind",
            CFUNCTYPE(_Failure, _Handle, POINTER(POINTER(Buffer)), c_size_t, POINTER(POINTER(Buffer)), c_size_t),
        ),
        ("run", CFUNCTYPE(_Failure, _Handle, c_int64)),
        ("check", CFUNCTYPE(_Failure, _Handle, POINTER(Segment), POINTER(c_void_p))),
        ("estimate", CFUNCTYPE(_Failure, _Handle, POINTER(Graph), POINTER(c_int64))),
        ("unbind", CFUNCTYPE(None, _Handle)),
    ]


Entry = CFUNCTYPE(c_int32, c_uint32, c_uint32, POINTER(HostApi), POINTER(c_void_p))

OPTIONAL = frozenset({"check", "estimate", "unbind"})
"""Functions of DelegateApi that may be NULL."""

S = TypeVar("S", bound=Sized)


class BadStruct(Exception):
    """A struct from a plug-in is NULL, or its size can't be. The message says what was expected and found."""


def fields(kind: type[Sized]) -> list[tuple[str, Any]]:
    """Names and types of a struct's fields, in order."""
    return [(field[0], field[1]) for field in kind._fields_]


def required_size(kind: type[Sized]) -> int:
    """The least ``struct_size`` that a struct of version 0.2 has."""
    return int(getattr(kind, kind.required).offset) if kind.required else ctypes.sizeof(kind)


def read(address: int | None, kind: type[S]) -> S:
    """A copy of the plug-in's struct; what it does not have reads as 0. Never reads past its ``struct_size``."""
    if not address:
        raise BadStruct(f"expected a dg struct {kind.__name__}, found NULL")
    size = c_uint32.from_address(address).value
    least = required_size(kind)
    if not least <= size <= SIZE_LIMIT_BYTES:
        raise BadStruct(f"expected a struct_size of at least {least} in {kind.__name__}, found {size}")
    copy = kind()
    ctypes.memset(ctypes.byref(copy), 0, ctypes.sizeof(kind))
    ctypes.memmove(ctypes.byref(copy), address, min(size, ctypes.sizeof(kind)))
    return copy
