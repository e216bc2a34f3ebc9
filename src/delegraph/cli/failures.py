"""Errors at the border: exit codes by family, and each error as a sentence with a tip."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from enum import IntEnum

import click

from delegraph.cli.settings import Settings
from delegraph.core.errors import (
    CustomOpError,
    DataError,
    DelegraphError,
    InvalidArgument,
    InvalidDevices,
    InvalidModel,
    OutOfMemory,
    UnsupportedOp,
)


class Exit(IntEnum):
    """Exit codes of ``delegraph``; their meanings are in ``EXIT_CODES``."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    INVALID_MODEL = 3
    UNSUPPORTED_OP = 4
    BAD_INPUT = 5
    DEVICE = 6
    INTERRUPTED = 130
    PIPE_CLOSED = 141


EXIT_CODES = {
    Exit.OK: "it worked",
    Exit.INTERNAL: "an error in delegraph itself",
    Exit.USAGE: "wrong command, option or number of arguments",
    Exit.INVALID_MODEL: "the file is no valid TensorFlow Lite model",
    Exit.UNSUPPORTED_OP: "the model has an op that nothing here can run",
    Exit.BAD_INPUT: "a file can't be read or written, or an input or value doesn't fit",
    Exit.DEVICE: "a device failed or can't be used, and --fallback error forbids another",
    Exit.INTERRUPTED: "interrupted (Ctrl-C)",
    Exit.PIPE_CLOSED: "the reader of the output went away",
}


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""What the system says when it can't take what is written."""


@dataclass(frozen=True)
class Failure:
    """An error as the user sees it."""

    code: Exit
    message: str
    tip: str = ""

    def __str__(self) -> str:
        if self.code is Exit.INTERRUPTED:
            return self.message
        return f"error: {self.message}" + (f"\n  tip: {self.tip}" if self.tip else "")

    def to_json(self) -> dict[str, object]:
        return {
            "exit_code": int(self.code),
            "kind": self.code.name.lower(),
            "message": self.message,
            "tip": self.tip or None,
        }


def describe(exc: Exception, settings: Settings) -> Failure:
    """The failure for an exception. settings: what was called, for tips."""
    code, message, tip = _describe(exc, settings)
    return Failure(code, _one_line(message), _one_line(tip))


def _describe(exc: Exception, settings: Settings) -> tuple[Exit, str, str]:
    from delegraph.core.abi.values import DelegateError

    if isinstance(exc, click.Abort):
        return Exit.INTERRUPTED, "interrupted", ""
    if isinstance(exc, click.ClickException):
        context = getattr(exc, "ctx", None)
        command = context.command_path if context is not None else settings.help_for
        message = exc.format_message().rstrip(".")
        return Exit.USAGE, message[:1].lower() + message[1:], f"{command} --help"
    if isinstance(exc, InvalidModel):
        tip = "delegraph takes TensorFlow Lite models (.tflite); download or convert the file again"
        if ".operators[" in exc.place:
            tip += "; if sizes of its inputs are unknown (delegraph inspect), pass an --input of another size"
        return Exit.INVALID_MODEL, str(exc), tip
    if isinstance(exc, UnsupportedOp):
        tip = f"see all that stands against this model: delegraph inspect {settings.model}"
        if "register_op" in exc.advice:
            tip += f"; a file that registers ops of your own is run with {settings.help_for} --import FILE"
        return Exit.UNSUPPORTED_OP, str(exc), tip
    if isinstance(exc, CustomOpError):
        return Exit.BAD_INPUT, _without(exc, exc.advice), exc.advice or "mend the op's code; --debug shows where"
    if isinstance(exc, InvalidArgument):
        return Exit.BAD_INPUT, _without(exc, exc.advice), exc.advice or f"{settings.help_for} --help"
    if isinstance(exc, InvalidDevices):
        tip = exc.advice or "correct the file; docs/devices.md has the profiles that come along"
        return Exit.BAD_INPUT, _without(exc, exc.advice), tip
    if isinstance(exc, OutOfMemory):
        return Exit.BAD_INPUT, str(exc), "run it on smaller inputs, or where there is more memory"
    if isinstance(exc, DataError):
        return Exit.BAD_INPUT, str(exc), "the values of an input lead there: try another --input, or --random"
    if isinstance(exc, DelegateError):
        tip = "let another device take over: --fallback allow; see what is here: delegraph devices"
        return Exit.DEVICE, str(exc), tip
    from delegraph.partitioner.solver.problem import NoEnergyModel

    if isinstance(exc, NoEnergyModel):
        tip = "leave --objective energy out, or give the profile and its machine's CPU figures: --devices-file"
        return Exit.BAD_INPUT, str(exc), tip
    if isinstance(exc, DelegraphError):
        return Exit.INTERNAL, str(exc), "see where it happened: add --debug"
    if isinstance(exc, OSError) and exc.filename is None and exc.errno in _FULL:
        what = f"expected room for the output, found: {_os_reason(exc)}"
        return Exit.BAD_INPUT, what, "make room where the output goes, or write it elsewhere"
    if isinstance(exc, OSError) and exc.filename is not None:
        return Exit.BAD_INPUT, f"{_file_name(exc.filename)}: {_os_reason(exc)}", _os_tip(exc)
    if isinstance(exc, MemoryError):
        return Exit.INTERNAL, "out of memory", "close other programs, or run a smaller model"
    what = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    return Exit.INTERNAL, f"internal error: {what}", "report it, with the traceback that --debug shows"


def _without(exc: Exception, advice: str) -> str:
    return str(exc).removesuffix(f"; {advice}") if advice else str(exc)


def _os_reason(exc: OSError) -> str:
    if exc.errno == errno.ENOENT:
        return "expected a file, found nothing of that name"
    if exc.errno == errno.EISDIR:
        return "expected a file, found a folder"
    return (exc.strerror or str(exc)).lower()


def _os_tip(exc: OSError) -> str:
    if exc.errno == errno.ENOENT:
        path = _file_name(exc.filename)
        folder = os.path.dirname(os.path.abspath(path))
        return f"look at what is there: ls {folder if os.path.isdir(folder) else '.'}"
    if exc.errno in _FULL:
        return "make room there, or name another file"
    if exc.errno in (errno.EACCES, errno.EPERM):
        return f"look at its permissions: ls -l {_file_name(exc.filename)}"
    return "name another file"


def _file_name(name: object) -> str:
    """A file's name in a message, which may be empty."""
    return (os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else str(name)) or "''"


def _one_line(text: str) -> str:
    """Text from a file or the user, fit for a terminal: one line, no control characters."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], " ".join(text.split("\n")))
