"""The delegate "opencl": its devices, and how one is opened. Imports core.abi, device, probe."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from delegraph.core.abi.protocols import Delegate, Device
from delegraph.core.abi.values import DelegateError, DeviceInfo, ErrorCode, Limits, Link, Options
from delegraph.core.version import __version__
from delegraph.delegates.opencl import probe
from delegraph.delegates.opencl.device import OpenClDevice
from delegraph.delegates.opencl.launches import GROUP
from delegraph.delegates.opencl.probe import Found, Inventory
from delegraph.delegates.opencl.traits import KERNELS_VERSION, Traits

# Rough figures, until the machine has been measured.
_LAUNCH_NS = 30_000
_PCI = Link(latency_ns=10_000, bytes_per_s=12_000_000_000)
_SHARED = Link(latency_ns=5_000, bytes_per_s=8_000_000_000)


class OpenClDelegate(Delegate):
    """Delegate "opencl": one device for each that a driver lists, numbered over all platforms.

    inventory: gives what there is; by default from a child process, once per process.
    """

    name = "opencl"
    version = f"{__version__}+kernels{KERNELS_VERSION}"

    def __init__(self, inventory: Callable[[], Inventory] | None = None) -> None:
        self._inventory = probe.inventory if inventory is None else inventory

    def devices(self) -> Sequence[DeviceInfo]:
        """See core.abi.protocols.Delegate."""
        try:
            found = self._inventory()
        except Exception as exc:  # the contract: never raises
            return (_missing(f"the drivers could not be listed: {type(exc).__name__}: {exc}", probe.REPAIR),)
        if not found.devices:
            return (_missing(found.reason, found.remedy),)
        return tuple(_info(i, one) for i, one in enumerate(found.devices))

    def open(self, device_id: str, options: Options, host: Device | None = None) -> OpenClDevice:
        """See core.abi.protocols.Delegate."""
        for info, one in zip(self.devices(), self._inventory().devices, strict=False):
            if info.id == device_id:
                if not info.available:
                    raise DelegateError(device_id, ErrorCode.INVALID, f"{info.reason}; {info.remedy}")
                return OpenClDevice(info, one.traits)
        raise DelegateError(device_id, ErrorCode.INVALID, "there is no such OpenCL device; see: delegraph devices")


def _missing(reason: str, remedy: str) -> DeviceInfo:
    return DeviceInfo(
        id="opencl", kind="gpu", vendor="", driver="", available=False, reason=reason, remedy=remedy, may_hang=True
    )


def _info(index: int, found: Found) -> DeviceInfo:
    traits, device_id, problem = found.traits, f"opencl:{index}", _problem(found)
    link = _SHARED if traits.shares_memory else _PCI
    return DeviceInfo(
        id=device_id,
        kind=traits.kind,
        vendor=traits.vendor,
        driver=f"{traits.platform_name} {traits.driver}",
        dtypes=("float32", "int8", "uint8"),
        fingerprint=traits.fingerprint,
        available=not problem,
        reason=f"{traits.name}: {problem}" if problem else "",
        remedy=probe.REPAIR if found.problem else "use another device" if problem else "",
        may_hang=True,
        features=_features(traits),
        memory_domain=device_id,
        to_device=link,
        from_device=link,
        launch_ns=_LAUNCH_NS,
        numerics=traits.numerics,
        limits=Limits(),
        load_may_jit=True,  # PoCL and NVIDIA finish a binary when they first run it
    )


def _problem(found: Found) -> str:
    if not found.problem and found.traits.max_group < GROUP:
        return f"expected work groups of {GROUP} items, found {found.traits.max_group} at most"
    return found.problem


def _features(traits: Traits) -> tuple[str, ...]:
    found = [("fp64", traits.fp64), ("unified_memory", traits.shares_memory)]
    return tuple(name for name, has in found if has)
