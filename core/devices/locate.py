"""Which files are read, and the result kept: shipped, then the user's, then the environment's, then the one named.

Imports core.devices; nothing is read before somebody asks.
"""

from __future__ import annotations

import os
from pathlib import Path

from delegraph.core.abi.values import DeviceInfo
from delegraph.core.devices.values import Devices, Profile
from delegraph.core.errors import InvalidDevices
from delegraph.core.forks import RenewedLock

ENVIRONMENT = "DELEGRAPH_DEVICES_FILE"
SHIPPED = Path(__file__).parents[2] / "devices.yaml"
"""The file that comes with delegraph."""

_guard = RenewedLock()
_named: list[str] = []
_known: dict[tuple[tuple[str, int, int], ...], Devices] = {}


def use(named: str | os.PathLike[str] | None) -> None:
    """Sets the file that is read last in this process (``--devices-file``); None: no such file."""
    _named[:] = [] if named is None else [os.fspath(named)]


def paths(named: str | os.PathLike[str] | None = None) -> list[Path]:
    """The files, earlier ones first. named: the last one; by default that of ``use``.

    Raises:
        InvalidDevices: a file that the environment or the user names is not there.
    """
    from platformdirs import user_config_dir

    found = [SHIPPED]
    users = Path(user_config_dir("delegraph")) / "devices.yaml"
    if users.is_file():
        found.append(users)
    for origin, path in ((ENVIRONMENT, os.environ.get(ENVIRONMENT)), ("", named or next(iter(_named), None))):
        if path:
            if not Path(path).is_file():
                advice = f"correct the environment variable {origin}" if origin else "name another file"
                raise InvalidDevices(os.fspath(path), 0, "", "a file", "none of that name", advice)
            found.append(Path(path))
    return found


def load(named: str | os.PathLike[str] | None = None) -> Devices:
    """What the files say, read once for each version of them.

    Raises:
        InvalidDevices: a file can't be read, or breaks a rule of the format.
    """
    files = paths(named)
    stamp = tuple(_stamp(path) for path in files)
    with _guard.lock:
        if stamp not in _known:
            from delegraph.core.devices.reader import read

            _known[stamp] = read([(str(path), _content(path)) for path in files])
        return _known[stamp]


def profile_of(info: DeviceInfo) -> Profile | None:
    """The profile behind an emulated device (``family:profile``), or None for any other device."""
    family, _, name = info.id.partition(":")
    if not info.is_virtual or not name:
        return None
    profile = load().profiles.get(name)
    return profile if profile is not None and profile.family == family else None


def _stamp(path: Path) -> tuple[str, int, int]:
    """What changes when a file does."""
    try:
        status = path.stat()
    except OSError as exc:
        raise _unreadable(path, exc) from exc
    return str(path), status.st_mtime_ns, status.st_size


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise _unreadable(path, exc) from exc


def _unreadable(path: Path, exc: OSError) -> InvalidDevices:
    return InvalidDevices(str(path), 0, "", "a file that can be read", (exc.strerror or str(exc)).lower())
