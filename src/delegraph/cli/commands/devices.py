"""``delegraph devices``: every device, also those that can't be used, with the reason and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from delegraph.cli import render
from delegraph.cli.options import devices_file_option
from delegraph.cli.settings import Settings, common_options

if TYPE_CHECKING:
    from delegraph.core.abi.values import DeviceInfo


@click.command(short_help="List the devices, usable or not.")
@click.argument("device", metavar="[ID]", required=False)
@devices_file_option
@click.option("--no-calibrate", is_flag=True, help="Don't measure peaks that are not known yet.")
@common_options
@click.pass_obj
def command(settings: Settings, device: str | None, no_calibrate: bool) -> None:
    """List the devices, usable or not.

    ID: one device (opencl:0), or a family (opencl) for all of its devices; shows everything known of them. What the
    devices of this machine can do at most is measured the first time, in seconds, and kept.
    """
    from delegraph import registry

    found = registry.devices()
    if device is not None:
        found = _matching(found, device)
    if settings.as_json:
        render.write_json([_to_json(info, measure=not no_calibrate) for info in found])
    elif device is None:
        render.table(("device", "kind", "usable", "driver", "why not, and what to do"), [_row(i) for i in found])
    else:
        for position, info in enumerate(found):
            if position:
                render.line()
            _show(info, measure=not no_calibrate)


def _matching(found: list[DeviceInfo], wanted: str) -> list[DeviceInfo]:
    from delegraph import registry

    family = wanted.partition(":")[0]
    matching = [info for info in found if wanted in (info.id, info.id.partition(":")[0])]
    whole = [info for info in found if info.id == family and not info.available]  # a family that can't be used
    if not matching and not whole:
        raise registry.unknown("device", wanted)
    return matching or whole


def _to_json(info: DeviceInfo, *, measure: bool) -> dict[str, Any]:
    return {
        "id": info.id,
        "kind": info.kind,
        "available": info.available,
        "reason": info.reason,
        "remedy": info.remedy,
        "is_virtual": info.is_virtual,
        "machine": info.machine,
        "vendor": info.vendor,
        "driver": info.driver,
        "dtypes": list(info.dtypes),
        "fingerprint": dict(info.fingerprint),
        "may_hang": info.may_hang,
        "peaks": _peaks(info, measure=measure),
    }


def _peaks(info: DeviceInfo, *, measure: bool) -> dict[str, Any] | None:
    """The published peaks of an emulated device, the measured ones of a real one; None where they aren't known."""
    from delegraph.core.devices.locate import profile_of
    from delegraph.core.errors import DelegraphError

    profile = profile_of(info)
    if profile is not None:
        return {
            "source": "devices.yaml",
            "ops_per_s": {str(dtype): rate for dtype, rate in profile.ops_per_s.items()},
            "memory_bytes_per_s": profile.memory_bytes_per_s,
            "launch_ns": profile.launch_ns,
        }
    if not measure or not info.available or info.is_virtual:
        return None
    from delegraph.storage import measured_peaks

    try:
        with render.status(f"measuring {info.id}"):
            return {"source": "measured", **measured_peaks(info).to_json()}
    except DelegraphError as exc:
        render.note(f"{info.id} could not be measured: {exc}")
        return None


def _usable(info: DeviceInfo) -> str:
    return ("yes" if info.available else "no") + (" (emulated)" if info.is_virtual else "")


def _row(info: DeviceInfo) -> tuple[str, ...]:
    why = "; ".join(filter(None, (info.reason, info.remedy)))
    return info.id, info.kind, _usable(info), info.driver, why


def _show(info: DeviceInfo, *, measure: bool) -> None:
    peaks = _peaks(info, measure=measure) or {}
    rates = ", ".join(f"{render.rate(rate)}/s {name}" for name, rate in peaks.get("ops_per_s", {}).items())
    memory = peaks.get("memory_bytes_per_s") or 0
    render.pairs(
        [
            ("device", info.id),
            ("kind", info.kind),
            ("usable", _usable(info)),
            ("why not", info.reason),
            ("what to do", info.remedy),
            ("vendor", info.vendor),
            ("driver", info.driver),
            ("machine", info.machine),
            ("types", ", ".join(info.dtypes)),
            ("operations", f"{rates} ({peaks.get('source')})" if rates else ""),
            ("memory", f"{render.rate(memory)}B/s" if memory else ""),
            ("launch", f"{peaks.get('launch_ns', 0) / 1e3:.3g} us" if peaks.get("launch_ns") else ""),
            ("may hang", "yes, its runs are watched" if info.may_hang else ""),
            *((f"fingerprint: {name}", value) for name, value in info.fingerprint.items()),
        ]
    )
