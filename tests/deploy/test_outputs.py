"""Where commands write: inputs survive, standard output takes a file, refusals come first."""

from __future__ import annotations

import json
import os
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lapilli.deploy.cli.app import main
from lapilli.export.native import load_network, save_network
from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    nodes = (
        Node("x", ops.Input(type=TensorType((3,), IntRange(0, 1), Kind.SPIKES))),
        Node(
            "fc",
            ops.Linear(weight=IntTensor.of(np.eye(3, dtype=np.int64)), bias=IntTensor.of([0] * 3)),
            ("x",),
        ),
        Node("lif", ops.Neuron(threshold=IntTensor.of([65]), dv=0), ("fc",)),
    )
    quantizer = InputQuantizer(mean=(Fraction(0),), std=(Fraction(1),), exponent=0, lo=0, hi=1)
    graph = Graph(nodes, ("lif",), 2)
    network = Network(
        graph=graph, input=quantizer, logit_scale=Fraction(1), classes=("a", "b", "c")
    )
    save_network(network, tmp_path / "net.lapilli")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "net.lapilli"


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lapilli", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_an_export_never_replaces_its_input(
    net: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = net.read_bytes()
    os.symlink("net.lapilli", "link")
    for output in ("net.lapilli", "./net.lapilli", "link"):
        for option in ("--nir", "--onnx", "--onnx-step", "--net"):
            assert _run(monkeypatch, "export", "net.lapilli", option, output) == 2
            assert "is what is read (net.lapilli)" in capsys.readouterr().err
    assert net.read_bytes() == before
    assert _run(monkeypatch, "export", "net.lapilli", "--nir", "out", "--onnx", "out") == 2
    assert "would be written twice" in capsys.readouterr().err
    assert _run(monkeypatch, "golden", "net.lapilli", "-o", "net.lapilli") == 2
    assert "is a file" in capsys.readouterr().err
    assert sorted(os.listdir()) == ["link", "net.lapilli"]


def test_an_import_never_replaces_its_input(
    net: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nir")
    assert _run(monkeypatch, "export", "net.lapilli", "--nir", "net.nir") == 0
    before = Path("net.nir").read_bytes()
    assert _run(monkeypatch, "import", "net.nir", "-o", "net.nir") == 2
    assert "is what is read (net.nir)" in capsys.readouterr().err
    assert Path("net.nir").read_bytes() == before


def test_an_output_that_cannot_be_is_refused_before_the_work(
    net: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo("pipe")
    os.mkdir("folder")
    for output, said in (
        ("pipe", "is a named pipe"),
        ("folder", "is a folder"),
        ("no/such", "there is no folder"),
    ):
        for command in (
            ("export", "gone.lapilli", "--onnx", output),
            ("import", "gone.nir", "-o", output),
        ):
            assert _run(monkeypatch, *command) == 2
            told = capsys.readouterr().err
            assert said in told
            assert "gone" not in told  # not even the input was asked for
    assert sorted(os.listdir()) == ["folder", "net.lapilli", "pipe"]


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("option", ["--onnx", "--onnx-step", "--nir", "--net"])
def test_standard_output_takes_one_file(
    net: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
    option: str,
    as_json: bool,
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("nir")
    more = ["--json"] if as_json else []
    assert _run(monkeypatch, "export", "net.lapilli", option, "file", *more) == 0
    capfdbinary.readouterr()
    assert _run(monkeypatch, "export", "net.lapilli", option, "-", *more) == 0
    said = capfdbinary.readouterr()
    assert said.out == Path("file").read_bytes()
    if as_json:
        assert json.loads(said.err)["files"][0]["file"] == "-"
    else:
        assert b"wrote -: " in said.err
    assert sorted(os.listdir()) == ["file", "net.lapilli"]


def test_standard_output_takes_what_is_imported(
    net: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    pytest.importorskip("nir")
    assert _run(monkeypatch, "export", "net.lapilli", "--nir", "net.nir") == 0
    assert _run(monkeypatch, "import", "net.nir", "-o", "file.lapilli") == 0
    capfdbinary.readouterr()
    assert _run(monkeypatch, "import", "net.nir", "-o", "-") == 0
    said = capfdbinary.readouterr()
    assert said.out == Path("file.lapilli").read_bytes()
    assert load_network(Path("file.lapilli")).digest.encode()[:8] in said.err


def test_standard_output_takes_no_two_files(
    net: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "export", "net.lapilli", "--onnx", "-", "--nir", "x.nir") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "standard output takes one file" in said.err
    assert not Path("x.nir").exists()
