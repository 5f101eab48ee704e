"""Golden vectors catch what they must; `lapilli import` and `lapilli golden` from outside."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lapilli.deploy.cli.app import main
from lapilli.deploy.comparison.golden import Golden, write_golden
from lapilli.export import limits
from lapilli.export.native import load_network, save_network
from lapilli.ir import ops
from lapilli.ir.errors import InputError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.event_driven import EventDriven


def _network() -> Network:
    rng = np.random.default_rng(0)

    def ints(*shape: int) -> IntTensor:
        return IntTensor.of(rng.integers(-7, 8, shape))

    nodes = (
        Node("image", ops.Input(type=TensorType((1, 4, 4), IntRange(-8, 8), Kind.GRADED))),
        Node("conv", ops.Conv2d(weight=ints(3, 1, 3, 3), bias=ints(3), graded=True), ("image",)),
        Node("conv.lif", ops.Neuron(threshold=IntTensor.of([641]), dv=2048), ("conv",)),
        Node("flat", ops.Reshape(shape=(12,)), ("conv.lif",)),
        Node("fc", ops.Linear(weight=ints(5, 12), bias=ints(5)), ("flat",)),
        Node("fc.lif", ops.Neuron(threshold=IntTensor.of([321]), dv=2048), ("fc",)),
        Node("head", ops.Linear(weight=ints(3, 5), bias=ints(3)), ("fc.lif",)),
        Node("logits", ops.Readout(), ("head",)),
    )
    quantizer = InputQuantizer(
        mean=(Fraction(1, 2),), std=(Fraction(1, 16),), exponent=0, lo=-8, hi=8
    )
    return Network(
        graph=Graph(nodes, ("logits",), 4),
        input=quantizer,
        logit_scale=Fraction(1, 8),
        classes=("a", "b", "c"),
    )


def _pixels() -> Any:
    return np.random.default_rng(1).integers(0, 256, (6, 1, 4, 4)).astype(np.uint8)


@pytest.fixture
def made(tmp_path: Path) -> Golden:
    return write_golden(_network(), _pixels(), tmp_path / "golden")


def _answers() -> dict[str, Any]:
    """What another runtime computes: the event-driven simulator."""
    network = _network()
    got = EventDriven().compile(network.graph).run(network.encode(_pixels()))
    return {
        "spikes:conv.lif": got.values["conv.lif"],
        "spikes:fc.lif": got.values["fc.lif"],
        "logits": got.values["logits"][-1],
    }


def _check(made: Golden, yours: dict[str, Any], tmp_path: Path) -> tuple[int, str]:
    np.savez(tmp_path / "yours.npz", **yours)
    command = [
        sys.executable,
        "-I",
        *map(str, (made.files[1], made.files[0], tmp_path / "yours.npz")),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.returncode, (done.stdout + done.stderr).strip()


def test_a_right_runtime_passes(made: Golden, tmp_path: Path) -> None:
    assert all(0 < rate < 1 for rate in made.rates.values())
    assert _check(made, _answers(), tmp_path) == (
        0, f"equal: {made.values} values; not in yours: none",
    )  # fmt: skip
    status, line = _check(made, {"logits": _answers()["logits"]}, tmp_path)
    assert (status, line[-40:]) == (0, "in yours: spikes:conv.lif, spikes:fc.lif")


def test_a_wrong_spike_is_found_first(made: Golden, tmp_path: Path) -> None:
    yours = _answers()
    yours["spikes:fc.lif"][1, 2, 3] ^= 1
    yours["spikes:conv.lif"][2, 0, 1, 0, 1] ^= 1
    yours["logits"][0, 0] += 1
    status, line = _check(made, yours, tmp_path)
    assert status == 1
    assert line.startswith("first difference at step 1: spikes:fc.lif[1, 2, 3] is ")


def test_every_single_number_counts(made: Golden, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for name in ("logits", "spikes:conv.lif", "spikes:fc.lif"):
        yours = _answers()
        at = tuple(int(rng.integers(n)) for n in yours[name].shape)
        yours[name][at] += 1
        status, line = _check(made, yours, tmp_path)
        assert status == 1
        assert f"{name}{list(at)} is" in line


def test_what_does_not_fit_is_said(made: Golden, tmp_path: Path) -> None:
    yours = _answers()
    assert _check(made, {**yours, "logits": yours["logits"][:3]}, tmp_path) == (
        1, "logits: shape (3, 3), expected (6, 3)",
    )  # fmt: skip
    del yours["logits"]
    assert _check(made, yours, tmp_path) == (1, "missing, or of no node: logits")
    odd = {**_answers(), "spikes:ghost": np.zeros(1)}
    assert _check(made, odd, tmp_path) == (1, "missing, or of no node: spikes:ghost")
    floats = {**_answers(), "logits": _answers()["logits"] + np.nan}
    assert _check(made, floats, tmp_path)[0] == 1


def test_a_runtime_of_another_network_is_told_so(made: Golden, tmp_path: Path) -> None:
    digest = _network().graph.digest
    assert _check(made, {**_answers(), "digest": np.array(digest)}, tmp_path)[0] == 0
    status, line = _check(made, {**_answers(), "digest": np.array("0" * 64)}, tmp_path)
    assert (status, line) == (1, f"of another network: digest {'0' * 64}, expected {digest}")


def test_equal_networks_give_equal_bytes(made: Golden, tmp_path: Path) -> None:
    again = write_golden(_network(), _pixels(), tmp_path / "again")
    assert again.files[0].read_bytes() == made.files[0].read_bytes()
    with np.load(made.files[0], allow_pickle=False) as archive:
        assert str(archive["digest"]) == _network().graph.digest
        assert archive["input"].shape == (4, 6, 1, 4, 4)
        assert archive["spikes:fc.lif"].dtype == np.int8


def test_a_name_that_no_archive_takes(tmp_path: Path) -> None:
    network = _network()
    nodes = tuple(
        Node(n.name.replace("conv.lif", "../conv"), n.op,
             tuple(i.replace("conv.lif", "../conv") for i in n.inputs))
        for n in network.graph.nodes
    )  # fmt: skip
    odd = Network(
        graph=Graph(nodes, ("logits",), 4),
        input=network.input,
        logit_scale=network.logit_scale,
        classes=network.classes,
    )
    with pytest.raises(InputError, match="cannot be named"):
        write_golden(odd, _pixels(), tmp_path)


# ---- the command line -------------------------------------------------------------------


def _lapilli(*arguments: object) -> subprocess.CompletedProcess[str]:
    code = "from lapilli.deploy.cli.app import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_golden_from_outside(tmp_path: Path) -> None:
    save_network(_network(), tmp_path / "net.lapilli")
    np.savez(tmp_path / "images.npz", images=_pixels())
    options = ["--source", tmp_path / "images.npz", "--count", 3, "-o", tmp_path / "g"]
    done = _lapilli("golden", tmp_path / "net.lapilli", *options, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["images"] == 3
    assert facts["silent"] == []
    assert [Path(f).name for f in facts["files"]] == ["golden.npz", "check_golden.py"]


def test_silence_is_status_one(tmp_path: Path) -> None:
    save_network(_network(), tmp_path / "net.lapilli")
    np.savez(tmp_path / "images.npz", images=np.full((1, 1, 4, 4), 128, np.uint8))
    options = ["--source", tmp_path / "images.npz", "-o", tmp_path / "g"]
    done = _lapilli("golden", tmp_path / "net.lapilli", *options)
    assert done.returncode == 1
    assert "never fire on these images" in done.stderr


def test_import_from_outside(tmp_path: Path) -> None:
    nir = pytest.importorskip("nir")
    two = np.ones(2)
    nodes = {
        "x": nir.Input(np.array([2])),
        "fc": nir.Linear(weight=np.array([[0.5, 1], [1, -0.25]])),
        "lif": nir.LIF(tau=two * 2e-4, r=two * 2, v_leak=two * 0, v_threshold=two),
        "y": nir.Output(np.array([2])),
    }
    graph = nir.NIRGraph(nodes, [("x", "fc"), ("fc", "lif"), ("lif", "y")])
    nir.write(tmp_path / "x.nir", graph)
    out = tmp_path / "x.lapilli"
    shutil.rmtree(out, ignore_errors=True)

    refused = _lapilli("import", tmp_path / "x.nir", "-o", out)
    assert refused.returncode == 2
    assert "nothing says how to discretise it; state a reading" in refused.stderr
    assert not out.exists()

    stated = ["--reading", "snntorch", "--dt", "1e-4", "--T", 4, "--input-range", "0,1"]
    unsaid = _lapilli("import", tmp_path / "x.nir", "-o", out, *stated)
    assert unsaid.returncode == 2
    assert (
        "node 'lif': the exporter of snntorch does not write how its neurons are" in unsaid.stderr
    )

    done = _lapilli("import", tmp_path / "x.nir", "-o", out, *stated, "--reset", "zero", "--json")
    assert done.returncode == 0, done.stderr
    network = load_network(out)
    assert network.graph.T == json.loads(done.stdout)["T"] == 4
    assert network.graph.neurons == ("lif",)


def _text(file: Any, place: str, value: object) -> None:
    del file[place]
    file[place] = value


BAD_NIR: dict[str, tuple[Callable[[Any], None], str]] = {
    "a newer NIR": (lambda f: _text(f, "version", "2.1.0"), "written by nir 2.1.0; this lapilli"),
    "a node of an unknown type": (
        lambda f: _text(f, "node/nodes/fc/type", "Softmax"), "node 'fc': unknown type 'Softmax'"
    ),
    "a missing edge": (
        lambda f: _text(f, "node/edges", [[b"fc", b"lif"], [b"lif", b"y"]]),
        "node 'fc': no edge leads to it",
    ),
    "weights that are no numbers": (
        lambda f: _text(f, "node/nodes/fc/weight", np.full((2, 2), np.nan)),
        "node 'fc': weight: a number that is not finite",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD_NIR)
@pytest.mark.parametrize("command", [("import", "-o", "out.lapilli"), ("check", "--for", "norse")])
def test_a_bad_nir_file_is_one_sentence(
    fault: str,
    command: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    nir, h5py = pytest.importorskip("nir"), pytest.importorskip("h5py")
    two = np.ones(2)
    nodes = {
        "x": nir.Input(np.array([2])),
        "fc": nir.Linear(weight=np.array([[0.5, 1], [1, -0.25]])),
        "lif": nir.LIF(tau=two * 2e-4, r=two * 2, v_leak=two * 0, v_threshold=two),
        "y": nir.Output(np.array([2])),
    }
    edges = [("x", "fc"), ("fc", "lif"), ("lif", "y")]
    nir.write(tmp_path / "x.nir", nir.NIRGraph(nodes, edges))
    damage, sentence = BAD_NIR[fault]
    with h5py.File(tmp_path / "x.nir", "r+") as file:
        damage(file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lapilli", command[0], "x.nir", *command[1:]])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"lapilli: x.nir: {sentence}")
    assert said.count("\n") == 1
    assert not (tmp_path / "out.lapilli").exists()


@pytest.mark.parametrize("command", ["inspect", "show", "run", "export"])
def test_names_of_a_stranger_are_no_orders_to_a_terminal(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Colours, rich's own markup, and halves of characters."""
    odd = "[/b]\x1b[31m\ud800"
    network = _network()
    nodes = tuple(
        Node(n.name.replace("flat", odd), n.op, tuple(i.replace("flat", odd) for i in n.inputs))
        for n in network.graph.nodes
    )
    named = Network(
        graph=Graph(nodes, ("logits",), 4),
        input=network.input,
        logit_scale=network.logit_scale,
        classes=(odd, odd, odd),
    )
    save_network(named, tmp_path / "x.lapilli")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "x.png")
    arguments = {"run": ["x.png"], "export": ["--onnx", "x.onnx"]}.get(command, [])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lapilli", command, "x.lapilli", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    said = capsys.readouterr()
    assert left.value.code == (2 if command == "export" else 0), said.err
    assert "[/b]\\x1b[31m\\ud800" in said.out + said.err
    assert "\x1b" not in said.out + said.err
    assert not (tmp_path / "x.onnx").exists()


