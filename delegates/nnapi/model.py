"""Modelled time and energy of a profile: a roofline over its published figures. Imports core.devices.

An op takes as long as the slowest of computing, moving feature maps, and fetching constants that don't stay on the
device, and a fixed time on top. A segment takes as long as its ops, or as fetching all constants that its cache has no
room for, whichever is longer: on the devices that have such a cache, computing hides behind the transfer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from delegraph.core.abi.values import Estimate, Link, Segment
from delegraph.core.devices.rules.operands import data_inputs
from delegraph.core.devices.values import Profile
from delegraph.core.ops import registry
from delegraph.core.ops.opdef import Node, TensorSpec


def node_estimate(profile: Profile, node: Node) -> Estimate | None:
    """The cost of one op, or None for an op without an OpDef."""
    opdef = registry.find(node.op.name)
    if opdef is None:
        return None
    work = opdef.count(node)
    share = profile.utilization.get(node.op.name, profile.utilization["default"])
    compute_s = (2 * work.macs + work.element_ops) / (_rate(profile, node) * share)
    weights = constant_bytes([node])
    maps = max(0, work.bytes_read - weights) + work.bytes_written
    seconds = max(compute_s, maps / profile.memory_bytes_per_s, _weights_s(profile, weights))
    return Estimate(profile.op_ns + _ns(seconds), _energy_nj(profile, work.macs, maps + weights))


def segment_estimate(profile: Profile, segment: Segment) -> Estimate | None:
    """The cost of a segment, or None when that of an op of it is not known."""
    costs = [node_estimate(profile, node) for node in segment.nodes]
    known = [cost for cost in costs if cost is not None]
    if len(known) != len(costs):
        return None
    time_ns = sum(cost.time_ns for cost in known)
    cache, rate = profile.weight_cache_bytes, profile.weights_bytes_per_s
    if cache and rate:
        time_ns = max(time_ns, _ns(max(0, constant_bytes(segment.nodes) - cache) / rate))
    return Estimate(time_ns, sum(cost.energy_nj for cost in known))


def transfer_ns(link: Link, size_bytes: int) -> int:
    """One transfer over a link; nothing where memory is shared."""
    return link.latency_ns + (_ns(size_bytes / link.bytes_per_s) if link.bytes_per_s else 0)


def constant_bytes(nodes: Iterable[Node]) -> int:
    """Bytes of the constants that nodes read, each counted once."""
    found: dict[int, TensorSpec] = {}
    for node in nodes:
        for index, spec in zip(node.op.inputs, node.inputs, strict=False):
            if spec is not None and spec.value is not None:
                found[index] = spec
    return sum(spec.size_bytes for spec in found.values())


def _rate(profile: Profile, node: Node) -> float:
    """Operations a second on the node's data; on a type without a figure, those of the slowest with one."""
    found = [profile.ops_per_s[spec.dtype] for spec in data_inputs(node) if spec.dtype in profile.ops_per_s]
    return min(found or profile.ops_per_s.values())


def _weights_s(profile: Profile, size_bytes: int) -> float:
    if profile.weight_cache_bytes == 0 and profile.weights_bytes_per_s:
        return size_bytes / profile.weights_bytes_per_s
    return 0.0


def _energy_nj(profile: Profile, macs: int, moved_bytes: int) -> int:
    energy = profile.energy
    return 0 if energy is None else math.ceil((energy.mac_pj * macs + energy.byte_pj * moved_bytes) / 1000)


def _ns(seconds: float) -> int:
    return math.ceil(seconds * 1e9)
