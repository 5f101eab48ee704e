"""Tutorials, how-to pages and explanations run as they stand, in the order of their blocks.

    ```python            runs; a ```text block behind it is what it prints
    ```python title="F"  is written to the file F
    ```console           lines behind `$` run: lapilli, python, ls, and make where there is a C
                         compiler; `$ echo $?` says a status but 0
    <!-- not run: ... -->  before a block says why it does not

Of what is printed, the lines shown must come in their order; `...` stands for anything.
"""

from __future__ import annotations

import io
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
for _package in ("sklearn", "spikingjelly", "snntorch", "nir", "onnx", "pyarrow"):
    pytest.importorskip(_package)

from lapilli.deploy.cli import frame  # noqa: E402
from lapilli.deploy.cli.app import app  # noqa: E402

pytestmark = pytest.mark.torch

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(
    p for folder in ("tutorials", "how-to", "explanation") for p in (DOCS / folder).glob("*.md")
)
SLOW = {"tutorials/bits.md"}
COMPILER = shutil.which("make") and shutil.which("cc")
_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<why>.+?) -->\n+)?^```(?P<kind>\w+)(?: title=\"(?P<file>.+?)\")?\n"
    r"(?P<text>.*?)^```$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    kind: str
    text: str
    file: str | None
    why: str | None


def blocks(page: str) -> list[Block]:
    return [Block(m["kind"], m["text"], m["file"], m["why"]) for m in _BLOCK.finditer(page)]


def shown(expected: str, printed: str) -> str | None:
    """The first expected line that was not printed in its place, or None."""
    lines = iter(" ".join(line.split()) for line in printed.splitlines())
    for wanted in (" ".join(line.split()) for line in expected.splitlines()):
        pattern = ".*".join(re.escape(part) for part in re.split(r" ?\.\.\. ?", wanted))
        if wanted and not any(re.fullmatch(pattern, line) for line in lines):
            return wanted
    return None


def commands(console: str) -> Iterator[tuple[str, str, int]]:
    """Each command with the output and the status that the page shows."""
    parts = re.split(r"^\$ ", console, flags=re.M)[1:]
    for part, after in zip(parts, [*parts[1:], ""], strict=True):
        line, _, output = part.replace("\\\n", " ").partition("\n")
        if line != "echo $?":
            status = int(after.split()[2]) if after.startswith("echo $?\n") else 0
            yield line, output, status


class Reader:
    """Somebody who types what the page says, in a folder of their own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: dict[str, Any] = {"__name__": "tutorial"}
        self.patch = monkeypatch
        self.printed = ""

    def read(self, block: Block) -> None:
        if block.why is not None:
            return
        if block.file is not None:
            Path(block.file).write_text(block.text)
        elif block.kind == "python":
            out = io.StringIO()
            with redirect_stdout(out), redirect_stderr(io.StringIO()):
                exec(compile(block.text, "the page", "exec"), self.names)
            self.printed = out.getvalue()
        elif block.kind == "text":
            assert (line := shown(block.text, self.printed)) is None, f"{line}\n{self.printed}"
        elif block.kind == "console":
            for line, output, status in commands(block.text):
                if line.startswith("make ") and not COMPILER:
                    continue
                ended, printed = self.typed(line)
                assert ended == status, f"{line}: status {ended}\n{printed}"
                assert (missed := shown(output, printed)) is None, f"{line}: {missed}\n{printed}"
        else:
            raise AssertionError(f"what is a block of {block.kind}?")

    def typed(self, line: str) -> tuple[int, str]:
        """Status and output of a command."""
        program, *words = shlex.split(line)
        words = [
            n
            for word in words
            for n in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
        ]
        out = io.StringIO()
        with redirect_stdout(out), redirect_stderr(out):
            if program == "lapilli":
                self.patch.setattr(sys, "argv", ["lapilli"])
                return frame.run(app, words), out.getvalue()
            if program == "python":
                self.patch.setattr(sys, "argv", words)
                runpy.run_path(words[0], run_name="__main__")
                return 0, out.getvalue()
        if program == "make":
            made = subprocess.run([program, *words], capture_output=True, text=True, check=False)
            return made.returncode, made.stdout + made.stderr
        assert program == "ls", program
        return 0, "\n".join(sorted(p.name for p in Path(words[0]).iterdir()))


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, id=name, marks=[pytest.mark.slow] if name in SLOW else [])
        for p in PAGES
        for name in [str(p.relative_to(DOCS))]
    ],
)
def test_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = blocks(page.read_text())
    assert page.read_text().count("\n```") == 2 * len(found), "a block that is not read"
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    reader = Reader(monkeypatch)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of frameworks
            for block in found:
                reader.read(block)
    finally:
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
                del sys.modules[name]


def test_a_line_that_was_not_printed_is_noticed() -> None:
    assert shown("a 1\nb ... 2", "a   1\nx\nb 32") is None
    assert shown("a 1\nb ...2", "b 2\na 1") == "b ...2"
    assert shown("0 mismatches", "10 mismatches") == "0 mismatches"


def test_a_status_must_be_told() -> None:
    text = "$ lapilli show x\nlapilli: x: no\n$ echo $?\n2\n$ ls y\n"
    assert list(commands(text)) == [("lapilli show x", "lapilli: x: no\n", 2), ("ls y", "", 0)]


def test_a_block_that_does_not_run_says_why() -> None:
    (block,) = blocks("<!-- not run: needs a chip -->\n```python\nfail\n```\n")
    assert block.why == "needs a chip"
