"""Delegate "nnapi": a device ``nnapi:<profile>`` for each emulated profile of devices.yaml.

Imports delegraph.core up to devices. Nothing is read before the devices are asked for.
"""

# The driver process goes between NnapiDevice and the host device: what device.py hands to the host is sent to it then.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from delegraph.core import devices as profiles_of_files
from delegraph.core.abi.protocols import Delegate, Device
from delegraph.core.abi.values import DelegateError, DeviceInfo, ErrorCode, Options
from delegraph.core.devices.values import Devices, Profile
from delegraph.core.errors import InvalidArgument, InvalidDevices
from delegraph.core.version import __version__
from delegraph.delegates.nnapi.device import NnapiDevice

FAMILY = "nnapi"


class NnapiDelegate(Delegate):
    """profiles: gives the machines and profiles; by default those of the files (``core.devices.load``)."""

    name = FAMILY
    version = __version__

    def __init__(self, profiles: Callable[[], Devices] = profiles_of_files.load) -> None:
        self._profiles = profiles

    def devices(self) -> Sequence[DeviceInfo]:
        """One per profile; a broken file is listed as a device of the family's name, with the reason."""
        try:
            return [info_of(profile) for profile in self.profiles().values()]
        except InvalidDevices as exc:
            return (
                DeviceInfo(
                    id=FAMILY,
                    kind="accelerator",
                    vendor="delegraph",
                    driver="",
                    available=False,
                    reason=str(exc),
                    remedy=f"correct {exc.source}" + (f", line {exc.line}" if exc.line else ""),
                    is_virtual=True,
                    machine="",
                ),
            )

    def profiles(self) -> Mapping[str, Profile]:
        """Device id → profile. Raises InvalidDevices."""
        found = self._profiles().profiles.values()
        return {f"{FAMILY}:{profile.id}": profile for profile in found if profile.family == FAMILY}

    def open(self, device_id: str, options: Options, host: Device | None = None) -> NnapiDevice:
        profiles = self.profiles()
        if device_id not in profiles:
            raise InvalidArgument("nnapi: device", f"one of {', '.join(profiles)}", repr(device_id))
        if host is None:
            raise DelegateError(
                device_id, ErrorCode.INVALID, "expected an exact host device to compute with, found none"
            )
        profile = profiles[device_id]
        return NnapiDevice(info_of(profile), profile, host)


def info_of(profile: Profile) -> DeviceInfo:
    """What is known of a profile's device before it is opened."""
    device_id = f"{FAMILY}:{profile.id}"
    moves = profile.to_device.bytes_per_s or profile.from_device.bytes_per_s
    return DeviceInfo(
        id=device_id,
        kind=profile.kind,
        vendor=profile.vendor,
        driver=f"delegraph {__version__}, {profile.op_set}",
        dtypes=tuple(map(str, profile.dtypes)),
        fingerprint={"profile": profile.digest},
        is_virtual=True,
        may_hang=True,
        machine=profile.machine,
        features=profile.features,
        memory_domain=device_id if moves else "host",
        to_device=profile.to_device,
        from_device=profile.from_device,
        launch_ns=profile.launch_ns,
        numerics=_numerics(profile),
        limits=profile.limits,
    )


def _numerics(profile: Profile) -> str:
    """How results differ, as the profile says, and that they are not made to differ yet."""
    if not profile.numerics:
        return "exact"
    sentences = "; ".join(dict.fromkeys(profile.numerics.values()))
    return f"{sentences} (modelled in verdicts only: the values are the host's exact ones)"
