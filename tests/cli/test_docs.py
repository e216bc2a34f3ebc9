"""docs/cli.md: every example is a command with options that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from delegraph.cli.group import cli

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
EXAMPLES = re.findall(r"^(?:\$ )?delegraph ([a-z].*?)(?: +#.*)?$", DOCS.read_text(), re.M)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 12


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_parses(example: str) -> None:
    name, *arguments = shlex.split(example)
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    if "--help" not in arguments:
        command.make_context(name, arguments)


@pytest.mark.parametrize("name", ["run", "inspect", "devices"])
def test_every_option_is_in_the_docs(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    text = DOCS.read_text()
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert any(option in text for option in parameter.opts), parameter.opts
