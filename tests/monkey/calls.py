"""Calls of every command with one option or argument spoiled: which, says a number."""

from __future__ import annotations

import functools
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from lapilli.deploy.cli.app import app

# Calls of each command that would succeed; `folder_of_files` makes what they name.
_PICTURES = ["--resize", "9:bicubic", "--crop", "8", "--skip-unreadable"]
_EVENTS = ["--frames", "2", "--bin-by", "time", "--sensor", "8x8"]
BASES: dict[str, list[list[str]]] = {
    "run": [
        ["net.lapilli", "digit.png"],
        ["net.lapilli", "large.png", *_PICTURES[:4]],
        ["net.lapilli", "--source", "classes", "--count", "2", *_PICTURES],
    ],
    "compare": [
        ["net.lapilli", "--images", "images.npz"],
        ["net.lapilli", "--images", "classes", "--count", "3", *_PICTURES],
        ["net.lapilli", "--images", "events", *_EVENTS],  # refused: of two channels
    ],
    "quantize": [
        ["net.safetensors", "--calibration", "images.npz", "-o", "new.lapilli"],
        [
            *("net.safetensors", "--calibration", "classes", "--calibration-count", "3"),
            *("-o", "new.lapilli", *_PICTURES),
        ],
        ["net.safetensors", "--calibration", "events", "-o", "new.lapilli", *_EVENTS],
    ],
    "cost": [
        ["net.lapilli"],
        ["net.lapilli", "--data", "images.npz", "--csv", "new.csv", "--latex", "new.tex"],
        ["net.lapilli", "--data", "classes", "--count", "3", *_PICTURES],
    ],
    "report": [
        ["net.lapilli", "-o", "new.html"],
        ["net.lapilli", "--data", "images.npz", "--results", "new", "-o", "new.html"],
        ["net.lapilli", "--data", "classes", "--results", "new", "-o", "new.html", *_PICTURES],
        ["net.lapilli", "--data", "events", "--results", "new", "-o", "new.html", *_EVENTS],
    ],
    "inspect": [["net.lapilli"]],
    "show": [["net.lapilli"]],
    "export": [["net.lapilli", "--onnx", "new.onnx"]],
    "check": [["net.nir", "--for", "snntorch"]],
    "import": [["net.nir", "-o", "new.lapilli"]],
    "golden": [
        ["net.lapilli", "digit.png", "-o", "new"],
        ["net.lapilli", "--source", "classes", "--count", "3", "-o", "new", *_PICTURES],
        ["net.lapilli", "--source", "events", "-o", "new", *_EVENTS],
    ],
    "conformance": [["simulator.py:Mine"]],
    "validate": [
        ["net.lapilli", "--data", "images.npz", "-o", "new"],
        ["net.lapilli", "--data", "classes", "--count", "3", "-o", "new", *_PICTURES],
        ["net.lapilli", "--data", "events", "-o", "new", *_EVENTS],
    ],
}
# They build environments or take half a minute and more: spoiled only where no work is done.
SLOW = ("demo", "doctor", "train", "finetune")
LONG = "9" * 400
BAD = [
    "",
    " ",
    "-",
    "--",
    "-1",
    "0",
    "1e999",
    "nan",
    "inf",
    LONG,
    "1,2,3",
    ",",
    "a,b",
    "0.5,0.5,0.5,0.5",
    "missing.lapilli",
    "missing.npz",
    "no/such/file.lapilli",
    "folder",
    "folder/",
    ".",
    "..",
    "~",
    "/",
    "pipe",
    "empty",
    "huge.json",
    "words.npz",
    "text.lapilli",
    "text.png",
    "text.npz",
    "text.nir",
    "\x1b[31mred\x1b[0m",
    "‮.lapilli",
    "ünï.lapilli",
    "a b",
    "'",
    '"',
    "$(id)",
    "%s",
    "{}",
    '{"T": 4',
    "[" * 5000,
    "x=1",
    "=",
    "x=",
    "=1",
    "T=",
    "text.py",
    "text.py:",
    "text.py:Net",
    "text.py:nothing",
    "no.such.module:Net",
    "os:path",
    "simulator.py:Missing",
    "8",
    "8x8",
    "8:nearest",
    "99999",
    "99999x99999",
    "count",
    "classes",
    "events",
    "data.py:Set",
    "data.py:Fails",
    "BCHW",
    "WHCB",
    "reference",
    "lava-9",
    ":",
    "net.lapilli",
    "net.nir",
    "images.npz",
    "net.safetensors",
    "digit.png",
    "x" * 300,
    "latin-\udce9",
]


