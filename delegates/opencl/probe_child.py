"""Run as a script: looks at every OpenCL device, builds and runs a tiny kernel on each, and prints what came of it.

Imports nothing of delegraph, so that it starts quickly and a broken driver can only take this process down. One JSON
object per line: {"none": message} when there is no driver; {"start": i, "traits": {...}} before a device is tried;
{"end": i, "problem": message or ""} after. Arguments: numbers of the devices to leave out.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import numpy as np
import pyopencl as cl

KERNEL = """
__kernel void tiny(__global const int *x, __global int *y) { int i = get_global_id(0); y[i] = 3 * x[i] + 1; }
"""


def describe(platform_index: int, device_index: int, platform: Any, device: Any) -> dict[str, Any]:
    fp = device.single_fp_config
    kinds = [(cl.device_type.GPU, "gpu"), (cl.device_type.CPU, "cpu")]
    return {
        "platform": platform_index,
        "device": device_index,
        "platform_name": platform.name.strip(),
        "platform_version": platform.version.strip(),
        "name": device.name.strip(),
        "vendor": device.vendor.strip(),
        "version": device.version.strip(),
        "driver": device.driver_version.strip(),
        "kind": next((kind for flag, kind in kinds if device.type & flag), "accelerator"),
        "fp64": "cl_khr_fp64" in device.extensions.split(),
        "denormals": bool(fp & cl.device_fp_config.DENORM),
        "rounded_division": bool(fp & cl.device_fp_config.CORRECTLY_ROUNDED_DIVIDE_SQRT),
        "alignment": max(1, device.mem_base_addr_align // 8),
        "max_buffer_bytes": int(device.max_mem_alloc_size),
        "max_group": int(device.max_work_group_size),
        "compute_units": int(device.max_compute_units),
        "shares_memory": bool(device.host_unified_memory),
    }


def try_kernel(device: Any) -> str:
    """What is wrong with the device, in the driver's words; "" when it computes."""
    context = cl.Context([device])
    queue = cl.CommandQueue(context)
    program = cl.Program(context, KERNEL).build()  # PYOPENCL_NO_CACHE is set
    x = np.arange(64, dtype=np.int32)
    flags = cl.mem_flags
    source = cl.Buffer(context, flags.READ_ONLY | flags.COPY_HOST_PTR, hostbuf=x)
    target = cl.Buffer(context, flags.WRITE_ONLY, x.nbytes)
    cl.Kernel(program, "tiny")(queue, x.shape, None, source, target)
    y = np.zeros_like(x)
    cl.enqueue_copy(queue, y, target)
    queue.finish()
    return "" if np.array_equal(y, 3 * x + 1) else "a tiny kernel gave wrong results"


def main(left_out: set[int]) -> None:
    def say(line: dict[str, Any]) -> None:
        print(json.dumps(line), flush=True)

    warnings.simplefilter("ignore")
    try:
        platforms = cl.get_platforms()
    except cl.Error as exc:
        say({"none": str(exc)})
        return
    index = 0
    for p, platform in enumerate(platforms):
        try:
            devices = platform.get_devices()
        except cl.Error:
            continue  # a platform without devices, such as a GPU driver on a machine that has lost its GPU
        for d, device in enumerate(devices):
            if index not in left_out:
                say({"start": index, "traits": describe(p, d, platform, device)})
                try:
                    problem = try_kernel(device)
                except Exception as exc:  # whatever the driver makes of it is the answer
                    problem = f"{type(exc).__name__}: {exc}".strip()
                say({"end": index, "problem": problem})
            index += 1
    if index == 0:
        say({"none": "the drivers list no device"})


if __name__ == "__main__":
    main({int(text) for text in sys.argv[1:]})
