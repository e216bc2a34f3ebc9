"""Where a plug-in is written, and the Delegate that it becomes: a C library, a .py file, or a name in a module.

Imports core.abi. Importing a plug-in runs its code, with all rights of this process; ``isolation`` does it in a child.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from delegraph.core.abi.native.device_info import wrong_ids
from delegraph.core.abi.native.library import file_stamp
from delegraph.core.abi.protocols import Delegate, Device
from delegraph.core.abi.values import DeviceInfo, Options
from delegraph.core.errors import DelegraphError, InvalidArgument

LIBRARY_SUFFIXES = (".so", ".dll", ".dylib")
ATTRIBUTE = "DELEGATE"


@dataclass(frozen=True, slots=True)
class PluginSpec:
    """kind: "library" and "file" with an absolute path as target, or "module" with its name. attribute: what to take
    from a module or file, dotted; "" for ``DELEGATE``, or the one Delegate class in it."""

    kind: Literal["library", "file", "module"]
    target: str
    attribute: str = ""

    def __str__(self) -> str:
        return f"{self.target}:{self.attribute}" if self.attribute else self.target

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_path(cls, path: str | os.PathLike[str]) -> PluginSpec:
        """Raises InvalidArgument for a file that is not there, or of an unknown kind."""
        file = Path(path)
        kind = path_kind(file)
        if kind is None:
            expected = f"a file that ends with .py or {', '.join(LIBRARY_SUFFIXES)}"
            raise InvalidArgument("delegate", expected, repr(str(path)))
        if not file.is_file():
            raise InvalidArgument("delegate", "a file", f"{str(path)!r}, which is none", "check the path")
        return cls(kind, str(file.resolve()))


def path_kind(path: Path) -> Literal["library", "file"] | None:
    """What a path's name says: ``libacme.so``, ``libacme.so.1`` and the like, or ``acme.py``."""
    if path.suffix == ".py":
        return "file"
    return "library" if any(suffix in LIBRARY_SUFFIXES for suffix in path.suffixes) else None


def create(spec: PluginSpec, options: Options) -> Delegate:
    """The delegate, in this process. options: go to ``open``, under those given there.

    Raises:
        InvalidArgument: it is no plug-in that this version can use, saying what was expected and found.
    """
    if spec.kind == "library":
        from delegraph.core.abi.native.loader import NativeDelegate

        native = NativeDelegate(spec.target, options)
        return PluginDelegate(native, options, native.stamp)
    stamp = (
        file_stamp(spec.target) if spec.kind == "file" else ""
    )  # before it is read; an installed one has its version
    return PluginDelegate(_python_delegate(spec), options, stamp)


class PluginDelegate(Delegate):
    """A plug-in's delegate with the options that every ``open`` gets. What an artifact depends on beside the device
    itself, options and the file of the plug-in (its stamp), is part of its devices' fingerprints."""

    def __init__(self, delegate: Delegate, options: Options, stamp: str) -> None:
        self._delegate, self._options = delegate, dict(options)
        self.name, self.version = delegate.name, delegate.version
        self._fingerprint: dict[str, str] = {}
        if stamp:
            self._fingerprint["plug-in"] = stamp
        if options:
            text = json.dumps(self._options, sort_keys=True, default=repr)
            self._fingerprint["options"] = hashlib.sha256(text.encode()).hexdigest()[:16]

    def devices(self) -> Sequence[DeviceInfo]:
        return [
            replace(info, fingerprint={**info.fingerprint, **self._fingerprint}) for info in self._delegate.devices()
        ]

    def open(self, device_id: str, options: Options, host: Device | None = None) -> Device:
        return self._delegate.open(device_id, {**self._options, **options}, host)


class BrokenDelegate(Delegate):
    """Stands for a plug-in that can't be used: one device, unavailable, with the reason and what to do."""

    version = ""

    def __init__(self, name: str, reason: str, remedy: str) -> None:
        self.name = name
        self._info = DeviceInfo(name, "accelerator", "", "", available=False, reason=reason, remedy=remedy)

    def devices(self) -> Sequence[DeviceInfo]:
        return (self._info,)

    def open(self, device_id: str, options: Options, host: Device | None = None) -> Device:
        raise InvalidArgument(f"device {device_id!r}", "a device that can be used", self._info.reason)


def check_delegate(delegate: Any, where: str) -> None:
    """Raises InvalidArgument for an object that is no Delegate, or whose devices have the wrong names."""
    missing = [name for name in ("name", "version", "devices", "open") if not hasattr(delegate, name)]
    if missing:
        found = f"{type(delegate).__name__} without {', '.join(missing)}"
        raise InvalidArgument(where, "a Delegate", found, "see docs/delegates-in-python.md")
    if not isinstance(delegate.name, str) or not delegate.name or not isinstance(delegate.version, str):
        raise InvalidArgument(
            where, "a name and a version that are strings", f"{delegate.name!r}, {delegate.version!r}"
        )
    try:
        infos = delegate.devices()
    except Exception as exc:  # a stranger's code
        found = f"{type(exc).__name__}: {exc}"
        raise InvalidArgument(where, "a delegate that lists its devices", found, "mend it") from exc
    problem = wrong_ids(infos, delegate.name)
    if problem:
        raise InvalidArgument(where, "devices named after their delegate", problem)


def _python_delegate(spec: PluginSpec) -> Delegate:
    where = f"delegate {spec}"
    try:
        module = file_module(spec.target) if spec.kind == "file" else importlib.import_module(spec.target)
        found = _attribute(module, spec, where)
        delegate: Delegate = found if hasattr(found, "devices") and not inspect.isclass(found) else found()
    except DelegraphError:
        raise
    except Exception as exc:
        raise InvalidArgument(
            where, "a plug-in that can be imported", f"{type(exc).__name__}: {exc}", "mend or reinstall it"
        ) from exc
    check_delegate(delegate, where)
    return delegate


def _attribute(module: ModuleType, spec: PluginSpec, where: str) -> Any:
    if spec.attribute:
        found: Any = module
        for part in spec.attribute.split("."):
            found = getattr(found, part)
        return found
    if hasattr(module, ATTRIBUTE):
        return getattr(module, ATTRIBUTE)
    classes = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and Delegate in value.__mro__ and value.__module__ == module.__name__
    ]
    if len(classes) != 1:
        names = ", ".join(c.__name__ for c in classes) or "none"
        raise InvalidArgument(where, f"{ATTRIBUTE}, or one class that derives from Delegate", names)
    return classes[0]


def file_module_name(path: str, prefix: str) -> str:
    """So that it never is another module of that name."""
    return f"{prefix}_{Path(path).stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"


def file_module(path: str, prefix: str = "delegraph_plugin") -> ModuleType:
    """The module in a file, under a name of its own; imported anew each time. Raises what importing it raises."""
    name = file_module_name(path, prefix)
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise ImportError(f"can't import {path}")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
