"""``dg.load_delegate``: delegates that others wrote, by path or by entry point. Composition only.

Importing a plug-in runs its code. So nothing is imported for being installed: entry points (group
``delegraph.delegates``) are listed by name, and loaded when ``load_delegate`` names one, or when the environment
variable ``DELEGRAPH_DELEGATES`` (names, separated by commas) allows it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delegraph import registry
from delegraph.core.abi.native.plugin import BrokenDelegate, PluginSpec, check_delegate, create, path_kind
from delegraph.core.abi.protocols import Delegate
from delegraph.core.abi.values import DeviceInfo
from delegraph.core.errors import DelegraphError, InvalidArgument
from delegraph.core.forks import RenewedLock

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

log = logging.getLogger("delegraph")

GROUP = "delegraph.delegates"
VARIABLE = "DELEGRAPH_DELEGATES"


class _Allowed(RenewedLock):
    """What ``DELEGRAPH_DELEGATES`` said when its delegates were loaded, and whether a thread is loading them now."""

    done: str | None = None

    def renew(self) -> None:
        super().renew()
        self.is_loading = False


_allowed = _Allowed()


def load_delegate(
    name_or_path: str | os.PathLike[str], options: Mapping[str, Any] | None = None, *, isolate: bool = False
) -> list[DeviceInfo]:
    """Loads a delegate and makes its devices known; returns them. ``dg.compile(model, devices=["acme:0"])`` uses one.

    Loading a delegate of the same name again replaces it for models compiled from then on.

    Args:
        name_or_path: a C library (``libacme.so``; see ``delegraph_delegate.h``), a ``.py`` file, or the name of an
            installed one (an entry point of the group ``delegraph.delegates``).
        options: plain values by name, for the delegate's devices.
        isolate: run it in a child process, so that a crash there is a failing device and no more.

    Raises:
        InvalidArgument: there is no such delegate, or it can't be used, saying what to do; options that are no mapping.
        DelegateError: with ``isolate``, its process failed to start.
    """
    if options is not None and not isinstance(options, Mapping):
        raise InvalidArgument("load_delegate: options", "values by name, as {'speed': 'high'}", repr(options))
    options = dict(options or {})
    spec = _spec(name_or_path)
    delegate = _created(spec, options, isolate)
    _check_name(delegate, spec)
    registry.add(delegate)
    return list(delegate.devices())


def installed() -> dict[str, EntryPoint]:
    """The delegates that are installed, by name. Imports none of them."""
    from importlib import metadata  # slow to import, and seldom needed

    return {point.name: point for point in metadata.entry_points(group=GROUP)}


def load_allowed() -> None:
    """Loads what ``DELEGRAPH_DELEGATES`` names, once. One that fails is listed as a device that can't be used."""
    wanted = os.environ.get(VARIABLE, "")
    if _allowed.done == wanted:
        return
    with _allowed.lock:
        if _allowed.done == wanted or _allowed.is_loading:  # a delegate that lists devices while it is loaded
            return
        _allowed.is_loading = True
        try:
            for name in dict.fromkeys(part.strip() for part in wanted.split(",")):
                if name:
                    _load_allowed(name)
            _allowed.done = wanted
        finally:
            _allowed.is_loading = False


def _load_allowed(name: str) -> None:
    try:
        load_delegate(name)
    except DelegraphError as exc:
        log.warning("%s: delegate %r can't be used: %s", VARIABLE, name, exc)
        if name not in registry.BUILT_IN:
            registry.add(BrokenDelegate(name, str(exc), f"mend it, or take it out of {VARIABLE}"))


def _spec(name_or_path: str | os.PathLike[str]) -> PluginSpec:
    given = os.fspath(name_or_path)
    if not isinstance(given, str) or not given:
        raise InvalidArgument("load_delegate", "a path or the name of an installed delegate", repr(given))
    if os.path.dirname(given) or path_kind(Path(given)) is not None:
        return PluginSpec.of_path(given)
    points = installed()
    if given not in points:
        names = ", ".join(sorted(points)) or "none is installed"
        raise InvalidArgument(
            "load_delegate",
            f"a path, or an installed delegate ({names})",
            repr(given),
            f"install a package with an entry point of the group {GROUP!r}, or pass the path of its file",
        )
    return PluginSpec("module", points[given].module, points[given].attr)


def _created(spec: PluginSpec, options: Mapping[str, Any], isolate: bool) -> Delegate:
    if isolate:
        from delegraph.core.abi.native.isolation import IsolatedDelegate

        return IsolatedDelegate(spec, options)
    return create(spec, options)


def _check_name(delegate: Delegate, spec: PluginSpec) -> None:
    check_delegate(delegate, f"delegate {spec}")
    if delegate.name in registry.BUILT_IN or delegate.name == "auto":
        raise InvalidArgument(
            f"delegate {spec}", "a name that no built-in delegate has", repr(delegate.name), "rename it"
        )
