"""The ``delegraph`` command itself: finds its commands in ``cli/commands``, one module each, loaded when asked for.

A module ``x_y.py`` there is the command ``x-y``; it defines ``command``, a click command, and imports nothing heavy
before that command runs.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Sequence
from typing import Any

import click

from delegraph.cli import commands
from delegraph.cli.failures import EXIT_CODES
from delegraph.cli.settings import Settings
from delegraph.core.version import __version__

PROGRAM = "delegraph"


class PipeClosedError(Exception):
    """Whoever read our output went away. (Not an OSError, which click would handle in its own way.)"""


class CommandFolder(click.Group):
    """A group whose commands are the modules of a package."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(commands.__path__))

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(context):
            return None
        module = importlib.import_module(f"{commands.__name__}.{name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        names = self.list_commands(context)
        if args and args[0] not in names and not args[0].startswith("-"):
            raise click.UsageError(_no_command(args[0], names), context)
        name, command, rest = super().resolve_command(context, args)
        context.ensure_object(Settings).help_for = f"{context.command_path} {name}"
        return name, command, rest

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except BrokenPipeError:
            raise PipeClosedError from None


def _no_command(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f"no command {name!r}" + (f"; did you mean {near[0]!r}?" if near else f"; there is {', '.join(names)}")


def _debug(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Settings).debug = True


@click.command(
    cls=CommandFolder,
    epilog="\b\nExit codes:\n" + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items()),
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
)
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, expose_value=False, callback=_debug, help="Show the traceback of an error.")
@click.pass_context
def cli(context: click.Context) -> None:
    """Run and understand TensorFlow Lite models on the devices of this machine."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
