"""``delegraph devices``: every device, also those that can't be used, with the reason and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from delegraph.cli import render
from delegraph.cli.settings import Settings, common_options

if TYPE_CHECKING:
    from delegraph.core.abi.values import DeviceInfo


@click.command()
@click.argument("device", metavar="[ID]", required=False)
@common_options
@click.pass_obj
def command(settings: Settings, device: str | None) -> None:
    """List the devices, usable or not.

    ID: one device (opencl:0), or a family (opencl) for all of its devices; shows everything known of them.
    """
    from delegraph import registry

    found = registry.devices()
    if device is not None:
        found = _matching(found, device)
    if settings.as_json:
        render.write_json([_to_json(info) for info in found])
    elif device is None:
        render.table(("device", "kind", "usable", "driver", "why not, and what to do"), [_row(i) for i in found])
    else:
        for position, info in enumerate(found):
            if position:
                render.line()
            _show(info)


def _matching(found: list[DeviceInfo], wanted: str) -> list[DeviceInfo]:
    from delegraph.core.errors import InvalidArgument

    matching = [info for info in found if wanted in (info.id, info.id.partition(":")[0])]
    if not matching:
        known = ", ".join(info.id for info in found)
        raise InvalidArgument("device", f"one of {known}", repr(wanted), "list them: delegraph devices")
    return matching


def _to_json(info: DeviceInfo) -> dict[str, Any]:
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
        "peaks": _peaks(info),
    }


def _peaks(info: DeviceInfo) -> dict[str, Any] | None:
    """The published peaks of an emulated device; None for one whose peaks have to be measured."""
    from delegraph.core.devices.locate import profile_of

    profile = profile_of(info)
    if profile is None:
        return None
    return {
        "source": "devices.yaml",
        "ops_per_s": {str(dtype): rate for dtype, rate in profile.ops_per_s.items()},
        "memory_bytes_per_s": profile.memory_bytes_per_s,
        "launch_ns": profile.launch_ns,
    }


def _usable(info: DeviceInfo) -> str:
    return ("yes" if info.available else "no") + (" (emulated)" if info.is_virtual else "")


def _row(info: DeviceInfo) -> tuple[str, ...]:
    why = "; ".join(filter(None, (info.reason, info.remedy)))
    return info.id, info.kind, _usable(info), info.driver, why


def _show(info: DeviceInfo) -> None:
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
            ("may hang", "yes, its runs are watched" if info.may_hang else ""),
            *((f"fingerprint: {name}", value) for name, value in info.fingerprint.items()),
        ]
    )
