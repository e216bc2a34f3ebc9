"""``delegraph run --input``: every kind of file, seen through a model that hands its input on."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tests.cli.conftest import Call, Given, MakeModel

from delegraph.core.graph.dtype import DType

Array = npt.NDArray[Any]

PIXELS = (np.arange(4 * 5 * 3).reshape(4, 5, 3) * 4).astype(np.uint8)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(PIXELS).save(path)
    return path


def write_wav(path: Path, samples: Array, rate: int = 16000, width: int = 2) -> Path:
    """samples: [n] or [n, channels], bytes of ``width`` each."""
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        sound.setsampwidth(width)
        sound.setframerate(rate)
        sound.writeframes(samples.tobytes())
    return path


@pytest.fixture
def outcome(delegraph: Call, passing: MakeModel, tmp_path: Path) -> Any:
    """(array, report) of a run of a model with one input on one file."""

    def run(given: Given, *arguments: object) -> tuple[Array, Any]:
        out = tmp_path / "out.npy"
        result = delegraph("run", passing(given), *arguments, "--output", out, "--json")
        assert result.code == 0, result.err
        return np.load(out), result.json

    return run


def test_uint8_takes_pixels_as_they_are(outcome: Any, picture: Path) -> None:
    for scale in (0.0, 1 / 128, 0.0116):
        array, report = outcome(Given(DType.UINT8, (1, 4, 5, 3), scale, 123), "--input", picture)
        assert np.array_equal(array[0], PIXELS)
        assert report["inputs"][0]["preprocessing"]["resize"] == "none"


@pytest.mark.parametrize(("scale", "zero_point"), [(1 / 255, -128), (1 / 127.5, -1), (1 / 128, 0), (1, -128), (1, 0)])
def test_int8_takes_pixels_less_128_where_its_range_is_a_usual_one(
    outcome: Any, picture: Path, scale: float, zero_point: int
) -> None:
    array, report = outcome(Given(DType.INT8, (1, 4, 5, 3), scale, zero_point), "--input", picture)
    assert np.array_equal(array[0], PIXELS.astype(np.int16) - 128)
    assert "pixels less 128" in report["inputs"][0]["preprocessing"]["values"]


def test_int8_of_another_range_is_quantized(outcome: Any, picture: Path) -> None:
    array, _ = outcome(Given(DType.INT8, (1, 4, 5, 3), 0.025, 3), "--input", picture)
    assert np.array_equal(array[0], np.rint((PIXELS / 127.5 - 1) / 0.025 + 3))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), PIXELS / 127.5 - 1),
        (("--normalize", "-1..1"), PIXELS / 127.5 - 1),
        (("--normalize", "0..1"), PIXELS / 255),
        (("--normalize", "none"), PIXELS),
        (("--mean", "10", "--std", "2"), (PIXELS - 10.0) / 2),
        (("--mean", "1,2,3", "--std", "4,5,6"), (PIXELS - [1.0, 2, 3]) / [4, 5, 6]),
        (("--mean", "-7"), PIXELS + 7.0),
    ],
)
def test_float_pictures_are_normalized(outcome: Any, picture: Path, flags: tuple[str, ...], expected: Array) -> None:
    array, _ = outcome(Given(DType.FLOAT32, (1, 4, 5, 3)), "--input", picture, *flags)
    assert array.dtype == np.float32
    np.testing.assert_allclose(array[0], expected, rtol=1e-6, atol=1e-7)


def test_flags_quantize_and_none_does_not(outcome: Any, picture: Path) -> None:
    given = Given(DType.UINT8, (1, 4, 5, 3), 0.01, 100)
    array, _ = outcome(given, "--input", picture, "--normalize", "0..1")
    assert np.array_equal(array[0], np.floor(PIXELS / 255 / 0.01 + 0.5) + 100)
    array, _ = outcome(given, "--input", picture, "--normalize", "none")
    assert np.array_equal(array[0], PIXELS)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 4, 5, 3), PIXELS[None]),
        ((4, 5, 3), PIXELS),
        ((1, 3, 4, 5), PIXELS.transpose(2, 0, 1)[None]),
        ((1, -1, -1, 3), PIXELS[None]),
        ((-1, 4, 5, 3), PIXELS[None]),
        ((1, 4, 5, 4), np.concatenate([PIXELS, np.full((4, 5, 1), 255)], 2)[None]),
        ((1, 4, 5, 1), np.asarray(Image.fromarray(PIXELS).convert("L"))[None, :, :, None]),
        ((1, 4, 5), np.asarray(Image.fromarray(PIXELS).convert("L"))[None]),
        ((4, 5), np.asarray(Image.fromarray(PIXELS).convert("L"))),
        (
            (1, 7, 6, 3),
            np.asarray(Image.fromarray(PIXELS).resize((6, 7), Image.Resampling.BILINEAR))[None],
        ),
    ],
)
def test_pictures_take_the_input_s_layout(outcome: Any, picture: Path, shape: tuple[int, ...], expected: Array) -> None:
    array, _ = outcome(Given(DType.UINT8, shape), "--input", picture)
    assert np.array_equal(array, expected)


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".gif", ".unknown"])
def test_kinds_of_pictures(outcome: Any, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    Image.fromarray(np.full((4, 5, 3), 200, np.uint8)).save(path, "PNG" if suffix == ".unknown" else None)
    array, _ = outcome(Given(DType.UINT8, (1, 4, 5, 3)), "--input", path)
    assert np.abs(array.astype(int) - 200).max() <= 2


def test_sixteen_bit_and_rotated_pictures(outcome: Any, tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((4, 5), 257 * 100, np.uint16)).save(path)
    array, _ = outcome(Given(DType.UINT8, (4, 5)), "--input", path)
    assert (array == 100).all()
    path = tmp_path / "rotated.png"
    rotated = Image.fromarray(PIXELS)
    exif = rotated.getexif()
    exif[0x0112] = 3
    rotated.save(path, exif=exif)
    array, _ = outcome(Given(DType.UINT8, (4, 5, 3)), "--input", path)
    assert np.array_equal(array, PIXELS[::-1, ::-1])


def test_pixels_in_a_npy_file_with_a_flag(outcome: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", PIXELS[None])
    array, _ = outcome(Given(DType.FLOAT32, (1, 4, 5, 3)), "--input", tmp_path / "pixels.npy", "--normalize", "0..1")
    np.testing.assert_allclose(array[0], PIXELS / 255, rtol=1e-6)


SAMPLES = np.array([0, 16384, -32768, 32767, 1, -1], np.int16)


@pytest.mark.parametrize("shape", [(6,), (1, 6), (1, 6, 1), (-1,), (1, -1)])
def test_sounds(outcome: Any, tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = write_wav(tmp_path / "sound.wav", SAMPLES)
    array, report = outcome(Given(DType.FLOAT32, shape), "--input", path)
    np.testing.assert_allclose(array.reshape(-1), SAMPLES / 32768, atol=1e-9)
    assert report["inputs"][0]["preprocessing"]["found"] == {"rate": 16000, "channels": 1, "samples": 6}


def test_sounds_are_cut_padded_mixed_and_quantized(outcome: Any, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "sound.wav", SAMPLES)
    assert outcome(Given(DType.INT16, (1, 4)), "--input", path)[0].tolist() == [SAMPLES[:4].tolist()]
    padded, report = outcome(Given(DType.INT16, (8,)), "--input", path)
    assert padded.tolist() == [*SAMPLES.tolist(), 0, 0]
    assert report["inputs"][0]["preprocessing"]["fit"] == "padded with silence"
    quantized, _ = outcome(Given(DType.INT8, (6,), 1 / 128, 0), "--input", path)
    assert quantized.tolist() == [0, 64, -128, 127, 0, 0]
    stereo = write_wav(tmp_path / "stereo.wav", np.array([[100, 300], [-4, 4]], np.int16))
    assert outcome(Given(DType.INT16, (2,)), "--input", stereo)[0].tolist() == [200, 0]


@pytest.mark.parametrize("width", [1, 3, 4])
def test_sample_widths(outcome: Any, tmp_path: Path, width: int) -> None:
    value = {1: b"\xc0", 3: b"\x00\x00\x40", 4: b"\x00\x00\x00\x40"}[width]
    path = write_wav(tmp_path / "sound.wav", np.frombuffer(value * 2, np.uint8), width=width)
    assert outcome(Given(DType.FLOAT32, (2,)), "--input", path)[0].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.raw", "x.bin"])
def test_arrays(outcome: Any, tmp_path: Path, name: str) -> None:
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    path = tmp_path / name
    if name.endswith("npy"):
        np.save(path, array)
    elif name.endswith("npz"):
        np.savez(path, whatever=array)
    else:
        array.tofile(path)
    for shape in ((2, 3), (-1, 3)):
        found, _ = outcome(Given(DType.INT32, shape), "--input", path)
        assert np.array_equal(found, array)


def test_names_and_order(delegraph: Call, passing: MakeModel, tmp_path: Path) -> None:
    model = passing(Given(DType.INT32, (1,), name="a"), Given(DType.INT32, (1,), name="b=c"))
    for i in (1, 2):
        np.save(tmp_path / f"{i}.npy", np.array([i], np.int32))
    both: Any = {"a": np.array([1], np.int32), "b=c": np.array([2], np.int32)}
    np.savez(tmp_path / "both.npz", **both)
    one, two, out = tmp_path / "1.npy", tmp_path / "2.npy", tmp_path / "out.npz"
    for inputs in (
        ("--input", one, "--input", two),
        ("--input", two, "--input", f"a={one}"),
        ("--input", f"b=c={two}", "--input", one),
        ("--input", tmp_path / "both.npz"),
    ):
        result = delegraph("run", model, *inputs, "--output", out)
        assert result.code == 0, result.err
        found = np.load(out)
        assert (found["a"].item(), found["b=c"].item()) == (1, 2)


def test_random_is_the_same_for_a_seed(outcome: Any) -> None:
    given = Given(DType.FLOAT32, (2, -1))
    first, report = outcome(given, "--random", "7")
    again, _ = outcome(given, "--random=7")
    other, _ = outcome(given, "--random")
    assert first.shape == (2, 1) and np.array_equal(first, again) and not np.array_equal(first, other)
    assert report["inputs"][0]["preprocessing"] == {"kind": "random", "seed": 7}


@pytest.mark.parametrize("dtype", [d for d in DType if d.is_plain and d is not DType.RESOURCE])
def test_random_knows_every_type(delegraph: Call, passing: MakeModel, dtype: DType) -> None:
    result = delegraph("run", passing(Given(dtype, (2, 3))), "--random", "--json")
    assert result.code in (0, 5), result.err
    assert result.code == 0 or "float8" in str(dtype), result.err


def test_strings(delegraph: Call, passing: MakeModel, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("hello\nworld\n")
    result = delegraph("run", passing(Given(DType.STRING, (2,))), "--input", tmp_path / "words.txt", "--json")
    assert result.code == 0, result.err
    assert result.json["outputs"][0]["strings"] == ["hello", "world"]
