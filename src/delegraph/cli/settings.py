"""What holds for a whole call of the command line, and the options that set it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Settings:
    """debug: show tracebacks. as_json: stdout gets one JSON value and nothing else. help_for: the command that is
    called. model: the model that it is about, for tips."""

    debug: bool = False
    as_json: bool = False
    help_for: str = "delegraph"
    model: str = "MODEL"


def common_options(function: F) -> F:
    """The options that every command has: ``--json`` and ``--debug``."""
    function = click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_set("debug"),
        help="Show the traceback of an error.",
    )(function)
    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_set("as_json"),
        help="Write one JSON value to stdout; messages stay on stderr.",
    )(function)


def _set(name: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def callback(context: click.Context, _: click.Parameter, value: bool) -> None:
        settings = context.ensure_object(Settings)
        settings.help_for = context.command_path
        if value:
            setattr(settings, name, True)

    return callback
