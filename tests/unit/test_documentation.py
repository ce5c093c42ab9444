"""What the documentation names exists: pages, commands, options, make targets, scripts, configurations."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer

from bone_age.cli import app

PROJECT = Path(__file__).parents[2]
PAGES = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES += sorted((PROJECT / "docs").rglob("*.md"))
SHELL = r"^[ ]*```(?:sh|shell|bash)\n(.*?)^[ ]*```"
OF_THE_READER = {"configs/ours.yaml"}
NO_COMMANDS = {"bone-age feature projections 1"}  # what a seed is made from
COMMANDS: Any = typer.main.get_command(app)


def identity(page: Path) -> str:
    return str(page.relative_to(PROJECT))


def shell_blocks(page: Path) -> list[str]:
    return re.findall(SHELL, page.read_text(), re.MULTILINE | re.DOTALL)


def shell_lines(page: Path) -> Iterator[str]:
    """Lines of shell blocks, continued ones joined, without comments."""
    for block in shell_blocks(page):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            yield re.sub(r"(^|\s)#.*", "", line).strip()


def calls(page: Path) -> Iterator[list[str]]:
    """Every call of the command line in shell blocks and in inline code, as words."""
    text = [*shell_lines(page), *re.findall(r"`([^`\n]+)`", page.read_text())]
    for line in (line for line in text if line not in NO_COMMANDS):
        for part in re.split(r"&&|\|\||[|;]", line):
            words = part.split()
            starts = [at for at, word in enumerate(words) if word.rpartition("/")[2] == "bone-age"]
            if starts and all("=" in word for word in words[: starts[0]]):
                yield words[starts[0] + 1 :]


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_commands_and_options_exist(page: Path) -> None:
    for words in calls(page):
        command = COMMANDS
        while hasattr(command, "commands") and words and re.fullmatch(r"[a-z-]+,?", words[0]):
            name = words.pop(0).rstrip(",")
            if name.startswith("-"):
                break
            assert name in command.commands, f"bone-age {name}: no such command"
            command = command.commands[name]
        known = {option for parameter in (*COMMANDS.params, *command.params) for option in parameter.opts} | {"--help"}
        for word in words:
            option = re.match(r"--[a-z][a-z0-9-]*", word)
            assert option is None or option.group() in known, f"{command.name} {option.group()}: no such option"


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_make_targets_scripts_and_configurations_exist(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    for line in [*shell_lines(page), *re.findall(r"`(make [^`\n]+)`", text)]:
        words = line.split()
        if words[:1] == ["make"]:
            assert {word for word in words[1:] if "=" not in word and re.fullmatch(r"[a-z-]+", word)} <= targets, line
    for path in set(re.findall(r"\b((?:benchmarks|configs)/[\w/-]+\.(?:py|yaml))", text)) - OF_THE_READER:
        assert (PROJECT / path).is_file(), path


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_shell_blocks_can_be_read_by_a_shell(page: Path) -> None:
    for block in shell_blocks(page):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stderr}"


def test_the_reference_of_the_command_line_is_that_of_the_code(tmp_path: Path) -> None:
    out = tmp_path / "command-line.md"
    command = [sys.executable, "-m", "typer", "bone_age.cli", "utils", "docs", "--name", "bone-age",
               "--title", "Command line", "--output", str(out)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, cwd=PROJECT)
    committed = PROJECT / "docs" / "reference" / "command-line.md"
    assert committed.read_text() == out.read_text(), "`make docs` writes it anew"


class Loaded(HTMLParser):
    """What a browser would fetch for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.addresses.append(told.get("src") or "")
        if tag == "link" and told.get("rel") != "canonical":
            self.addresses.append(told.get("href") or "")


def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=False)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 35
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text())
        assert loaded.addresses
        assert not [address for address in loaded.addresses if re.match(r"(https?:)?//", address)], page
