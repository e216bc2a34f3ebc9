"""A delegate by name, so that another process can find it too. Composition only.

A name is one of: a delegate that comes with delegraph (``cpu``, ``null``), the path of a plug-in (``libacme.so``,
``acme.py``), an installed entry point, or ``package.module:Class``. A device's id (``opencl:0``) names its delegate.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from delegraph import plugins, registry
from delegraph.core.abi.native.plugin import PluginSpec, create, path_kind
from delegraph.core.abi.protocols import Delegate
from delegraph.core.errors import InvalidArgument


def parted(name: str) -> tuple[str, str | None]:
    """The delegate and the device that are named; None where it is no device's id."""
    delegate, _, number = name.partition(":")
    is_device = number and (delegate in registry.BUILT_IN or delegate in plugins.installed())
    return (delegate, name) if is_device else (name, None)


def find(name: str, *, isolate: bool = False) -> Delegate:
    """The delegate of that name. isolate: in a process of its own.

    Raises:
        InvalidArgument: there is none, or it is no delegate.
    """
    spec = spec_of(name)
    if isolate:
        from delegraph.core.abi.native.isolation import IsolatedDelegate

        return IsolatedDelegate(spec)
    return create(spec, {})


def spec_of(name: str) -> PluginSpec:
    """Where the delegate of that name is written. Raises InvalidArgument."""
    if name in registry.BUILT_IN:
        module, _, attribute = registry.BUILT_IN[name].partition(":")
        return PluginSpec("module", module, attribute)
    if os.path.dirname(name) or path_kind(Path(name)) is not None:
        return PluginSpec.of_path(name)
    module, _, attribute = name.partition(":")
    if attribute:
        return PluginSpec("module", module, attribute)
    if name.isidentifier() and importlib.util.find_spec(f"delegraph.delegates.{name}") is not None:
        return PluginSpec("module", f"delegraph.delegates.{name}.delegate")
    points = plugins.installed()
    if name in points:
        return PluginSpec("module", points[name].module, points[name].attr)
    known = ", ".join([*registry.BUILT_IN, "null", *sorted(points)])
    raise InvalidArgument(
        "delegate", f"a path, package.module:Class or one of {known}", repr(name), "a path has a folder: ./acme.py"
    )
