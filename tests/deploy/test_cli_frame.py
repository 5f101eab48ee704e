"""How commands end: a sentence and a status for what is foreseen, a log for what is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import typer
from PIL import Image

from lapilli.deploy.cli import app as program
from lapilli.deploy.cli import frame
from lapilli.export.native import save_network
from lapilli.ir import ops
from lapilli.ir.errors import FormatError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType

BARE = (
    "import sys; [sys.modules.update({m: None}) for m in 'torch sklearn nir h5py onnx onnxruntime "
    "nirtorch snntorch spikingjelly norse scipy uv jinja2'.split()];"
    "from lapilli.deploy.cli.app import main; sys.argv[0] = 'lapilli'; main()"
)


def network() -> Network:
    """Neurons of a 4 x 4 image and three classes."""
    weight = IntTensor.of(np.arange(48).reshape(3, 16) - 20)
    head = ops.Linear(weight=weight, bias=IntTensor.of([0, 0, 0]), graded=True)
    nodes = (
        Node("x", ops.Input(type=TensorType((1, 4, 4), IntRange(-8, 8), Kind.GRADED))),
        Node("flat", ops.Reshape(shape=(16,)), ("x",)),
        Node("fc", head, ("flat",)),
        Node("lif", ops.Neuron(threshold=IntTensor.of([64 * 5 + 1])), ("fc",)),
        Node("logits", ops.Readout(), ("lif",)),
    )
    quantizer = InputQuantizer(
        mean=(Fraction(1, 2),), std=(Fraction(1, 16),), exponent=0, lo=-8, hi=8
    )
    graph = Graph(nodes, ("logits",), 2)
    return Network(graph=graph, input=quantizer, logit_scale=Fraction(1), classes=("a", "b", "c"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a network and images in it."""
    save_network(network(), tmp_path / "net.lapilli")
    np.savez(tmp_path / "images.npz", images=np.zeros((2, 1, 4, 4), np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _raising(error: BaseException) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def fail(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        print("noise of somebody's module")  # noqa: T201
        raise error

    return app


ENDINGS: tuple[tuple[BaseException, int, str, str], ...] = (
    (FormatError(Path("x"), "is odd"), 2, "FormatError", "x: is odd"),
    (typer.BadParameter("no such thing."), 2, "BadParameter", "no such thing"),
    (FileNotFoundError(2, "No such file", "a.b"), 2, "FileNotFoundError", "a.b: no such file"),
    (OSError(28, "No space left"), 2, "OSError", "no space left; free some space"),
    (MemoryError("3.45 TiB"), 2, "MemoryError", "more memory than there is (3.45 TiB)"),
    (
        ModuleNotFoundError("gone", name="h5py.h5"),
        2,
        "SimulatorUnavailableError",
        "pip install 'lapilli[nir]'",
    ),
    (SystemExit(7), 2, "SystemExit", "code that was asked to run ended the program with 7"),
    (KeyboardInterrupt(), 130, "Interrupted", "interrupted"),
    (typer.Abort(), 130, "Interrupted", "interrupted"),
    (ModuleNotFoundError("gone", name="nobody"), 3, "Fault", "a fault of lapilli"),
    (ZeroDivisionError("\x1b[31m"), 3, "Fault", "ZeroDivisionError: \\x1b[31m"),
)


@pytest.mark.parametrize(
    ("error", "status", "kind", "sentence"), ENDINGS, ids=lambda v: str(v)[:30]
)
def test_every_ending(
    error: BaseException,
    status: int,
    kind: str,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert frame.run(_raising(error), ["--json"]) == status
    said = capsys.readouterr()
    told = json.loads(said.out)["error"]
    assert told["kind"] == kind
    assert sentence in said.err
    assert "Traceback" not in said.err
    assert "noise" in said.err  # and not on standard output
    logs = list(tmp_path.glob("lapilli-fault-*.log"))
    assert len(logs) == (status == 3)
    if logs:
        assert str(logs[0]) in said.err
        assert f"{type(error).__name__}: {error}" in logs[0].read_text()

    assert frame.run(_raising(error), []) == status
    said = capsys.readouterr()
    assert said.out == "noise of somebody's module\n"
    assert said.err.startswith("lapilli: ")


def test_a_fault_that_cannot_be_logged_is_printed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert frame.run(_raising(ZeroDivisionError("x")), []) == 3
    assert "ZeroDivisionError: x" in capsys.readouterr().err


def test_debug_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        frame.run(_raising(ZeroDivisionError("x")), ["--debug"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run"], "see `lapilli run --help`"),
        (["nonsense"], "No such command 'nonsense'; see `lapilli --help`"),
        (["show", "net.lapilli", "--odd"], "see `lapilli show --help`"),
        (["golden", "net.lapilli", "--count", "x"], "see `lapilli golden --help`"),
        (["export", "net.lapilli"], "nothing to write"),
    ],
)
def test_wrong_usage(
    folder: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert frame.run(program.app, arguments) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_version_and_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []
    for arguments in (["--version"], ["--help"], []):
        monkeypatch.setattr(sys, "argv", ["lapilli", *arguments])
        with pytest.raises(SystemExit) as left:
            program.main()
        assert left.value.code == 0
        shown.append(capsys.readouterr().out)
    assert shown[0].startswith("lapilli 0.")
    assert shown[1] == shown[2]
    assert "conformance" in shown[1]


def test_hints_name_the_program_as_it_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [".venv/bin/lapilli", "demo"])
    monkeypatch.setenv("PATH", "")
    assert frame.program() == ".venv/bin/lapilli"
    monkeypatch.setattr(sys, "argv", ["-c", "demo"])
    assert frame.program() == "lapilli"
    monkeypatch.setattr(sys, "argv", ["/site/lapilli/__main__.py", "demo"])
    monkeypatch.setattr(sys, "executable", "/a b/python")
    assert frame.program() == "'/a b/python' -m lapilli"


def test_python_runs_the_package() -> None:
    def said(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "lapilli", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    assert said("--version")[1].startswith("lapilli 0.")
    assert said("show") == (2, "lapilli: Missing argument 'network'; see `lapilli show --help`\n")


# Each command with the place of one path, `{}`; what else it needs is there.
WITH_A_PATH = (
    *(["inspect", f"{{}}{suffix}"] for suffix in ("", ".lapilli", ".onnx", ".pt", ".safetensors")),
    ["inspect", "{}", "--latency"],
    ["show", "{}.lapilli"],
    ["export", "{}", "--onnx", "x.onnx"],
    ["export", "{}.lapilli", "--nir", "x.nir"],
    ["check", "{}.nir", "--for", "norse"],
    ["import", "{}.nir", "-o", "x.lapilli"],
    ["import", "{}.net", "-o", "x.lapilli"],
    ["golden", "{}.lapilli", "-o", "golden"],
    ["golden", "net.lapilli", "{}.png", "-o", "golden"],
    ["golden", "net.lapilli", "--source", "{}.npz", "-o", "golden"],
    ["run", "{}", "x.png"],
    ["run", "net.lapilli", "{}.jpg"],
    ["run", "net.lapilli", "grey.png", "--simulator", "lava", "--run-config", "{}.py:Config"],
    ["run", "net.lapilli", "grey.png", "--simulator", "{}.py:Simulator"],
    ["conformance", "{}.py:Simulator"],
    ["compare", "{}.lapilli", "--images", "images.npz"],
    ["compare", "net.lapilli", "--images", "{}"],
    ["compare", "net.lapilli", "--images", "images.npz", "--checkpoint", "{}.pt"],
    ["compare", "net.lapilli", "--images", "images.npz", "--module", "{}.py:Net"],
    ["quantize", "{}.pth", "--calibration", "images.npz", "-o", "x.lapilli"],
    ["quantize", "{}.py:Net", "--calibration", "images.npz", "-o", "x.lapilli"],
    ["quantize", "x.pt", "--calibration", "{}.npz", "-o", "x.lapilli"],
)


def _binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 8)


def _unreadable(path: Path) -> None:
    _binary(path)
    path.chmod(0)


BAD_PATHS: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "folder": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "unreadable": _unreadable,
    "empty": lambda path: path.touch(),
    "binary": _binary,
    "zerlegt-\u2603": _binary,
    "\x1b[31mred": _binary,
    "[bold]": _binary,
    "latin-\udce9": _binary,
    "a" * 300: lambda path: None,
}


@pytest.mark.parametrize("arguments", WITH_A_PATH, ids=" ".join)
def test_every_command_refuses_every_bad_path_in_a_sentence(
    arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save("grey.png")
    (template,) = (a for a in arguments if "{}" in a)
    suffix = template.removeprefix("{}").partition(":")[0]
    for stem, make in BAD_PATHS.items():
        make(folder / f"{stem}{suffix}")
        before = {*os.listdir(folder), "__pycache__"}  # of a run configuration
        given = [a.replace("{}", stem) for a in arguments]
        status = frame.run(program.app, [*given, "--json"])
        said = capsys.readouterr()
        assert status == 2, (given, said.err)
        assert json.loads(said.out)["error"]["message"], given
        assert said.err.startswith("lapilli: "), given
        assert "Traceback" not in said.err, given
        assert "\x1b" not in said.err, given
        assert {*os.listdir(folder), "__pycache__"} == before, given


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["inspect", "x.pt"], "torch"),
        (["inspect", "x.onnx"], "onnx"),
        (["inspect", "net.lapilli", "--latency"], "lava"),
        (["export", "net.lapilli", "--nir", "x.nir"], "nir"),
        (["export", "net.lapilli", "--onnx", "x.onnx"], "onnx"),
        (["export", "net.lapilli", "--net", "x.net"], "nir"),
        (["check", "x.nir", "--for", "norse"], "nir"),
        (["import", "x.nir", "-o", "x.lapilli"], "nir"),
        (["import", "x.net", "-o", "x.lapilli"], "nir"),
        (["golden", "net.lapilli"], "demo"),
        (["report", "net.lapilli", "-o", "r.html"], "report"),
        (["quantize", "x.pt", "-o", "x.lapilli"], "torch"),
        (["demo", "--no-lava"], "torch"),
        (["compare", "net.lapilli"], "demo"),
        (["compare", "net.lapilli", "--images", "images.npz", "--checkpoint", "x.pt"], "torch"),
        *(
            (["compare", "net.lapilli", "--images", "images.npz", "--simulator", name], extra)
            for name, extra in (
                ("onnx", "onnx"), ("nir", "nir"), ("nirtorch", "nir"), ("snntorch", "snntorch"),
                ("norse", "norse"), ("spikingjelly", "spikingjelly"),
            )
        ),
    ],
    ids=str,
)  # fmt: skip
def test_a_base_install_names_the_extra(arguments: list[str], extra: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BARE, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert f"lapilli[{extra}]" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(folder.glob("x.*"))


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['lapilli', '--help'];"
        "from lapilli.deploy.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert "lapilli.deploy.cli.app" in loaded
    assert "Usage" in done.stdout
    heavy = {"numpy", "PIL", "torch", "onnx", "nir", "h5py", "scipy", "sklearn", "safetensors"}
    assert not loaded & heavy
    assert not [m for m in loaded if m.startswith("lapilli.simulators.lava.host.")]


def test_a_reader_that_leaves_is_no_error(folder: Path) -> None:
    show = ["show", "net.lapilli"]
    for arguments in (show, [*show, "--json"], ["--help"], ["show", "--help"]):
        reads, writes = os.pipe()
        os.close(reads)
        done = subprocess.run(
            [sys.executable, "-m", "lapilli", *arguments],
            stdout=writes,
            stderr=subprocess.PIPE,
            check=False,
        )
        os.close(writes)
        assert (done.returncode, done.stderr) == (141, b"")


def test_interrupted_is_130(folder: Path) -> None:
    (folder / "slow.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    code = (  # a shell that runs tests in the background has SIGINT ignored
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from lapilli.deploy.cli.app import main; sys.argv[0] = 'lapilli'; main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, "conformance", "slow.py:Mine"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said == "lapilli: interrupted\n"
