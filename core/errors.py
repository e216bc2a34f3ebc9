"""Every exception that delegraph raises on purpose, one class per thing a caller would handle differently.

Imports nothing of delegraph. Message form: *where: what was expected, found what; what to do* - lower case,
no full stop. The data behind a message is kept in attributes; the class builds the message.
"""

from __future__ import annotations

from collections.abc import Callable


class DelegraphError(Exception):
    """Root of all errors that delegraph raises on purpose. They can be pickled, as process pools need."""

    def __reduce__(self) -> tuple[Callable[..., DelegraphError], tuple[type, str, dict[str, object]]]:
        return _rebuilt, (type(self), str(self), self.__dict__)


def _rebuilt(kind: type[DelegraphError], message: str, attributes: dict[str, object]) -> DelegraphError:
    """An error as it was pickled: its class's own ``__init__`` takes other arguments than the message."""
    error = kind.__new__(kind, message)
    error.args = (message,)
    error.__dict__.update(attributes)
    return error


class InternalError(DelegraphError):
    """A rule that delegraph sets itself was broken; please report it.

    Example: ``internal error: plan: tensor 12 is read before it is written; please report this with the model``
    """

    def __init__(self, where: str, what: str) -> None:
        self.where, self.what = where, what
        super().__init__(f"internal error: {where}: {what}; please report this with the model")


class InvalidModel(DelegraphError):
    """The bytes or the graph of a model break a rule of the format.

    Example: ``model.tflite: subgraphs[0].operators[12].inputs[1]: expected a tensor index in [-1, 34), found 99``

    Attributes: source (file name or "model"), place (path within the model), expected, found.
    """

    def __init__(self, place: str, expected: str, found: str, source: str = "model") -> None:
        self.source, self.place, self.expected, self.found = source, place, expected, found
        where = f"{source}: {place}" if place else source
        super().__init__(f"{where}: expected {expected}, found {found}")


class UnsupportedOp(DelegraphError):
    """An op that delegraph has no kernel for, in this form or at all.

    Example: ``subgraphs[0].operators[3] CONV_2D: no kernel for int16*int8; ...``

    Attributes: place, op (name of the op), reason (a sentence), advice (what to do, may be empty), others (names of
    further ops of the model without a kernel).
    """

    def __init__(self, place: str, op: str, reason: str, advice: str = "", others: tuple[str, ...] = ()) -> None:
        self.place, self.op, self.reason, self.advice, self.others = place, op, reason, advice, others
        also = f"also without a kernel: {', '.join(others)}" if others else ""
        super().__init__("; ".join(filter(None, [f"{place} {op}: {reason}", also, advice])))


class CustomOpError(DelegraphError):
    """A function of an operator that was registered with ``dg.register_op`` raised, or broke the contract of OpDef.

    Example: ``subgraphs[0].operators[3] Sinh: expected its kernel to return a tuple of 1 array, found an array; return
    (y,)``. What the function raised is the error's ``__cause__``.

    Attributes: place, op (name of the op), what (a sentence), advice (what to do, may be empty).
    """

    def __init__(self, place: str, op: str, what: str, advice: str = "") -> None:
        self.place, self.op, self.what, self.advice = place, op, what, advice
        super().__init__(f"{place} {op}: {what}" + (f"; {advice}" if advice else ""))


class InvalidArgument(DelegraphError, ValueError):
    """A value that the caller passed is not usable.

    Example: ``input 'image': expected shape [1, 224, 224, 3], found [224, 224, 3]; add the missing axis``
    """

    def __init__(self, where: str, expected: str, found: str, advice: str = "") -> None:
        self.where, self.expected, self.found, self.advice = where, expected, found, advice
        super().__init__(f"{where}: expected {expected}, found {found}" + (f"; {advice}" if advice else ""))


class NoEnergyModel(InvalidArgument):
    """Energy is to be least, but what some device needs is not known.

    Example: ``objective energy: expected an energy cost for every candidate, found none for opencl:0; use the objective
    latency, or leave these out``

    Attributes: devices (ids of those without a figure).
    """

    def __init__(self, devices: tuple[str, ...]) -> None:
        self.devices = devices
        names = ", ".join(device or "core" for device in devices)
        advice = "use the objective latency, or leave these out"
        super().__init__("objective energy", "an energy cost for every candidate", f"none for {names}", advice)


class DataError(DelegraphError):
    """An op met data in a run that it has no result for.

    Example: ``subgraphs[0].operators[7] GATHER: expected indices in [0, 10), found 12``

    Attributes: place, expected, found.
    """

    def __init__(self, place: str, expected: str, found: str) -> None:
        self.place, self.expected, self.found = place, expected, found
        super().__init__(f"{place}: expected {expected}, found {found}")


class InvalidDevices(DelegraphError):
    """A file of device profiles breaks a rule of its format.

    Example: ``devices.yaml:41: profiles.coral-usb.launch_ns: expected a whole number of at least 0, found 'fast'``

    Attributes: source (file name), line (from 1; 0 for the file as a whole), place (path within the file), expected,
    found, advice (may be empty).
    """

    def __init__(self, source: str, line: int, place: str, expected: str, found: str, advice: str = "") -> None:
        self.source, self.line, self.place = source, line, place
        self.expected, self.found, self.advice = expected, found, advice
        where = ": ".join(filter(None, (f"{source}:{line}" if line else source, place)))
        super().__init__(f"{where}: expected {expected}, found {found}" + (f"; {advice}" if advice else ""))


class OutOfMemory(DelegraphError):
    """An op would need more memory than there is.

    Example: ``subgraphs[0].operators[3] RESIZE_BILINEAR: out of memory: unable to allocate 36.3 GiB``

    Attributes: place, what.
    """

    def __init__(self, place: str, what: str) -> None:
        self.place, self.what = place, what
        super().__init__(f"{place}: out of memory: {what}")