def test_a_file_that_asks_for_much_is_read_under_a_higher_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Zeros deflate: what a file of 40 kB holds may be honest, and takes 33 MiB."""
    nir = pytest.importorskip("nir")
    C = 2048
    nodes = {
        "x": nir.Input(np.array([C])),
        "fc": nir.Affine(np.eye(C, dtype=np.int8), np.zeros(C, np.int8)),
        "y": nir.Output(np.array([C])),
    }
    nir.write(tmp_path / "x.nir", nir.NIRGraph(nodes, [("x", "fc"), ("fc", "y")]))
    assert (tmp_path / "x.nir").stat().st_size < 50_000
    monkeypatch.chdir(tmp_path)
    stated = ["--reading", "euler", "--dt", "1e-4", "--T", "1", "--input-range", "0,1"]
    for command in (["check", "--for", "snntorch"], ["import", "-o", "x.lapilli", *stated]):
        for limit, status in (([], 2), (["--memory-limit", "33"], 0)):
            monkeypatch.setattr(sys, "argv", ["lapilli", command[0], "x.nir", *command[1:], *limit])
            with pytest.raises(SystemExit) as left:
                main()
            said = capsys.readouterr()
            assert (left.value.code or 0) == status, said.err
            assert ("if you trust it: --memory-limit 33" in said.err) is (status == 2)
    assert load_network(tmp_path / "x.lapilli").graph.T == 1


@pytest.mark.parametrize(("justified", "told"), [(1, True), (1 << 30, False)])
def test_export_says_what_limit_a_file_will_need(
    justified: int,
    told: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("nir")
    save_network(_network(), tmp_path / "net.lapilli")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(limits, "justified", lambda size: justified)
    monkeypatch.setattr(sys, "argv", ["lapilli", "export", "net.lapilli", "--nir", "net.nir"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    out = capsys.readouterr().out
    assert (", to check or import --memory-limit 1, " in out) is told
