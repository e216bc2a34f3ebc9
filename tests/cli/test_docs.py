"""docs/cli.md and docs/placement.md: every example is a command with options that exist, and what they show is so."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import click
import pytest
from tests.cli.conftest import Call
from tests.support import require, shared_path

from delegraph.cli.group import cli
from delegraph.core import devices
from delegraph.partitioner.costs import SOURCES
from delegraph.partitioner.placement import DECIDERS, Placement

FOLDER = Path(__file__).parents[2] / "docs"
DOCS, PLACEMENT = FOLDER / "cli.md", FOLDER / "placement.md"
COMMAND = re.compile(r"^(?:\$ )?delegraph ([a-z].*?)(?: +#.*)?$", re.M)
EXAMPLES = [example for page in (DOCS, PLACEMENT) for example in COMMAND.findall(page.read_text())]
REAL = shared_path() / "models" / "real"


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 30


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_parses(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(blocks("yaml")[0])
    name, *arguments = shlex.split(example)
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    if "--help" not in arguments:
        try:
            command.make_context(name, arguments)
        finally:
            devices.use(None)


@pytest.mark.parametrize("name", ["run", "inspect", "devices", "explain", "ops", "check-delegate"])
def test_every_option_is_in_the_docs(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    (section,) = re.findall(rf"^## `delegraph {name}`$(.*?)(?=^## |\Z)", DOCS.read_text(), re.M | re.S)
    everywhere = DOCS.read_text().split("\n## ")[0]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert any(option in section + everywhere for option in parameter.opts), parameter.opts


def test_every_command_is_in_the_docs() -> None:
    table = DOCS.read_text().split("What holds for every command")[0]
    found = re.findall(r"^\| `([a-z-]+)[ `]", table, re.M)
    assert sorted(found) == cli.list_commands(click.Context(cli))


@pytest.mark.parametrize("name", ["explain"])
def test_every_option_in_a_table_exists(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    (section,) = re.findall(rf"^## `delegraph {name}`$(.*?)(?=^## |\Z)", DOCS.read_text(), re.M | re.S)
    known = {option for parameter in command.params for option in parameter.opts}
    for row in re.findall(r"^\| (`--.*?`) \|", section, re.M):
        assert set(re.findall(r"--[a-z-]+", row)) <= known


TRANSCRIPTS = re.findall(r"^\$ delegraph (explain .*?)\n(.*?)^```$", DOCS.read_text(), re.M | re.S)


@pytest.mark.parametrize(("command", "shown"), TRANSCRIPTS, ids=[command[-30:] for command, _ in TRANSCRIPTS])
def test_transcripts_are_what_is_printed(
    command: str, shown: str, delegraph: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Line by line; "..." stands for lines that were left out."""
    require("shared")
    monkeypatch.chdir(REAL)
    result = delegraph(*shlex.split(command))
    assert result.code == 0
    expected = ".*?\n".join(re.escape(part) for part in re.split(r"^\.\.\.\n", shown, flags=re.M))
    assert re.fullmatch(f"{expected}.*" if shown.endswith("...\n") else expected, result.out, re.S), result.out


def blocks(language: str) -> list[str]:
    """The examples of docs/placement.md in a language."""
    return re.findall(rf"```{language}\n(.*?)```", PLACEMENT.read_text(), re.S)


def test_the_example_of_placements_runs(delegraph: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python blocks in a row, then the commands between them."""
    require("shared")
    monkeypatch.chdir(tmp_path)
    shutil.copy(REAL / "mobilenet_v1_0.25_128_quant.tflite", "model.tflite")
    exec(compile("\n".join(blocks("python")), str(PLACEMENT), "exec"), {"__name__": "example"})
    Path("mine.yaml").write_text(blocks("yaml")[0])
    commands = [example for block in blocks("sh") for example in COMMAND.findall(block)]
    assert len(commands) == 4
    try:
        for example in commands:
            assert delegraph(*shlex.split(example)).code == 0, example
    finally:
        devices.use(None)


def test_the_short_document_reads() -> None:
    (document,) = blocks("json")
    assert [row.device for row in Placement.from_json(json.loads(document)).rows] == ["cpu", "cpu"]


def test_every_decider_source_and_field_is_explained() -> None:
    text = PLACEMENT.read_text()
    assert [word for word in (*DECIDERS, *SOURCES) if f"`{word}`" not in text] == []
    for name in ("placement", "costs"):
        schema = json.loads((FOLDER / f"{name}.schema.json").read_text())
        fields = set(schema["properties"])
        for part in schema["$defs"].values():
            fields |= set(part.get("properties", {}))
        assert [field for field in sorted(fields) if not re.search(rf"`{field}(\[\])?`", text)] == []
