"""Installs PoCL, an OpenCL driver for the CPU, where there is no OpenCL device and it can: Debian's package, as root.

Run by the README's test command. Never fails: without a driver the OpenCL tests are skipped, and say so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

PACKAGES = ("pocl-opencl-icd", "ocl-icd-libopencl1")


def has_device() -> bool:
    """Whether any OpenCL platform has a device; asked in a child process, since drivers can crash."""
    code = "import pyopencl as cl; raise SystemExit(not any(p.get_devices() for p in cl.get_platforms()))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def main() -> None:
    """Installs the packages, or says what to do."""
    if has_device():
        return
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"no OpenCL device: its tests will be skipped; on Debian: apt install {' '.join(PACKAGES)}")
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        subprocess.run(["apt-get", "--quiet", "--quiet", *command], env=environment, check=False)
    print("installed PoCL" if has_device() else "could not install PoCL: the OpenCL tests will be skipped")


if __name__ == "__main__":
    main()
