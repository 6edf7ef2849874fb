"""What the documentation promises exists: links, commands and their options, make targets."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from wm_vla_ros import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md"))
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
COMMAND = re.compile(r"(?:^ +|`)(?:\.venv/bin/)?wm-vla ([^`#\n]*)", re.MULTILINE)
MAKE = re.compile(r"(?:^ +|`)make ([a-z ]+)", re.MULTILINE)


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def command_lines() -> Iterator[Any]:
    for page in PAGES:
        for line in COMMAND.findall(re.sub(r" *\\\n *", " ", page.read_text())):
            yield pytest.param(shlex.split(line), id=f"{page.name}: {line.strip()}")


@pytest.mark.parametrize("words", list(command_lines()))
def test_commands_and_options_exist(words: list[str]) -> None:
    """A renamed option leaves the page that tells people to use it behind."""
    command: Any = typer.main.get_command(cli.app)
    words = [word for word in words if word not in ("...", "<command>")]
    while words and hasattr(command, "list_commands") and not words[0].startswith("-"):
        names = command.list_commands(None)
        assert words[0].rstrip(",") in names, f"{words[0]!r} is not among {names}"
        command = command.get_command(None, words.pop(0).rstrip(","))
    options = {option for parameter in command.params for option in parameter.opts} | {"--help", "--version"}
    assert [word for word in words if word.startswith("--") and word not in options] == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for line in MAKE.findall(page.read_text()) for target in line.split()}
    assert named - targets == set()


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs/adr"
    listed = set(LINK.findall((folder / "README.md").read_text()))
    assert listed == {page.name for page in folder.glob("0*.md")}


def test_the_fault_cases_that_are_run_are_the_ones_in_the_reference() -> None:
    from wm_vla_ros.faults.campaign import VALID_CASES

    page = (ROOT / "docs/reference/fault-cases.md").read_text()
    assert [int(number) for number in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)] == list(VALID_CASES)