@dataclass(frozen=True)
class Call:
    """One spoiled call; `writes` says whether it may leave new files when it succeeds."""

    number: int
    arguments: list[str]

    def __str__(self) -> str:
        return f"call {self.number}: lapilli {' '.join(a[:60] for a in map(ascii, self.arguments))}"


@functools.cache
def _commands() -> dict[str, list[str]]:
    """Every command, and the long names of its options, as they are today."""
    group: Any = typer.main.get_command(app)
    found = {}
    for name, command in group.commands.items():
        options = [o for p in command.params for o in p.opts if o.startswith("--")]
        found[name] = [o for o in options if o not in ("--help", "--fix")]
    return found


def call(number: int) -> Call:
    """The call of this number: the same on every machine."""
    rng = random.Random(number)
    commands = _commands()
    name = rng.choice(sorted(commands))
    bad = rng.choice(BAD)
    if name in SLOW:
        more = ["--no-such-option", bad]
        if name == "demo" and rng.random() < 0.8:
            more = rng.choice([["--lava-images", "-1"], ["--lava-images", "a"], ["--out", "pipe"]])
        return Call(number, [name, *more])
    arguments = list(rng.choice(BASES[name]))
    kind = rng.random()
    if kind < 0.3:  # in place of what is there
        arguments[rng.randrange(len(arguments))] = bad
    elif kind < 0.85:  # an option of the command
        option = rng.choice(commands[name])
        arguments += rng.choice([[option, bad], [f"{option}={bad}"], [option, bad, option, bad]])
    elif kind < 0.95:  # one too many, or too few
        arguments = [*arguments, bad] if rng.random() < 0.5 else arguments[:-1]
    else:
        arguments += [rng.choice(["--no-such-option", "-x", "--"]), bad]
    if rng.random() < 0.4:
        arguments.append("--json")
    return Call(number, [name, *arguments])


def folder_of_files(folder: Path, network: Any, checkpoint: Path) -> None:
    """Make what calls name: files that are right, and files that are wrong."""
    import numpy as np
    from PIL import Image

    from lapilli.export.native import save_network
    from lapilli.export.nir.write.writer import save_nir

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, 1, 8, 8), np.uint8)
    save_network(network, folder / "net.lapilli")
    save_nir(network, folder / "net.nir")
    (folder / "net.safetensors").write_bytes(checkpoint.read_bytes())
    np.savez(folder / "images.npz", images=pixels, labels=np.arange(6) % 3)
    np.savez(folder / "words.npz", images=pixels, labels=np.array(["a"] * 6))
    Image.fromarray(pixels[0, 0]).save(folder / "digit.png")
    large = Image.fromarray(pixels[1, 0]).resize((16, 12))
    large.save(folder / "large.png")
    for name in ("a", "b"):
        (folder / "classes" / name).mkdir(parents=True)
        large.save(folder / "classes" / name / "0.png")
        (folder / "classes" / name / "1.png").write_text("no such thing\n")
        (folder / "events" / name).mkdir(parents=True)
        events = b"".join(bytes((i, i, 0, i, 0)) for i in range(8))  # x, y, p and t
        (folder / "events" / name / "0.bin").write_bytes(events)
    (folder / "folder").mkdir()
    (folder / "empty").write_bytes(b"")
    (folder / "huge.json").write_text('{"a": [' + "1," * 5_000_000 + "1]}")
    for name in ("text.lapilli", "text.png", "text.npz", "text.nir", "text.py"):
        (folder / name).write_text("no such thing\n")
    (folder / "simulator.py").write_text(
        "from lapilli.simulators.reference import Reference\nclass Mine(Reference): pass\n"
    )
    (folder / "data.py").write_text(
        "import numpy as np\n"
        "class Set:\n"
        "    def __len__(self): return 3\n"
        "    def __getitem__(self, i): return np.full((1, 8, 8), i, np.uint8), i\n"
        "class Fails(Set):\n"
        "    def __len__(self): raise RuntimeError('of mine')\n"
    )
    os.mkfifo(folder / "pipe")
