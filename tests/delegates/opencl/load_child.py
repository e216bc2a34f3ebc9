"""Run as a script: loads an artifact that another process made and runs it. Arguments: a folder with ``artifact``,
``input.npy`` and, when done, ``output.npy``. The packs are made again."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from tests.delegates.opencl import models
from tests.delegates.opencl.harness import model_segment, open_device, run_program

from delegraph.core.abi.values import Artifact
from delegraph.core.runtime.packs import PackStore
from delegraph.delegates.opencl import artifact as artifacts


def main(folder: Path) -> None:
    device, segment = open_device(), model_segment(models.float_network())

    def no_build(source: str) -> bytes:
        raise AssertionError("loading builds nothing from source")

    device._build = no_build  # type: ignore[method-assign]
    artifact = Artifact(artifacts.FORMAT, (folder / "artifact").read_bytes())
    program = device.load(artifact, segment, PackStore(None))
    np.save(folder / "output.npy", run_program(device, program, segment, [np.load(folder / "input.npy")])[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
