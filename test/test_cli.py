"""Every command answers --help, offers --json, and turns bad input into one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from wm_vla_ros import __version__, cli

# Commands that run until they are stopped have nothing to report at the end.
ENDLESS = {("up",)}
RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command that does something, by walking the groups."""
    if not hasattr(command, "list_commands"):
        yield words
        return
    for name in command.list_commands(None):
        yield from leaves(command.get_command(None, name), (*words, name))


COMMANDS = sorted(leaves(typer.main.get_command(cli.app)))


def test_the_promised_commands_exist() -> None:
    promised = {
        ("bench", "delay"), ("bench", "loop"), ("bench", "plan"), ("bench", "policy"), ("bench", "transport"),
        ("data", "collect"), ("data", "info"), ("demo",), ("doctor",), ("eval", "imagination"),
        ("eval", "latent"), ("eval", "surprise"), ("eval", "tasks"), ("faults",), ("models", "compare"),
        ("models", "list"), ("models", "show"), ("train", "policy"),
        ("train", "world-model"),
    }  # fmt: skip
    assert promised - set(COMMANDS) == set()
    assert any(words[0] == "up" for words in COMMANDS)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help(words: tuple[str, ...]) -> None:
    result = RUNNER.invoke(cli.app, [*words, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage" in result.output
    assert ("--json" in result.output) or words[:1] in ENDLESS


def test_the_installed_command_answers() -> None:
    command = Path(sys.executable).parent / "wm-vla"
    done = subprocess.run([command, "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    for words in COMMANDS:
        assert words[0] in done.stdout


def test_version() -> None:
    assert RUNNER.invoke(cli.app, ["--version"]).output.strip() == __version__


def test_an_unknown_command_lists_the_valid_ones() -> None:
    result = RUNNER.invoke(cli.app, ["fly"])
    assert result.exit_code == 2
    for name in ("doctor", "eval"):
        assert name in result.output


def test_bad_input_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A traceback buries the line that says which value was wrong."""

    def refuse() -> None:
        raise ValueError("unknown robot 'x'; there are: so101")

    monkeypatch.delenv("WM_VLA_TRACEBACK", raising=False)
    monkeypatch.setattr(cli, "app", refuse)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: unknown robot 'x'; there are: so101\n"
    monkeypatch.setenv("WM_VLA_TRACEBACK", "1")
    with pytest.raises(ValueError, match="unknown robot"):
        cli.main()
