"""Metadata and labels inside models: used when sound, ignored with a warning when damaged."""

from __future__ import annotations

import io
import random
import wave
import zipfile
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import Call, Given, MakeModel

from delegraph.cli.labels import embedded_labels, parse_labels
from delegraph.cli.metadata import MalformedError, parse
from delegraph.core.graph.dtype import DType


def metadata_bytes(*, mean: float = 0, std: float = 0, rate: int = 0, labels: str = "", n_times: int = 1) -> bytes:
    """Metadata of a model with one input and one output; n_times: how often each is referred to."""
    builder = flatbuffers.Builder(0)

    def table(*fields: tuple[int, str, int]) -> int:
        builder.StartObject(8)
        for slot, kind, value in fields:
            if kind == "byte":
                builder.PrependInt8Slot(slot, value, 0)
            elif kind == "uint":
                builder.PrependUint32Slot(slot, value, 0)
            else:
                builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        return int(builder.EndObject())

    def vector(items: list[int]) -> int:
        builder.StartVector(4, len(items), 4)
        for item in reversed(items):
            builder.PrependUOffsetTRelative(item)
        return int(builder.EndVector())

    def floats(value: float) -> int:
        builder.StartVector(4, 1, 4)
        builder.PrependFloat32(value)
        return int(builder.EndVector())

    input_fields = [(0, "offset", builder.CreateString("image"))]
    if std:
        options = table((0, "offset", floats(mean)), (1, "offset", floats(std)))
        input_fields.append((4, "offset", vector([table((0, "byte", 1), (1, "offset", options))])))
    if rate:
        content = table((0, "byte", 4), (1, "offset", table((0, "uint", rate), (1, "uint", 1))))
        input_fields.append((3, "offset", content))
    output_fields = []
    if labels:
        name = builder.CreateString(labels)
        output_fields.append((6, "offset", vector([table((0, "offset", name), (2, "byte", 2))])))
    inputs, outputs = vector([table(*input_fields)] * n_times), vector([table(*output_fields)])
    graph = table((2, "offset", inputs), (3, "offset", outputs))
    root = table((0, "offset", builder.CreateString("a model")), (3, "offset", vector([graph] * n_times)))
    builder.Finish(root, b"M001")
    return bytes(builder.Output())


def zip_bytes(**files: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"{name}.txt", text)
    return content.getvalue()


def test_parse() -> None:
    about = parse(metadata_bytes(mean=127.5, std=64, rate=16000, labels="labels.txt"))
    assert about.name == "a model"
    assert (about.inputs[0][0].mean, about.inputs[0][0].std) == ((127.5,), (64,))
    assert about.inputs[0][0].sample_rate == 16000
    assert about.outputs[0][0].label_files == (("labels.txt", ""),)


def test_damaged_metadata_never_crashes() -> None:
    whole = metadata_bytes(mean=127.5, std=127.5, rate=16000, labels="labels.txt")
    generator = random.Random(1)
    n_refused = 0
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(generator.randint(1, 6)):
            data[generator.randrange(len(data))] = generator.choice([0, 1, 127, 255, generator.randrange(256)])
        if generator.random() < 0.2:
            data = data[: generator.randrange(len(data))]
        try:
            parse(bytes(data))
        except MalformedError:
            n_refused += 1
    assert n_refused > 100


def test_vectors_that_overlap_are_bounded() -> None:
    with pytest.raises(MalformedError, match="at most 4096 tables"):
        parse(metadata_bytes(n_times=200))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(np.full((4, 5, 3), 200, np.uint8)).save(path)
    return path


def test_normalization_comes_from_metadata(delegraph: Call, passing: MakeModel, picture: Path, tmp_path: Path) -> None:
    model = passing(Given(DType.FLOAT32, (1, 4, 5, 3)), metadata=metadata_bytes(mean=100, std=50))
    out = tmp_path / "out.npy"
    result = delegraph("run", model, "--input", picture, "--output", out)
    assert result.code == 0 and "(pixel - 100) / 50, from the model's metadata" in result.err
    assert (np.load(out) == 2).all()
    assert delegraph("run", model, "--input", picture, "--output", out, "--normalize", "none").code == 0
    assert (np.load(out) == 200).all()


