"""The command line: ``delegraph`` and ``python -m delegraph``.

``main`` is the entry point. A command is one file in ``cli/commands`` that calls the library; the modules beside this
one hold what commands share. Everything but click is imported when a command needs it.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from delegraph.cli.failures import Exit, describe
from delegraph.cli.group import PROGRAM, PipeClosedError, cli
from delegraph.cli.settings import Settings

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code (``failures.Exit``); writes errors to stderr."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Known before anything is parsed: what is wrong with the arguments is told in the way that they ask for.
    settings = Settings(debug="--debug" in arguments, as_json="--json" in arguments)
    try:
        result = cli.main(args=arguments, prog_name=PROGRAM, obj=settings, standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else Exit.OK
    except (PipeClosedError, BrokenPipeError):
        _drop_stdout()
        return Exit.PIPE_CLOSED
    except Exception as exc:
        return _failed(exc, settings)


def _failed(exc: Exception, settings: Settings) -> int:
    failure = describe(exc, settings)
    if settings.debug:
        traceback.print_exception(exc, file=sys.stderr)
    try:
        if settings.as_json:
            import json

            print(json.dumps({"error": failure.to_json()}, indent=2))
        sys.stdout.flush()
    except OSError:  # the reader is gone, or the disk is full: the message on stderr is what is left to say
        _drop_stdout()
    print(failure, file=sys.stderr)
    return failure.code


def _drop_stdout() -> None:
    """Send the rest of stdout nowhere, so that the interpreter's last flush can't fail once more."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass
