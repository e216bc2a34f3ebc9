"""What goes wrong: the documented exit code, one sentence that names what was expected and found, a tip."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import Call, Given, MakeModel, Result

from delegraph.cli.failures import EXIT_CODES, Exit
from delegraph.core.graph.dtype import DType


def assert_failed(result: Result, code: Exit, *words: str) -> None:
    assert result.code == code, result.err
    assert result.out == ""
    assert "Traceback" not in result.err
    lines = result.err.splitlines()
    assert lines[0].startswith("error: "), result.err
    assert re.match(r"  tip: \S", lines[1]) and len(lines) == 2, result.err
    for word in words:
        assert word in result.err, f"{word!r} in {result.err}"


@pytest.fixture
def model(passing: MakeModel) -> Path:
    return passing(Given(DType.FLOAT32, (1, 4, 5, 3), name="image"))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(path)
    return path


def test_no_such_model(delegraph: Call) -> None:
    for command in ("run", "inspect"):
        assert_failed(delegraph(command, "missing.tflite"), Exit.BAD_INPUT, "missing.tflite", "expected a file")
    assert_failed(delegraph("inspect", "."), Exit.BAD_INPUT, "folder")


@pytest.mark.parametrize("command", ["run", "inspect"])
def test_not_a_model(delegraph: Call, tmp_path: Path, picture: Path, model: Path, command: str) -> None:
    assert_failed(delegraph(command, picture), Exit.INVALID_MODEL, "picture.png")
    truncated, empty = tmp_path / "truncated.tflite", tmp_path / "empty.tflite"
    truncated.write_bytes(model.read_bytes()[:100])
    empty.write_bytes(b"")
    assert_failed(delegraph(command, truncated), Exit.INVALID_MODEL, "truncated.tflite", "expected", "found")
    assert_failed(delegraph(command, empty), Exit.INVALID_MODEL, "empty.tflite")


def test_wrong_pictures(delegraph: Call, model: Path, tmp_path: Path, picture: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(picture.read_bytes()[:40])
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    assert_failed(delegraph("run", model, "--input", broken), Exit.BAD_INPUT, "broken.png", "expected a picture")
    assert_failed(delegraph("run", model, "--input", text), Exit.BAD_INPUT, "text.jpg", "expected a picture")
    assert_failed(delegraph("run", model, "--input", "no.png"), Exit.BAD_INPUT, "no.png")
    unknown = tmp_path / "what.ever"
    unknown.write_text("something")
    assert_failed(delegraph("run", model, "--input", unknown), Exit.BAD_INPUT, "jpg, png", "npy")


def test_wrong_arrays(delegraph: Call, model: Path, tmp_path: Path) -> None:
    def run(array: np.ndarray) -> Result:
        np.save(tmp_path / "x.npy", array)
        return delegraph("run", model, "--input", tmp_path / "x.npy")

    shape = (1, 4, 5, 3)
    assert_failed(run(np.zeros(shape)), Exit.BAD_INPUT, "'image'", "expected float32, found float64", "astype")
    assert_failed(run(np.zeros(shape, np.uint8)), Exit.BAD_INPUT, "found uint8", "--normalize")
    wrong = run(np.zeros(shape[1:], np.float32))
    assert_failed(wrong, Exit.BAD_INPUT, "expected shape [1, 4, 5, 3], found [4, 5, 3]", "(1, 4, 5, 3)")
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01\x00garbage")
    assert_failed(delegraph("run", model, "--input", tmp_path / "x.npy"), Exit.BAD_INPUT, "x.npy")
    np.save(tmp_path / "object.npy", np.array([{}], object), allow_pickle=True)
    assert_failed(delegraph("run", model, "--input", tmp_path / "object.npy"), Exit.BAD_INPUT, "object.npy")
    np.savez(tmp_path / "x.npz", a=np.zeros(1), b=np.zeros(1))
    assert_failed(delegraph("run", model, "--input", tmp_path / "x.npz"), Exit.BAD_INPUT, "'a', 'b'", "'image'")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04")
    assert_failed(delegraph("run", model, "--input", tmp_path / "broken.npz"), Exit.BAD_INPUT, "broken.npz")
    (tmp_path / "x.raw").write_bytes(bytes(17))
    assert_failed(delegraph("run", model, "--input", tmp_path / "x.raw"), Exit.BAD_INPUT, "240 bytes", "found 17")


def test_shapes_get_advice_that_keeps_the_picture(delegraph: Call, model: Path, tmp_path: Path) -> None:
    """Axes in another order are transposed, never reshaped; pictures of another size are neither."""

    def run(*shape: int) -> Result:
        np.save(tmp_path / "x.npy", np.zeros(shape, np.float32))
        return delegraph("run", model, "--input", tmp_path / "x.npy")

    swapped = run(1, 3, 4, 5)
    assert_failed(swapped, Exit.BAD_INPUT, "found [1, 3, 4, 5]", "transpose(x, (0, 2, 3, 1))")
    assert "reshape" not in swapped.err
    larger = run(1, 300, 300, 3)
    assert_failed(larger, Exit.BAD_INPUT, "found [1, 300, 300, 3]", "pass that as a file", "resized to 5x4")
    assert "reshape" not in larger.err and "transpose" not in larger.err
    assert_failed(run(1, 1, 4, 5, 3), Exit.BAD_INPUT, "only dimensions of size 1 differ")


def test_reals_for_a_quantized_input_are_to_be_quantized(delegraph: Call, passing: MakeModel, tmp_path: Path) -> None:
    quantized = passing(Given(DType.UINT8, (1, 7), 0.5, 3), name="quantized.tflite")
    np.save(tmp_path / "x.npy", np.zeros((1, 7), np.float32))
    result = delegraph("run", quantized, "--input", tmp_path / "x.npy")
    assert_failed(result, Exit.BAD_INPUT, "expected uint8, found float32", "quantize", "x / 0.5", "+ 3")


def test_texts_get_no_advice_on_shapes(delegraph: Call, passing: MakeModel, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("one\ntwo\nthree\n")
    strings = passing(Given(DType.STRING, (2,)), name="strings.tflite")
    result = delegraph("run", strings, "--input", tmp_path / "x.txt")
    assert_failed(result, Exit.BAD_INPUT, "strings of shape [2]", "found 3 lines")
    numbers = passing(Given(DType.INT32, (2,)), name="numbers.tflite")
    result = delegraph("run", numbers, "--input", tmp_path / "x.txt")
    assert_failed(result, Exit.BAD_INPUT, "the text", "--input x=array.npy")


def test_empty_paths_are_named(delegraph: Call, model: Path) -> None:
    assert_failed(delegraph("run", model, "-i", "image="), Exit.BAD_INPUT, "expected a path behind 'image='")
    assert_failed(delegraph("run", model, "-i", ""), Exit.BAD_INPUT, "[NAME=]PATH")
    assert_failed(delegraph("run", ""), Exit.BAD_INPUT, "error: '': expected a file")


def test_wrong_sounds(delegraph: Call, model: Path, passing: MakeModel, tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(b"RIFF1234WAVEfmt ")
    assert_failed(delegraph("run", model, "--input", path), Exit.BAD_INPUT, "'image'", "x.wav")
    sound_model = passing(Given(DType.FLOAT32, (1, 100)), name="sound.tflite")
    assert_failed(delegraph("run", sound_model, "--input", path), Exit.BAD_INPUT, "a PCM WAV file", "ffmpeg")


def test_inputs_that_do_not_match_the_model(delegraph: Call, model: Path, picture: Path, passing: MakeModel) -> None:
    assert_failed(
        delegraph("run", model),
        Exit.BAD_INPUT,
        "'image' float32[1, 4, 5, 3]",
        "--input image=PATH",
        "--random",
    )
    assert_failed(delegraph("run", model, "--input", f"imago={picture}"), Exit.BAD_INPUT, "'image'", "'imago'")
    twice = delegraph("run", model, "--input", picture, "--input", picture)
    assert_failed(twice, Exit.BAD_INPUT, "expected 1 input (", "one more")
    named_twice = delegraph("run", model, "--input", f"image={picture}", "--input", f"image={picture}")
    assert_failed(named_twice, Exit.BAD_INPUT, "expected one value")
    flat = passing(Given(DType.FLOAT32, (1, 7)), name="flat.tflite")
    assert_failed(delegraph("run", flat, "--input", picture), Exit.BAD_INPUT, "[1, 7]", "the picture")


def test_wrong_flags(delegraph: Call, model: Path, picture: Path, tmp_path: Path) -> None:
    def run(*flags: object) -> Result:
        return delegraph("run", model, "--input", picture, *flags)

    assert_failed(run("--devices", "gpu9"), Exit.BAD_INPUT, "'gpu9'", "delegraph devices")
    assert_failed(run("--signature", "nope"), Exit.BAD_INPUT, "--signature", "'nope'")
    assert_failed(run("--top", 0), Exit.USAGE, "--top", "expected a whole number of at least 1, found 0")
    assert_failed(run("--top", "x"), Exit.USAGE, "--top", "expected a whole number of at least 1, found 'x'")
    assert_failed(delegraph("demo", "--count", 99), Exit.USAGE, "expected a whole number from 1 to 20, found 99")
    soon = delegraph("check-delegate", "null", "--timeout", "nan")
    assert_failed(soon, Exit.USAGE, "expected a number of at least 1, found nan")
    assert_failed(run("--pin", "0=cpu", "--pin", "0=reference"), Exit.BAD_INPUT, "--pin", "one device for 0")
    assert_failed(run("--threads", "many"), Exit.USAGE, "--threads")
    assert_failed(run("--devices", ","), Exit.USAGE, "--devices")
    assert_failed(run("--numerics", "sloppy"), Exit.USAGE, "exact", "fast")
    assert_failed(run("--normalize", "-2..2"), Exit.USAGE, "0..1")
    assert_failed(run("--mean", "a,b"), Exit.USAGE, "--mean", "numbers separated by commas")
    assert_failed(run("--mean", "1,2"), Exit.BAD_INPUT, "1 or 3 numbers", "found 2")
    assert_failed(run("--std", "0"), Exit.BAD_INPUT, "--std")
    assert_failed(run("--mean", "1", "--normalize", "none"), Exit.BAD_INPUT, "--normalize")
    assert_failed(run("--output", "out.xyz"), Exit.BAD_INPUT, ".npz")
    assert_failed(run("--output", tmp_path / "no" / "x.npy"), Exit.BAD_INPUT, "folder that exists")
    assert_failed(run("--labels", tmp_path / "none.txt"), Exit.BAD_INPUT, "none.txt")
    assert_failed(run("--labels", picture), Exit.BAD_INPUT, "label")
    assert_failed(run("--what"), Exit.USAGE, "--what", "delegraph run --help")
    assert_failed(delegraph("run"), Exit.USAGE, "MODEL")
    assert_failed(delegraph("run", "--random", model), Exit.USAGE)
    assert_failed(delegraph("run", model, "--random", "x"), Exit.USAGE, "seed")
    assert_failed(delegraph("inspect", model, "--subgraph", 3), Exit.BAD_INPUT, "--subgraph")
    assert_failed(delegraph("runn"), Exit.USAGE, "did you mean 'run'?")
    assert_failed(delegraph("devices", "gpu9"), Exit.BAD_INPUT, "'gpu9'")


def test_output_that_the_outputs_do_not_fit(delegraph: Call, passing: MakeModel, tmp_path: Path) -> None:
    model = passing(Given(DType.FLOAT32, (2, 3), name="a"), Given(DType.FLOAT32, (2, 3), name="b"))
    for name in ("o.npy", "o.png", "o.wav"):
        result = delegraph("run", model, "--random", "--output", tmp_path / name)
        assert_failed(result, Exit.BAD_INPUT, "--output", "out.npz")
        assert not (tmp_path / name).exists()


def test_device_errors(delegraph: Call, model: Path) -> None:
    from delegraph import registry

    missing = [info.id for info in registry.devices() if not info.available]
    if not missing:
        pytest.skip("every device of this machine can be used")
    result = delegraph("run", model, "--random", "--devices", missing[0], "--fallback", "error")
    assert_failed(result, Exit.DEVICE, missing[0])
    allowed = delegraph("run", model, "--random", "--devices", missing[0])
    assert allowed.code == Exit.OK and f"{missing[0]} was not used" in allowed.err


def test_unexpected_errors_have_a_traceback_only_with_debug(
    delegraph: Call, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("delegraph.api.compile", fail)
    assert_failed(delegraph("run", model), Exit.INTERNAL, "RuntimeError: boom", "--debug")
    for arguments in (("run", model, "--debug"), ("--debug", "run", model)):
        result = delegraph(*arguments)
        assert result.code == Exit.INTERNAL and "Traceback" in result.err and "error: " in result.err


def test_errors_as_json(delegraph: Call) -> None:
    result = delegraph("run", "missing.tflite", "--json")
    error = json.loads(result.out)["error"]
    assert (result.code, error["exit_code"], error["kind"]) == (5, 5, "bad_input")
    assert "missing.tflite" in error["message"] and error["tip"]


@pytest.mark.parametrize(
    ("arguments", "message", "help_for"),
    [
        (("foo", "--json"), "no command 'foo'", "delegraph"),
        (("run", "--nope", "--json"), "no such option", "delegraph run"),
        (("explain", "--json", "--diff", "a"), "requires 2 arguments", "delegraph explain"),
        (("run", "m.tflite", "--devices-file", "missing.yaml", "--json"), "missing.yaml: expected a file", ""),
    ],
)
def test_wrong_arguments_are_json_too(delegraph: Call, arguments: tuple[str, ...], message: str, help_for: str) -> None:
    """Whatever goes wrong before the options are read, and wherever --json stands."""
    result = delegraph(*arguments)
    error = json.loads(result.out)["error"]
    assert message in error["message"] and error["exit_code"] == result.code
    assert not help_for or error["tip"] == f"{help_for} --help"


def test_an_interruption_is_json_too(delegraph: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("delegraph.registry.devices", interrupt)
    result = delegraph("devices", "--json")
    assert result.code == Exit.INTERRUPTED
    assert json.loads(result.out)["error"] == {
        "exit_code": 130, "kind": "interrupted", "message": "interrupted", "tip": None
    }  # fmt: skip
    assert result.err.split() == ["interrupted"]


def test_every_exit_code_is_in_the_help_and_in_the_docs(delegraph: Call) -> None:
    text = delegraph("--help").out
    docs = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    for code, meaning in EXIT_CODES.items():
        assert re.search(rf"^ +{int(code)}  {re.escape(meaning)}$", text, re.M)
        assert re.search(rf"^\| {int(code)} \| {re.escape(meaning)}", docs, re.M)
