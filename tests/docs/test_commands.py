"""docs/reference/commands.md is what the command line says, and shell lines of pages are taken."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from lapilli.deploy.surveys.commands import commands, options, page
from lapilli.deploy.surveys.notebook import text

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = commands()
REFERENCE = (ROOT / "docs" / "reference" / "commands.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def missing(reference: str) -> set[str]:
    """Commands and options that a page does not name."""
    parts = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", reference, re.M | re.S))
    found = set(COMMANDS) - set(parts)
    for name in set(COMMANDS) - found:
        names = {o for p in options(COMMANDS[name]) for o in (*p.opts, *p.secondary_opts)}
        found |= {f"{name} {option}" for option in names if f"`{option}`" not in parts[name]}
    return found


def test_the_page_is_current() -> None:
    assert page() == REFERENCE, "docs/reference/commands.md is old: make pages"


def test_every_command_and_option_is_named() -> None:
    assert not missing(REFERENCE)
    assert missing(REFERENCE.replace("`--crop`", "")) >= {"run --crop", "quantize --crop"}
    assert "doctor" in missing(REFERENCE.replace("## doctor", "## "))


def test_the_notebook_is_the_tutorial() -> None:
    tutorial = ROOT / "docs" / "tutorials" / "digits.md"
    made = text(tutorial.read_text())
    assert tutorial.with_suffix(".ipynb").read_text() == made, "digits.ipynb is old: make pages"
    assert made.count('"cell_type": "code"') == tutorial.read_text().count("```python") + (
        tutorial.read_text().count("```console")
    )


def lines(text: str) -> Iterator[str]:
    """Calls of lapilli that a page shows as lines of a shell."""
    joined = text.replace("\\\n", " ")
    for line in re.findall(r"^(?: {4}|\$ )(lapilli .*)$", joined, re.M):
        yield re.split(r" +# ", line)[0]


def unknown(line: str) -> list[str]:
    """Options of a line that its command does not have; or the command."""
    _, name, *words = shlex.split(line)
    if name.startswith("--") or name == "COMMAND":
        return [] if name in ("--help", "--version", "COMMAND") else [name]
    if name not in COMMANDS:
        return [name]
    known = {o for p in options(COMMANDS[name]) for o in (*p.opts, *p.secondary_opts)}
    told = [w.partition("=")[0] for w in words if re.match(r"--?[A-Za-z]", w)]
    return [w for w in told if w not in known | {"--help", "--debug"}]


@pytest.mark.parametrize("path", [pytest.param(p, id=p.name) for p in PAGES])
def test_every_line_of_a_shell_names_what_there_is(path: Path) -> None:
    wrong = {line: odd for line in lines(path.read_text()) if (odd := unknown(line))}
    assert not wrong


def test_a_line_with_an_option_that_is_not_there_is_noticed() -> None:
    page = "    lapilli run a.lapilli --fast   # --gone\n\n$ lapilli walk\n"
    page += "    lapilli run a --on x \\\n  --z 1\n"
    assert [unknown(line) for line in lines(page)] == [["--fast"], ["walk"], ["--z"]]
