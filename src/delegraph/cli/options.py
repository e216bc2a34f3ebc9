"""Types of options that several commands share, and the options that say how a model is compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:  # generic for type checkers only: older releases of click can't be subscripted
    ListType = click.ParamType[list[Any]]
    IntType = click.ParamType[int]
    PairType = click.ParamType[tuple[str, str]]
else:
    ListType = IntType = PairType = click.ParamType

F = TypeVar("F", bound=Callable[..., Any])


class CommaList(ListType):
    """Items separated by commas, each read by ``item``."""

    def __init__(self, name: str, item: Callable[[str], Any], expected: str) -> None:
        self.name, self._item, self._expected = name, item, expected

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        if isinstance(value, list):
            return value
        try:
            return [self._item(part.strip()) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"expected {self._expected}, found {value!r}", param, ctx)


def _name(text: str) -> str:
    if not text:
        raise ValueError
    return text


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0:
        raise ValueError
    return value


NAMES = CommaList("names", _name, "names separated by commas")
NUMBERS = CommaList("numbers", _finite, "numbers separated by commas")


class Seed(IntType):
    """A seed of random values; says what happened when it swallowed the model's name."""

    name = "seed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            seed = int(value)
        except (TypeError, ValueError):
            self.fail(f"expected a whole number as the seed, found {value!r}; put MODEL before --random", param, ctx)
        if seed < 0:
            self.fail(f"expected a seed of at least 0, found {seed}", param, ctx)
        return seed


def _in_range(
    kind: click.IntRange | click.FloatRange,
    read: Callable[[Any], Any],
    what: str,
    value: Any,
    param: click.Parameter | None,
    ctx: click.Context | None,
) -> Any:
    """The number in the value; fails with the range that it has to be in, whatever is wrong with it."""
    limits = f"of at least {kind.min}" if kind.max is None else f"from {kind.min} to {kind.max}"
    try:
        number = read(value)
    except (TypeError, ValueError):
        kind.fail(f"expected {what} {limits}, found {value!r}", param, ctx)
    if (kind.min is not None and not number >= kind.min) or (kind.max is not None and not number <= kind.max):
        kind.fail(f"expected {what} {limits}, found {number}", param, ctx)
    return number


class Whole(click.IntRange):
    """A whole number in a range."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number: int = _in_range(self, int, "a whole number", value, param, ctx)
        return number


class Amount(click.FloatRange):
    """A number in a range."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = _in_range(self, float, "a number", value, param, ctx)
        return number


class PinType(PairType):
    """``OPS=DEVICE``: an op's index, a range or an operator's name, and a device."""

    name = "pin"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        ops, equals, device = str(value).partition("=")
        if not (ops and equals and device):
            self.fail(f"expected OPS=DEVICE, found {value!r}", param, ctx)
        return ops, device


def pins_of(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """What ``--pin`` was given, as ``dg.compile`` takes it.

    Raises:
        InvalidArgument: two devices for the same ops.
    """
    found: dict[str, str] = {}
    for ops, device in pairs:
        if found.setdefault(ops, device) != device:
            from delegraph.core.errors import InvalidArgument

            raise InvalidArgument(
                "--pin", f"one device for {ops}", f"{found[ops]} and {device}", "leave out one of them"
            )
    return found


def exclusions_of(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """What ``--exclude`` was given, as ``dg.compile`` takes it. Ops may be kept off several devices: a mapping has
    room for that under further names of the same ops, with zeros before the graph's number."""
    found: dict[str, str] = {}
    for ops, device in dict.fromkeys(pairs):
        name = ops
        while name in found:
            name = f"0{name}" if ":" in name else f"0:{name}"
        found[name] = device
    return found


def _use_devices_file(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        from delegraph.core import devices

        devices.load(value)  # now: later on, a file that can't be read is no more than devices that can't be used
        devices.use(value)


def devices_file_option(function: F) -> F:
    """``--devices-file``: read before anything else asks for a device."""
    return click.option(
        "--devices-file",
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=_use_devices_file,
        help="Profiles and machines of your own, over those that come along.",
    )(function)


def _import(context: click.Context, _: click.Parameter, values: Sequence[str]) -> None:
    if values:
        from delegraph.cli.imports import run_module

        for value in values:
            run_module(value)


def import_option(function: F) -> F:
    """``--import``: what it names is run before the model is read, and may register ops."""
    return click.option(
        "--import",
        multiple=True,
        metavar="MODULE_OR_FILE",
        is_eager=True,
        expose_value=False,
        callback=_import,
        help="Run this module or .py file first, which may register ops (dg.register_op). May be repeated.",
    )(function)


def placement_options(function: F) -> F:
    """What says where ops go, named as ``dg.compile`` has it."""
    for option in (
        devices_file_option,
        click.option(
            "--placement-file",
            metavar="FILE",
            help="Take the placement in this file (as explain --json writes it) in place of a search.",
        ),
        click.option(
            "--machine",
            metavar="NAME",
            help="Whose costs count: host, or a machine of devices.yaml; by default that of the devices.",
        ),
        click.option(
            "--objective",
            type=click.Choice(["latency", "energy"]),
            default="latency",
            show_default=True,
            help="What the split is to have least of.",
        ),
        click.option(
            "--exclude",
            multiple=True,
            type=PinType(),
            metavar="OPS=DEVICE",
            help="Keep ops off a device, in the same form. May be repeated.",
        ),
        click.option(
            "--pin",
            "pins",
            multiple=True,
            type=PinType(),
            metavar="OPS=DEVICE",
            help="Run ops on a device, by index (12), range (3-17) or name (CONV_2D). May be repeated.",
        ),
    ):
        function = option(function)
    return function


def compile_options(function: F) -> F:
    """``--devices``, ``--numerics``, ``--threads`` and ``--fallback``, named as ``dg.compile`` has them."""
    for option in (
        click.option(
            "--fallback",
            type=click.Choice(["allow", "error"]),
            default="allow",
            show_default=True,
            help="When a device can't run something: let the next one (allow), or stop (error).",
        ),
        click.option(
            "--threads",
            type=Whole(min=1),
            help="How many threads the CPU may use; accepted, and without effect yet.",
        ),
        click.option(
            "--numerics",
            type=click.Choice(["exact", "fast"]),
            default="exact",
            show_default=True,
            help="exact: LiteRT's reference results; fast: also devices that round otherwise.",
        ),
        click.option(
            "--devices",
            type=NAMES,
            metavar="LIST",
            help="Devices in order of preference, as cpu or opencl:0,cpu (default: cpu).",
        ),
    ):
        function = option(function)
    return function
