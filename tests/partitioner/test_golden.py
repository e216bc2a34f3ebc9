"""The splits of some real models on the machines of devices.yaml, as they were when somebody last looked at them.

After a change that is meant to move ops: ``python -m tests.partitioner.test_golden --update``, then read the diff.
A file has a paragraph per machine: what is predicted, then a line per segment: device, its ops, its time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import pytest
from tests.partitioner.test_never_slower import MACHINES, broken_promises, calls_of, prepared, split
from tests.support import require

from delegraph.core.graph.graph import GraphSet
from delegraph.partitioner.placement import Placement
from delegraph.request import Wishes

FOLDER = Path(__file__).parent / "golden"
MODELS = (
    "deeplabv3_mnv2_dm05_pascal_quant",
    "emza_ssd_slim_120x160_int8",
    "face_detection_short_range",
    "face_landmark",
    "gesture_embedder",
    "microwakeword_okay_nabu",
    "mlperf_kws_int8",
    "mlperf_resnet8_int8",
    "mobilenet_v1_0.25_128_quant",
    "mobilenet_v1_0.25_224_float",
    "mobilenet_v2_1.0_224_quant",
    "person_detect",
    "sdpa_composite",
)


@pytest.mark.parametrize("name", MODELS)
def test_splits_are_as_they_were(name: str) -> None:
    require("shared")
    pytest.importorskip("llvmlite")
    graphs = prepared(name)
    placements = splits(graphs)
    for placement in placements:
        assert broken_promises(placement, calls_of(graphs)) == []
    expected = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    assert text(placements) == expected, "if that is meant: python -m tests.partitioner.test_golden --update"


def splits(graphs: GraphSet) -> list[Placement]:
    return [split(graphs, Wishes(machine=machine, numerics="fast")) for machine in MACHINES]


def text(placements: Iterable[Placement]) -> str:
    """The file of a model."""
    return "\n".join(paragraph(placement) for placement in placements)


def paragraph(placement: Placement) -> str:
    """Microseconds, rounded, so that the last digit of a figure does not matter."""
    lines = []
    for p in placement.predictions:
        where = placement.machine + (f", graph {p.graph}" if len(placement.predictions) > 1 else "")
        lines.append(f"{where}: {us(p.total_ns)}, cpu alone {us(p.cpu_alone_ns)}, bound {us(p.bound_ns)}")
        own = [s for s in placement.segments if s.graph == p.graph]
        if not {s.device for s in own} <= {"cpu", "reference"}:
            for s in own:
                assert s.predicted is not None
                lines.append(f"  {s.device.removeprefix('nnapi:')} {ranges(s.ops)}: {us(s.predicted.total_ns)}")
    return "\n".join(lines) + "\n"


def us(nanoseconds: int | None) -> str:
    return "unknown" if nanoseconds is None else f"{(nanoseconds + 500) // 1000} us"


def ranges(ops: Iterable[int]) -> str:
    """Numbers with neighbours joined: ``0-3,7``."""
    found = []
    for _, group in groupby(enumerate(sorted(ops)), lambda item: item[1] - item[0]):
        members = [op for _, op in group]
        found.append(str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}")
    return ",".join(found)


def main(arguments: Sequence[str]) -> int:
    if list(arguments) != ["--update"]:
        print(__doc__)
        return 2
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.txt"):
        if path.stem not in MODELS:
            path.unlink()
    for name in MODELS:
        path, found = FOLDER / f"{name}.txt", text(splits(prepared(name)))
        is_new = not path.is_file() or path.read_text(encoding="utf-8") != found
        path.write_text(found, encoding="utf-8")
        print(f"{name}: {'written' if is_new else 'as it was'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
