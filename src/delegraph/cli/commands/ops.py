"""``delegraph ops``: which operators a device takes, in which types, and the sentence of each limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from delegraph.cli import render
from delegraph.cli.options import devices_file_option, import_option
from delegraph.cli.settings import Settings, common_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from delegraph.core.abi.values import DeviceInfo
    from delegraph.core.devices.listing import Limit, OpListing


@click.command(short_help="List the operators, and the limits of each device.")
@click.argument("op", metavar="[OP]", required=False)
@click.option("--device", metavar="ID", help="Only this device (opencl:0), or family (opencl).")
@devices_file_option
@import_option
@common_options
@click.pass_obj
def command(settings: Settings, op: str | None, device: str | None) -> None:
    """List the operators with the devices that take them, the types, and the limits.

    OP: one operator (CONV_2D); shows its limits on every device. With --device, shows all operators of that device. An
    operator that a device runs with other rounding than LiteRT's reference is marked with "~".
    """
    names = _ops(op)
    infos = _devices(device)
    with render.status("asking the devices"):
        rows = [row for info in infos for row in _rows(info, names)]
    if settings.as_json:
        render.write_json([_to_json(row) for row in rows])
    elif op is None and device is None:
        _show_summary(names, rows)
    else:
        _show_limits(rows if op is not None else [row for row in rows if row.verdicts], len(infos) > 1)


def _ops(wanted: str | None) -> list[str]:
    from delegraph.core.devices.document import nearest
    from delegraph.core.errors import InvalidArgument
    from delegraph.core.ops import registry

    known = [op.name for op in registry.all_ops()]
    if wanted is None:
        return known
    if wanted.upper() not in known and wanted not in known:
        near = nearest(wanted.upper(), known)
        advice = near if near.startswith("did") else "list them: delegraph ops"
        raise InvalidArgument("operator", "the name of an operator", repr(wanted), advice)
    return [wanted if wanted in known else wanted.upper()]


def _devices(wanted: str | None) -> list[DeviceInfo]:
    """The devices to ask. Raises InvalidArgument if none of those that are named can be asked."""
    from delegraph import registry
    from delegraph.core.errors import InvalidArgument

    found = registry.devices() if wanted is None else registry.resolve(wanted, floor=False)
    usable = [info for info in found if info.available]
    if not usable:
        why, remedy = found[0].reason, found[0].remedy
        raise InvalidArgument(f"--device {wanted}", "a device that can be asked", f"none: {why}", remedy)
    for info in found:
        if not info.available:
            render.note(f"{info.id} can't be asked: {info.reason}; {info.remedy}")
    return usable


def _rows(info: DeviceInfo, names: Sequence[str]) -> Iterator[OpListing]:
    from delegraph import registry
    from delegraph.core.devices.capability import Capability
    from delegraph.core.devices.listing import of_device, of_profile
    from delegraph.core.devices.locate import profile_of

    profile = profile_of(info)
    if profile is not None:
        capability = Capability(profile)
        yield from (of_profile(info.id, capability, name) for name in names)
    else:
        slot = registry.slot(info)
        yield from (of_device(info.id, slot.supports, name) for name in names)


def _types(row: OpListing) -> str:
    marks = {"deviates": "~"}
    return ", ".join(dtype + marks.get(verdict.value, "") for dtype, verdict in row.verdicts.items())


def _show_summary(names: Sequence[str], rows: Sequence[OpListing]) -> None:
    """A row for each operator and types: those of the devices that agree together."""
    by_op: dict[str, dict[str, list[str]]] = {name: {} for name in names}
    for row in rows:
        if row.verdicts:
            by_op[row.op].setdefault(_types(row), []).append(row.device)
    cells = [
        (name, types, ", ".join(devices))
        for name, groups in by_op.items()
        for types, devices in (groups or {"": ["core itself"]}).items()
    ]
    render.table(("operator", "types", "devices"), cells)


def _show_limits(rows: Sequence[OpListing], with_device: bool) -> None:
    columns = (("operator", "device") if with_device else ("operator",)) + ("types", "limits")
    cells = []
    for row in rows:
        shown = [limit for limit in row.limits if limit.constraint != "dtypes"]  # the types have a column of their own
        sentences = tuple(_sentence(row, limit) for limit in shown) or (row.missing,)
        first = (row.op, row.device) if with_device else (row.op,)
        cells.append((*first, _types(row) or "no", sentences))
    render.table(columns, cells)


def _sentence(row: OpListing, limit: Limit) -> str:
    partial = limit.dtypes and set(limit.dtypes) != set(row.verdicts)
    return f"{', '.join(limit.dtypes)}: {limit.sentence}" if partial else limit.sentence


def _to_json(row: OpListing) -> dict[str, Any]:
    return {
        "op": row.op,
        "device": row.device,
        "types": {dtype: verdict.value for dtype, verdict in row.verdicts.items()},
        "limits": [
            {
                "constraint": each.constraint,
                "sentence": each.sentence,
                "limit": each.limit or None,
                "advice": each.advice,
                "types": list(each.dtypes) or list(row.verdicts),
            }
            for each in row.limits
        ],
        "missing": row.missing,
    }
