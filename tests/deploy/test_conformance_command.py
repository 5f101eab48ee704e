"""`lapilli conformance`, and simulators of one's own by name: a good one, and some that are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lapilli.deploy.cli import app as program
from lapilli.deploy.cli import frame
from lapilli.deploy.comparison.targets import NAMES, OwnSimulatorError, target
from lapilli.simulators.conformance import CASES

MINE = """
from dataclasses import dataclass, replace

from beside import shift
from lapilli.ir.errors import Unsupported, UnsupportedError
from lapilli.simulators.reference import Reference


@dataclass
class Good:
    name: str = "good"

    def compile(self, graph):
        return Reference().compile(graph)


class Bad(Good):
    '''Loses the last step of every read-out.'''

    def compile(self, graph):
        executable = super().compile(graph)

        class Late:
            def run(self, inputs):
                recording = executable.run(inputs)
                values = dict(recording.values)
                values[graph.outputs[0]] = shift(values[graph.outputs[0]])
                return replace(recording, values=values)

        return Late()


class Broken(Good):
    def compile(self, graph):
        raise KeyError("fc")


class Choosy(Good):
    def compile(self, graph):
        raise UnsupportedError("choosy", (Unsupported("x", "not today"),))


class NoSimulator:
    pass
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with simulators of somebody's."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "beside.py").write_text("def shift(values):\n    return values + 1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_name_gives_a_simulator_of_that_name() -> None:
    assert [target(name).name for name in NAMES] == list(NAMES)


def test_a_good_one_passes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert frame.run(program.app, ["conformance", "mine.py:Good"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(CASES) + 1
    assert lines[0].startswith(f"{CASES[0].name:34} exact: ")
    assert lines[-1].startswith(f"{len(CASES)} cases: {len(CASES)} exact, 0 refused, 0 fails; ")


@pytest.mark.parametrize(
    ("name", "result", "reason"),
    [
        ("Bad", "fails", "MismatchError: "),
        ("Broken", "fails", "KeyError: 'fc'"),
        ("Choosy", "refused", "x: not today"),
    ],
)
def test_others_are_status_1_and_say_why(
    name: str, result: str, reason: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert frame.run(program.app, ["conformance", f"mine.py:{name}", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told[result] == len(CASES)
    assert told["exact"] == told["compared"] == 0
    assert all(case["reason"].startswith(reason) for case in told["cases"])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("mine.py:NoSimulator", "without a 'name' and a 'compile'"),
        ("mine.py:Absent", "AttributeError"),
        ("absent.py:Mine", "FileNotFoundError"),
        ("no.such.module:Mine", "ModuleNotFoundError"),
    ],
)
def test_what_gives_no_simulator_is_refused(name: str, sentence: str, folder: Path) -> None:
    with pytest.raises(OwnSimulatorError, match=sentence):
        target(name)


def test_an_installed_module_is_named_by_its_dots() -> None:
    assert target("lapilli.simulators.reference:Reference").name == "reference"
