"""The device list of a C plug-in as DeviceInfo values. Imports structs, library."""

from __future__ import annotations

from collections.abc import Sequence

from delegraph.core.abi.native import structs
from delegraph.core.abi.native.library import checked_count, items, text, texts
from delegraph.core.abi.native.structs import BadStruct
from delegraph.core.abi.values import DeviceInfo, Limits, Link
from delegraph.core.graph.dtype import DType

_KINDS = ("cpu", "gpu", "accelerator")


def device_infos(address: int, name: str) -> tuple[DeviceInfo, ...]:
    """The devices of delegate ``name``. Raises BadStruct for a list that breaks a rule of the header."""
    devices = structs.read(address, structs.DeviceList)
    found = tuple(_info(d) for d in items(devices.items, devices.n_items, structs.DeviceInfo))
    problem = wrong_ids(found, name)
    if problem:
        raise BadStruct(problem)
    return found


def wrong_ids(devices: Sequence[DeviceInfo], name: str) -> str:
    """What is wrong with the ids of delegate ``name``'s devices, or "": each is its name or "name:what", and unique."""
    ids = [info.id for info in devices]
    for i in ids:
        if i != name and not (i.startswith(f"{name}:") and len(i) > len(name) + 1):
            return f"expected device ids {name!r} or '{name}:...', found {i!r}"
    return "" if len(set(ids)) == len(ids) else f"expected unique device ids, found {ids}"


def _info(d: structs.DeviceInfo) -> DeviceInfo:
    kind = text(d.kind)
    if kind not in _KINDS:
        raise BadStruct(f"expected a device kind of {', '.join(_KINDS)}, found {kind!r}")
    try:
        dtypes = tuple(str(DType(d.dtypes[i])) for i in range(checked_count(d.n_dtypes, d.dtypes)))
    except ValueError as exc:
        raise BadStruct(f"expected numbers of TensorType as dtypes, found {exc}") from None
    keys, values = texts(d.fingerprint_names, d.n_fingerprint), texts(d.fingerprint_values, d.n_fingerprint)
    return DeviceInfo(
        id=text(d.id),
        kind=kind,
        vendor=text(d.vendor),
        driver=text(d.driver),
        dtypes=dtypes,
        fingerprint=dict(zip(keys, values, strict=True)),
        available=bool(d.is_available),
        reason=text(d.reason),
        remedy=text(d.remedy),
        is_virtual=bool(d.is_virtual),
        may_hang=bool(d.may_hang),
        features=texts(d.features, d.n_features),
        resource=text(d.resource),
        to_device=_link(d.to_device_latency_ns, d.to_device_bytes_per_s),
        from_device=_link(d.from_device_latency_ns, d.from_device_bytes_per_s),
        launch_ns=max(0, d.launch_ns),
        numerics=text(d.numerics) or "exact",
        limits=Limits(
            max_segments=None if d.max_segments < 0 else d.max_segments,
            prefix_only=bool(d.prefix_only),
            weight_budget_bytes=None if d.weight_budget_bytes < 0 else d.weight_budget_bytes,
            min_ops=max(1, d.min_ops),
        ),
        load_may_jit=bool(d.load_may_jit),
    )


def _link(latency_ns: int, bytes_per_s: int) -> Link:
    return Link(max(0, latency_ns), max(0, bytes_per_s))
