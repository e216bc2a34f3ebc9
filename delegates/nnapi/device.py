"""An emulated device: its profile says what runs and how long it takes, an exact host device computes.

Imports core.devices. The artifact is the host's, behind a header that names the profile and the host.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from delegraph.core.abi.protocols import Buffer, Context, Device, Event, Packs, Program
from delegraph.core.abi.values import (
    CONVERSIONS,
    SUPPORTED,
    Artifact,
    DelegateError,
    DeviceInfo,
    ErrorCode,
    Estimate,
    GraphView,
    Options,
    Segment,
    Support,
    Verdict,
)
from delegraph.core.devices.capability import Capability
from delegraph.core.devices.rules.operands import feature_maps
from delegraph.core.devices.values import Profile
from delegraph.core.graph.graph import Array, Graph
from delegraph.core.ops.opdef import Node
from delegraph.delegates.nnapi.model import node_estimate, segment_estimate, transfer_ns

ARTIFACT_FORMAT = "nnapi-0"


class NnapiDevice(Device):
    """Device ``nnapi:<profile>``. host: an exact device; it is the caller's to close, after this one."""

    def __init__(self, info: DeviceInfo, profile: Profile, host: Device) -> None:
        self.info = info
        self.profile = profile
        self._host = host
        self._capability = Capability(profile)

    # --- what it takes ------------------------------------------------------------------------------------------------

    def supports(self, view: GraphView) -> Sequence[Support]:
        answers = zip(view.nodes, self._host.supports(view), strict=True)
        return [self._support(node, answer) for node, answer in answers]

    def _support(self, node: Node, hosts: Support) -> Support:
        name = node.op.name
        if self._capability.constraints(name) is None:
            missing = self._capability.missing(name)
            return Support(Verdict.NO, "op_set", missing.reason, missing.advice, name, missing.limit)
        if not hosts.runs:  # what the host can't compute is no valid op, so that the rules don't apply to it
            return replace(hosts, reason=f"{self._host.info.id}, which computes for it: {hosts.reason}")
        broken = self._capability.broken(node)
        if broken:
            first = broken[0]
            return Support(
                Verdict.NO,
                f"{name}.{first.constraint.id}",
                "; ".join(each.reason for each in broken),
                first.constraint.advice,
                first.found,
                first.constraint.limit,
            )
        differs = self._capability.deviation(name, [spec.dtype for spec in feature_maps(node)])
        return Support(Verdict.DEVIATES, "numerics", differs) if differs else hosts

    def check(self, segment: Segment) -> Support:
        limits = self.profile.limits
        if len(segment.nodes) < limits.min_ops:
            found = f"{len(segment.nodes)} ops"
            reason = f"a segment has at least {limits.min_ops} ops, found {found}"
            return Support(Verdict.NO, "segment.min_ops", reason, "", found, str(limits.min_ops))
        if limits.prefix_only:
            late = [i for i in segment.inputs if not _is_start(segment.graph, i)]
            if late:
                reason = f"a segment starts at the graph's inputs, found one that starts at tensor {late[0]}"
                advice = "run the ops before it on this device too"
                return Support(Verdict.NO, "segment.prefix_only", reason, advice, str(late[0]), "the graph's inputs")
        answer = self._host.check(segment)
        return SUPPORTED if answer.runs else replace(answer, reason=f"{self._host.info.id}: {answer.reason}")

    # --- how long it takes --------------------------------------------------------------------------------------------

    def estimate(self, view: GraphView) -> Sequence[Estimate | None]:
        return [node_estimate(self.profile, node) for node in view.nodes]

    def estimate_segment(self, segment: Segment) -> Estimate | None:
        """Only where constants may have to be fetched each run: else a segment is the sum of its ops."""
        cache, rate = self.profile.weight_cache_bytes, self.profile.weights_bytes_per_s
        return segment_estimate(self.profile, segment) if cache and rate else None

    def timings(self, segment: Segment) -> Mapping[str, int]:
        """The modelled parts of one run in nanoseconds ("energy" in nanojoules, where a model is known)."""
        profile, cost = self.profile, segment_estimate(self.profile, segment)
        delivered = (*segment.outputs, *segment.variables)
        parts = {
            "launch": profile.launch_ns,
            "to_device": sum(transfer_ns(profile.to_device, segment.specs[i].size_bytes) for i in segment.inputs),
            "from_device": sum(transfer_ns(profile.from_device, segment.specs[i].size_bytes) for i in delivered),
        }
        if cost is not None:
            parts |= {"compute": cost.time_ns} | ({"energy": cost.energy_nj} if profile.energy else {})
        return parts

    # --- how it computes: on the host ---------------------------------------------------------------------------------

    def compile(self, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None) -> Artifact:
        hosts = self._host.compile(segment, packs, options, deadline=deadline)
        header = json.dumps(self._header(hosts.format), sort_keys=True).encode()
        payload = b"".join((struct.pack("<I", len(header)), header, bytes(hosts.payload)))
        return Artifact(ARTIFACT_FORMAT, payload, hosts.packs)

    def load(self, artifact: Artifact, segment: Segment, packs: Packs) -> NnapiProgram:
        hosts = self._unwrapped(artifact)
        return NnapiProgram(self._host.load(hosts, segment, packs), self.info.id, self.timings(segment))

    def _header(self, hosts_format: str) -> dict[str, object]:
        host = self._host.info
        return {
            "profile": self.profile.digest,
            "host": host.id,
            "fingerprint": dict(host.fingerprint),
            "format": hosts_format,
        }

    def _unwrapped(self, artifact: Artifact) -> Artifact:
        """The host's artifact. Raises DelegateError ARTIFACT_REFUSED."""
        if artifact.format != ARTIFACT_FORMAT:
            raise self._refused(f"format {artifact.format!r}")
        payload = memoryview(artifact.payload)
        try:
            (size,) = struct.unpack_from("<I", payload)
            if size > len(payload) - 4:
                raise ValueError("the header ends behind the payload")
            header = json.loads(bytes(payload[4 : 4 + size]))
            hosts_format = str(header["format"])
        except (struct.error, ValueError, TypeError, KeyError) as exc:
            raise self._refused("damaged") from exc
        if header != self._header(hosts_format):
            wanted = self._header(hosts_format)
            changed = [name for name in wanted if header.get(name) != wanted[name]]
            raise self._refused(f"made for another {' and '.join(changed) or 'device'}")
        return Artifact(hosts_format, payload[4 + size :], artifact.packs)

    def _refused(self, found: str) -> DelegateError:
        return DelegateError(self.info.id, ErrorCode.ARTIFACT_REFUSED, found)

    def allocate(self, size_bytes: int, alignment: int = 64) -> Buffer:
        return self._host.allocate(size_bytes, alignment)

    def write(self, source: Array, target: Buffer, *, after: Sequence[Event] = ()) -> Event:
        return self._host.write(source, target, after=after)

    def read(self, source: Buffer, target: Array, *, after: Sequence[Event] = ()) -> Event:
        return self._host.read(source, target, after=after)

    def close(self) -> None:
        return None


