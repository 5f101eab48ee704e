"""Unlucky calls of every command: a sentence, a status, no half of a file, nobody left behind."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("h5py")

import lapilli.model

if TYPE_CHECKING:
    from lapilli.quantize import Quantized

START = (  # a shell that runs tests in the background has SIGINT ignored
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from lapilli.deploy.cli.app import main; main()"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, spikformer: Quantized) -> Path:
    from monkey.calls import folder_of_files

    made = tmp_path_factory.mktemp("monkey")
    checkpoints = Path(str(lapilli.model.__file__)).parent / "checkpoints"
    folder_of_files(made, spikformer.network, checkpoints / "digits_spikformer.safetensors")
    return made


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of what a spoiled call gave up
def test_two_hundred_spoiled_calls(folder: Path) -> None:
    from monkey.calls import call
    from monkey.trying import attempt

    assert [problem for n in range(200) if (problem := attempt(call(n), folder))] == []


def test_every_command_is_spoiled() -> None:
    from monkey.calls import BASES, SLOW, _commands, call

    assert set(_commands()) == {*BASES, *SLOW}
    called = {call(n).arguments[0] for n in range(200)}
    assert called == set(_commands())


def test_every_option_of_data_is_spoiled() -> None:
    """`make monkey` gives each of them something bad, in each command that has it."""
    from monkey.calls import BAD, call

    spoiled = {
        (words[0], option.partition("=")[0])
        for words in (call(n).arguments for n in range(2000))
        for option, value in itertools.pairwise(words[1:])
        if value in BAD or option.partition("=")[2] in BAD
    }
    options = ("--resize", "--crop", "--frames", "--bin-by", "--sensor")
    missed = [
        (command, option)
        for command in ("run", "compare", "quantize", "golden", "validate")
        for option in options
        if (command, option) not in spoiled
    ]
    assert [*missed, *({("quantize", "--calibration-count")} - spoiled)] == []


def _children(session: int) -> list[int]:
    """Processes of a session that are still there."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def test_thirty_real_processes(folder: Path) -> None:
    from monkey.calls import call

    wrong = []
    for number in range(1000, 1030):
        spoiled = call(number)
        process = subprocess.Popen(
            [sys.executable, "-c", START, *spoiled.arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            start_new_session=True,
        )
        _, told = process.communicate(timeout=120)
        if process.returncode not in (0, 1, 2) or b"Traceback" in told:
            wrong.append(f"{spoiled}: status {process.returncode}: {told[-300:]!r}")
        if left := _children(process.pid):
            wrong.append(f"{spoiled}: left {left}")
    assert wrong == []


@pytest.mark.parametrize("as_json", [False, True])
def test_an_interrupted_command_says_so(folder: Path, as_json: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4000, 1, 8, 8), np.uint8)
    np.savez(folder / "many.npz", images=pixels)
    more = ["--json"] if as_json else []
    process = subprocess.Popen(
        [sys.executable, "-c", START, "compare", "net.lapilli", "--images", "many.npz", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        start_new_session=True,
    )
    time.sleep(4)
    os.kill(process.pid, signal.SIGINT)
    said, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"interrupted" in told
    assert b"Traceback" not in told
    assert (b'"error"' in said) == as_json
    assert _children(process.pid) == []
