"""devices.yaml → Devices: merge the files, resolve ``inherit``, check and read. Imports core.devices.

A file is ``version: 1`` with ``machines``, ``profiles`` and ``opencl``, each a mapping from names to entries. A later
file changes entries of earlier ones field by field (null takes a field away); ``inherit: NAME`` starts an entry from
another. ``template: true`` marks an entry that is there to be inherited from only; it is neither inherited nor kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from delegraph.core.abi.values import ErrorCode, Limits, Link
from delegraph.core.devices.document import Entry, merge, nearest, parse
from delegraph.core.devices.kinds import (
    ByName,
    ElementType,
    Flag,
    Integer,
    Matching,
    Number,
    Pattern,
    Record,
    Several,
    Text,
)
from delegraph.core.devices.op_sets import LEVELS, OPS
from delegraph.core.devices.rules import RULES
from delegraph.core.devices.values import (
    Cpu,
    Devices,
    Energy,
    Machine,
    Match,
    OpenClRule,
    OpSet,
    Performance,
    Profile,
)
from delegraph.core.model.schema_table import ENUMS

HOST = "host"
"""The machine that delegraph runs on."""

VERSION = "1"
_NAME = Matching(r"[a-z0-9][a-z0-9._-]{0,63}", "a name of small letters, digits, '-', '_' and '.'")
_OP = Text(one_of=tuple(name for name in ENUMS["BuiltinOperator"] if name != "CUSTOM"))


class _OpSet:
    def read(self, entry: Entry) -> OpSet:
        known = {"tflite": None, **{f"nnapi:{level}": level for level in LEVELS}}
        if entry.value not in known:
            raise entry.error("tflite, or nnapi:1 to nnapi:8")
        assert isinstance(entry.value, str)
        return OpSet(known[entry.value])


class _Limits:
    """Rules with their limits; ``any`` lifts the general rule for an op (None). op: what for, "" for every op."""

    def __init__(self, op: str = "") -> None:
        self._op = op

    def read(self, entry: Entry) -> dict[str, Any]:
        found = {}
        for name, item in entry.mapping.items():
            if name not in RULES:
                raise item.error("the name of a rule", repr(name), nearest(name, RULES))
            ops = RULES[name].ops
            if ops is not None and self._op not in ops:
                raise item.error(f"a rule for {self._op or 'every op'}", f"one for {', '.join(sorted(ops))}")
            if item.value is not None:
                lifts = bool(self._op) and item.value == "any"
                found[name] = None if lifts else RULES[name].takes.read(item)
        return found


class _Ops:
    """``NAME: {rule: limit}``, where several names may share an entry, with a space between them."""

    def read(self, entry: Entry) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for name, item in split_names(entry).mapping.items():
            _OP.read(Entry(name, item.source, item.line, item.place))
            found[name] = _Limits(name).read(item)
        return found


class _Utilization:
    def read(self, entry: Entry) -> dict[str, float]:
        share = Number(high=1.0)
        found = {}
        for name, item in split_names(entry).mapping.items():
            if name != "default":
                _OP.read(Entry(name, item.source, item.line, item.place))
            found[name] = share.read(item)
        return {"default": 1.0} | found


_RATES = ByName(ElementType(), Number(), low=1)
_LINK = Record(Link, {"latency_ns": Integer(), "bytes_per_s": Number(whole=True)})
_CPU = Record(
    Cpu,
    {
        "name": Text(),
        "cores": Integer(1),
        "ops_per_s": _RATES,
        "memory_bytes_per_s": Number(),
        "power_w": Number(),
    },
)
_MACHINE = Record(Machine, {"description": Text(), "cpu": _CPU})
_OPENCL = Record(
    OpenClRule,
    {
        "match": Record(Match, {name: Pattern() for name in ("platform", "vendor", "device", "driver")}),
        "description": Text(),
        "without": Several(Text()),
        "launch_ns": Integer(),
        "local_memory_bytes": Integer(1),
        "unusable": Text(),
        "remedy": Text(),
    },
)
_PROFILE = Record(
    Profile,
    {
        "description": Text(),
        "family": Text(one_of=("nnapi",)),
        "kind": Text(one_of=("accelerator", "gpu")),
        "vendor": Text(),
        "machine": _NAME,
        "feature_level": Integer(1),
        "dtypes": Several(ElementType()),
        "op_set": _OpSet(),
        "only": Several(Text(one_of=tuple(OPS))),
        "every_op": _Limits(),
        "ops": _Ops(),
        "numerics": ByName(ElementType(), Text()),
        "ops_per_s": _RATES,
        "utilization": _Utilization(),
        "memory_bytes_per_s": Number(),
        "weights_bytes_per_s": Number(),
        "weight_cache_bytes": Integer(),
        "sram_bytes": Integer(1),
        "launch_ns": Integer(),
        "op_ns": Integer(),
        "to_device": _LINK,
        "from_device": _LINK,
        "limits": Record(
            Limits,
            {
                "max_segments": Integer(1),
                "prefix_only": Flag(),
                "weight_budget_bytes": Integer(1),
                "min_ops": Integer(1),
            },
        ),
        "energy": Record(Energy, {"mac_pj": Number(), "byte_pj": Number(), "power_w": Number()}),
        "performance": ByName(
            Text(one_of=("default", "float32", "relaxed")),
            Record(Performance, {"exec_time": Number(), "power_usage": Number()}),
        ),
        "features": Several(Text()),
        "failures": ByName(Text(one_of=tuple(code.value for code in ErrorCode)), Text()),
    },
)


def read(files: Sequence[tuple[str, str | bytes]]) -> Devices:
    """files: (name for messages, content), later ones over earlier ones.

    Raises:
        InvalidDevices: a rule of the format is broken.
    """
    merged = Entry({}, "devices", 0, "")
    for source, text in files:
        document = parse(text, source)
        _check_version(document)
        merged = merge(merged, _with_split_names(document))
    for name, item in merged.mapping.items():
        if name not in ("version", "machines", "profiles", "opencl"):
            raise item.error("a known name at the top", repr(name), nearest(name, ("machines", "profiles", "opencl")))
    machines = _section(merged, "machines", lambda name, e: _MACHINE.read(e, id=name))
    if HOST not in machines:
        machines[HOST] = Machine(HOST, "the machine that delegraph runs on")
    profiles = _section(merged, "profiles", lambda name, e: _profile(name, e, machines))
    opencl = _section(merged, "opencl", lambda name, e: _OPENCL.read(e, id=name))
    return Devices(machines, profiles, opencl, tuple(source for source, _ in files))


def split_names(entry: Entry) -> Entry:
    """The mapping with each name of a shared entry (``"ADD SUB"``) on its own; later entries add to earlier ones."""
    found: dict[str, Entry] = {}
    for names, item in entry.mapping.items():
        for name in names.split():
            found[name] = merge(found[name], item) if name in found else item
    return Entry(found, entry.source, entry.line, entry.place)


def _with_split_names(document: Entry) -> Entry:
    """Names are split before files are merged and entries inherited, so that each op is changed on its own."""
    profiles = document.mapping.get("profiles")
    if profiles is None or not isinstance(profiles.value, dict):
        return document
    changed = {}
    for name, profile in profiles.value.items():
        if isinstance(profile.value, dict):
            parts = {
                key: split_names(part) if key in ("ops", "utilization") and isinstance(part.value, dict) else part
                for key, part in profile.value.items()
            }
            profile = replace(profile, value=parts)
        changed[name] = profile
    return replace(document, value={**document.mapping, "profiles": replace(profiles, value=changed)})


def _check_version(document: Entry) -> None:
    found = document.mapping.get("version")
    if found is None:
        if document.mapping:
            raise document.error(f"version: {VERSION}", "no version")
    elif found.value != VERSION:
        raise found.error(f"version {VERSION}", advice="this file is for another version of delegraph")


def _section(document: Entry, name: str, make: Callable[[str, Entry], Any]) -> dict[str, Any]:
    section = document.mapping.get(name)
    entries = {} if section is None or section.value is None else section.mapping
    found = {}
    for key, entry in entries.items():
        _NAME.read(Entry(key, entry.source, entry.line, entry.place))
        if "template" not in entry.mapping or not Flag().read(entry.mapping["template"]):
            found[key] = make(key, _inherited(key, entries, ()))
    return found


def _inherited(name: str, entries: dict[str, Entry], below: tuple[str, ...]) -> Entry:
    """The entry with what it inherits, without ``inherit`` and ``template``."""
    entry = entries[name]
    if name in below:
        raise entry.error("an entry that does not inherit from itself", " <- ".join((*below, name)))
    own = {key: item for key, item in entry.mapping.items() if key not in ("inherit", "template")}
    parent = entry.mapping.get("inherit")
    if parent is None:
        return replace(entry, value=own)
    if not isinstance(parent.value, str) or parent.value not in entries:
        raise parent.error("the name of an entry beside it", advice=nearest(str(parent.value), entries))
    base = _inherited(parent.value, entries, (*below, name))
    return merge(base, replace(entry, value=own))


def _profile(name: str, entry: Entry, machines: dict[str, Machine]) -> Profile:
    text = json.dumps([name, entry.plain], sort_keys=True)
    profile: Profile = _PROFILE.read(entry, id=name, digest=hashlib.sha256(text.encode()).hexdigest())
    fields = entry.mapping
    if profile.machine not in machines:
        raise fields["machine"].error("the name of a machine", advice=nearest(profile.machine, machines))
    if machines[profile.machine].cpu is None:
        raise fields["machine"].error("a machine with figures of its CPU", repr(profile.machine))
    if profile.op_set.nnapi_level is None and not profile.ops:
        raise entry.error("ops, since op_set is tflite", "none")
    if profile.only and profile.op_set.nnapi_level is None:
        raise fields["only"].error("an op_set of nnapi to choose from", "tflite")
    return profile