def _is_start(graph: Graph, tensor: int) -> bool:
    """Whether a tensor is an input of the graph, state, or one that was only converted to the device's type."""
    producer = graph.producers.get(tensor)
    if producer is None:
        return True
    return producer.name in CONVERSIONS and _is_start(graph, producer.inputs[0])


class NnapiProgram(Program):
    """The host's program. timings: the modelled parts of one run, see ``NnapiDevice.timings``."""

    def __init__(self, program: Program, device: str, timings: Mapping[str, int]) -> None:
        self._device = device
        self.scratch_bytes = program.scratch_bytes
        self.alignment = program.alignment
        self.timings = timings
        self._program = program

    def context(self, scratch: Buffer) -> NnapiContext:
        return NnapiContext(self._program.context(scratch), self._device, self.timings)

    def close(self) -> None:
        self._program.close()


class NnapiContext(Context):
    """The host's context; its events carry the modelled timings."""

    def __init__(self, context: Context, device: str, timings: Mapping[str, int]) -> None:
        self._context, self._device = context, device
        self._timings = timings

    def bind(self, inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> None:
        self._context.bind(inputs, outputs)

    def run(self, *, after: Sequence[Event] = (), deadline: float | None = None) -> NnapiEvent:
        with _in_the_name_of(self._device):
            return NnapiEvent(self._context.run(after=after, deadline=deadline), self._device, self._timings)


@dataclass(frozen=True, slots=True, eq=False)
class NnapiEvent:
    """The end of a run. timings: its modelled parts, see ``NnapiDevice.timings``."""

    ended: Event
    device: str
    timings: Mapping[str, int]

    def wait(self, timeout: float | None = None) -> None:
        with _in_the_name_of(self.device):
            self.ended.wait(timeout)


@contextmanager
def _in_the_name_of(device: str) -> Iterator[None]:
    """An error of the host device is this device's."""
    try:
        yield
    except DelegateError as exc:
        raise DelegateError(device, exc.code, exc.message) from exc