def test_metadata_of_an_int8_input_is_quantized_or_shifts(
    delegraph: Call, passing: MakeModel, picture: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.npy"
    for scale, zero_point, expected in ((1 / 127.5, -1, 72), (0.02, 0, 28)):
        given = Given(DType.INT8, (1, 4, 5, 3), scale, zero_point)
        model = passing(given, metadata=metadata_bytes(mean=127.5, std=127.5))
        assert delegraph("run", model, "--input", picture, "--output", out).code == 0
        assert (np.load(out) == expected).all()


def test_damaged_metadata_is_ignored_with_a_warning(delegraph: Call, passing: MakeModel, picture: Path) -> None:
    model = passing(Given(DType.FLOAT32, (1, 4, 5, 3)), metadata=metadata_bytes(mean=1, std=2)[:30])
    for arguments in (("run", model, "--input", picture), ("inspect", model)):
        result = delegraph(*arguments)
        assert result.code == 0 and "warning: the model's TFLITE_METADATA is damaged" in result.err


def test_sample_rate_of_metadata(delegraph: Call, passing: MakeModel, tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(20))
    model = passing(Given(DType.FLOAT32, (1, 10)), metadata=metadata_bytes(rate=16000))
    result = delegraph("run", model, "--input", path)
    assert result.code == 5 and "16000 samples a second" in result.err and "-ar 16000" in result.err


SCORES = Given(DType.FLOAT32, (1, 3))


def test_embedded_labels(delegraph: Call, passing: MakeModel, tmp_path: Path) -> None:
    metadata = metadata_bytes(labels="labels.txt")
    model = passing(SCORES, metadata=metadata, behind=zip_bytes(labels="cat\ndog\nbird\n"))
    result = delegraph("run", model, "--random", "--json")
    assert result.code == 0, result.err
    classes = result.json["outputs"][0]["classes"]
    assert {c["index"]: c["label"] for c in classes} == {0: "cat", 1: "dog", 2: "bird"}
    given = tmp_path / "given.txt"
    given.write_text("a\nb\nc\n")
    classes = delegraph("run", model, "--random", "--labels", given, "--json").json["outputs"][0]["classes"]
    assert {c["index"]: c["label"] for c in classes} == {0: "a", 1: "b", 2: "c"}


def test_damaged_embedded_labels(delegraph: Call, passing: MakeModel) -> None:
    archive = bytearray(zip_bytes(labels="cat\ndog\nbird\n"))
    archive[40:44] = b"\xff\xff\xff\xff"
    metadata = metadata_bytes(labels="labels.txt")
    result = delegraph("run", passing(SCORES, metadata=metadata, behind=bytes(archive)), "--random")
    assert result.code == 0 and "warning: labels ignored: labels.txt in the model" in result.err
    result = delegraph("run", passing(SCORES, metadata=metadata, behind=zip_bytes(other="x")), "--random")
    assert result.code == 0 and "warning" not in result.err


def test_label_formats() -> None:
    assert dict(parse_labels("a\nb b\n\nd\n\n", "x").names) == {0: "a", 1: "b b", 3: "d"}
    assert dict(parse_labels("0 a\n2:b\n5\tc d\n", "x").names) == {0: "a", 2: "b", 5: "c d"}
    assert dict(parse_labels("0\n1\n2\n", "x").names) == {0: "0", 1: "1", 2: "2"}
    assert dict(parse_labels("1 thing\nother\n", "x").names) == {0: "1 thing", 1: "other"}


def test_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "plain.tflite"
    path.write_bytes(b"no zip")
    assert embedded_labels(str(path), [("labels.txt", "")]) is None
