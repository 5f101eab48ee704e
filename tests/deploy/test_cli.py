"""The command line as a user sees it: output, JSON twin, exit status, one-sentence errors."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lapilli.deploy.cli.demo import CHECKPOINTS
from lapilli.export.native import load_network, save_network
from lapilli.ir import ops
from lapilli.ir.tensor import IntTensor
from lapilli.model.digits import Split
from lapilli.quantize import Quantized

SPIKFORMER = CHECKPOINTS / "digits_spikformer.safetensors"

# A Python in which torch cannot be imported: what runs next to the chip.
WITHOUT_TORCH = (
    "import sys; sys.modules['torch'] = None; sys.modules['sklearn'] = None;"
    "from lapilli.deploy.cli.app import main; sys.argv[0] = 'lapilli'; main()"
)


def lapilli(*arguments: object, cwd: Path, torch: bool = True) -> subprocess.CompletedProcess[str]:
    code = "from lapilli.deploy.cli.app import main; main()" if torch else WITHOUT_TORCH
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200"},
        timeout=300,
    )


def facts(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, spikformer: Quantized, test_split: Split
) -> Path:
    """A network and some pictures."""
    folder = tmp_path_factory.mktemp("cli")
    save_network(spikformer.network, folder / "net.lapilli")
    for i in range(3):
        Image.fromarray(test_split.images[i, 0]).save(folder / f"{i}.png")
    return folder


def test_run_classifies_without_torch(folder: Path, test_split: Split) -> None:
    done = lapilli("run", "net.lapilli", "0.png", "1.png", "--json", cwd=folder, torch=False)
    answers = facts(done)
    assert [a["answer"] for a in answers] == [str(n) for n in test_split.labels[:2]]
    assert all(len(a["logits"]) == 10 for a in answers)


def test_show_is_readable_without_torch(folder: Path) -> None:
    done = lapilli("show", "net.lapilli", cwd=folder, torch=False)
    assert done.returncode == 0, done.stderr
    assert "%block.0.attn.attn_lif = Neuron(" in done.stdout
    twin = facts(lapilli("show", "net.lapilli", "--json", cwd=folder, torch=False))
    assert done.stdout.splitlines() == twin["graph"]


def test_inspect_of_a_network_without_torch(folder: Path) -> None:
    told = facts(lapilli("inspect", "net.lapilli", "--json", cwd=folder, torch=False))
    assert told["T"] == 4
    assert told["weight_bits"] == 8
    assert told["state_bits"] <= told["state_bits_there"] == 24
    assert told["target"] == "lava"
    assert any(re.match(r"state: 2\d of 24 \(", line) for line in told["certificate"])


def test_a_certificate_node_by_node(folder: Path) -> None:
    asked = ("inspect", "net.lapilli", "--certificate", "loihi2")
    told = facts(lapilli(*asked, "--json", cwd=folder, torch=False))
    assert told["holds"]
    assert told["unknown"] == ["input of one step", "threshold", "bias"]
    assert {row["there"] for row in told["rows"]} == {8, 24, 32, None}
    shown = lapilli(*asked, cwd=folder, torch=False).stdout
    assert "loihi2 holds every number; unknown: input of one step, threshold, bias" in shown


def test_commands_that_need_torch_say_so(folder: Path) -> None:
    done = lapilli("inspect", SPIKFORMER, cwd=folder, torch=False)
    assert done.returncode == 2
    assert "pip install 'lapilli[torch]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_inspect_of_a_checkpoint_names_the_next_command(folder: Path) -> None:
    told = facts(lapilli("inspect", SPIKFORMER, "--json", cwd=folder))
    assert told["family"] == "spikformer"
    assert told["config"]["T"] == 4
    assert told["next"].startswith("lapilli quantize ")


def test_quantize_then_compare_with_pytorch(folder: Path) -> None:
    made = facts(lapilli("quantize", SPIKFORMER, "-o", "made.lapilli", "--json", cwd=folder))
    assert made["digest"] == load_network(folder / "made.lapilli").digest
    done = lapilli(
        "compare", "made.lapilli", "--checkpoint", SPIKFORMER, "--count", 24, "--json", cwd=folder
    )
    for comparison in facts(done)["comparisons"]:
        assert comparison["expected"] == "pytorch"
        assert comparison["exact"]
        assert comparison["mismatches"] == 0
        assert comparison["compared"] > 4_000_000
        assert all(0 < rate < 1 for rate in comparison["rates"].values())


def test_a_mismatch_is_told_and_status_1(folder: Path) -> None:
    """Weights of the file that are not the checkpoint's: rounded anew, they differ."""
    made = ("quantize", SPIKFORMER, "-o", "four.lapilli", "--bits", 4)
    assert lapilli(*made, cwd=folder).returncode == 0
    network = load_network(folder / "four.lapilli")
    nodes = [
        replace(n, op=replace(n.op, weight=IntTensor(-n.op.weight.array)))
        if n.name == "patch_embed.proj_conv" and isinstance(n.op, ops.Conv2d)
        else n
        for n in network.graph.nodes
    ]
    graph = replace(network.graph, nodes=tuple(nodes))
    save_network(replace(network, graph=graph), folder / "four.lapilli")
    arguments = ("compare", "four.lapilli", "--checkpoint", SPIKFORMER, "--count", 4)
    done = lapilli(*arguments, "--simulator", "reference", cwd=folder)
    assert done.returncode == 1
    assert "first divergence at t=0, node 'patch_embed.proj_lif'" in done.stdout
    assert "patch_embed.proj_conv" in done.stdout


def test_images_of_the_users_own(folder: Path, test_split: Split) -> None:
    np.savez(folder / "mine.npz", images=test_split.images[:5])
    done = lapilli("compare", "net.lapilli", "--images", "mine.npz", "--json", cwd=folder)
    (comparison,) = facts(done)["comparisons"]
    assert (comparison["expected"], comparison["got"]) == ("reference", "event-driven")
    assert comparison["images"] == 5
    assert comparison["synops"] > 0


def test_export_nir(folder: Path, spike_driven: Quantized) -> None:
    save_network(spike_driven.network, folder / "sdt.lapilli")
    done = lapilli("export", "sdt.lapilli", "--nir", "sdt.nir", cwd=folder)
    assert done.returncode == 0, done.stderr
    said = "as binary neurons: 17,400 neurons, 20 in a row, 1,"
    assert done.stdout.startswith(said)
    assert (folder / "sdt.nir").stat().st_size > 0


def test_export_onnx_without_torch(folder: Path) -> None:
    arguments = ("export", "net.lapilli", "--onnx", "net.onnx", "--onnx-step", "step.onnx")
    done = lapilli(*arguments, cwd=folder, torch=False)
    assert done.returncode == 0, done.stderr
    assert "wrote net.onnx: format onnx scan, bytes " in done.stdout
    twin = facts(lapilli(*arguments, "--inlined", "--json", cwd=folder, torch=False))
    for file, model in zip(twin["files"], ("scan", "step"), strict=True):
        assert file["format"] == f"onnx {model}"
        assert file["bytes"] == (folder / file["file"]).stat().st_size > 50_000
        assert (file["opset"], file["ir_version"]) == (21, 10)
        assert file["functions"] == []


def test_inspect_of_an_onnx_file_without_torch(folder: Path) -> None:
    files = ("--onnx", "told.onnx", "--onnx-step", "told_step.onnx")
    assert lapilli("export", "net.lapilli", *files, cwd=folder, torch=False).returncode == 0
    network = load_network(folder / "net.lapilli")
    for name, model in (("told.onnx", "scan"), ("told_step.onnx", "step")):
        told = facts(lapilli("inspect", name, "--json", cwd=folder, torch=False))
        assert told["kind"] == f"onnx {model}"
        assert told["digest"] == network.graph.digest
        assert (told["T"], told["opset"], told["ir_version"]) == (4, 21, 10)
        assert told["classes"] == list(network.classes)
        assert told["answer"] == "logits"
        assert told["recorded"] == len(network.graph.firing)
        assert bool(told["states"]) is (model == "step")
    done = lapilli("inspect", "told.onnx", cwd=folder, torch=False)
    assert "image: int8 (4, batch, 1, 8, 8)" in done.stdout


def test_onnx_compares_exact_and_classifies_without_torch(folder: Path, test_split: Split) -> None:
    compared = ("compare", "net.lapilli", "--simulator", "onnx", "--count", 4, "--json")
    (comparison,) = facts(lapilli(*compared, cwd=folder))["comparisons"]
    assert comparison["exact"]
    assert comparison["compared"] > 500_000
    run = ("run", "net.lapilli", "0.png", "--simulator", "onnx", "--json")
    (answer,) = facts(lapilli(*run, cwd=folder, torch=False))
    assert answer["answer"] == str(test_split.labels[0])


def test_export_of_nothing_says_what_to_give(folder: Path) -> None:
    done = lapilli("export", "net.lapilli", cwd=folder)
    assert done.returncode == 2
    assert "--onnx-step" in done.stderr


def test_export_onnx_without_the_package(folder: Path) -> None:
    code = WITHOUT_TORCH.replace("'torch'", "'onnx'")
    for arguments in (
        ("export", "net.lapilli", "--onnx", "x.onnx"),
        ("run", "net.lapilli", "0.png", "--simulator", "onnx"),
        ("inspect", "x.onnx"),
    ):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        assert done.returncode == 2
        assert "pip install 'lapilli[onnx]'" in done.stderr
        assert "Traceback" not in done.stderr
    assert not (folder / "x.onnx").exists()


@pytest.mark.parametrize(
    ("flavour", "framework", "status"),
    [("portable", "spikingjelly", 0), ("portable", "norse", 1), ("canonical", "snntorch", 1)],
)
def test_check_says_who_runs_a_file(
    folder: Path, spike_driven: Quantized, flavour: str, framework: str, status: int
) -> None:
    save_network(spike_driven.network, folder / "sdt.lapilli")
    name = f"{flavour}.nir"
    done = lapilli("export", "sdt.lapilli", "--nir", name, "--flavour", flavour, cwd=folder)
    assert done.returncode == 0, done.stderr

    done = lapilli("check", name, "--for", framework, "--json", cwd=folder)

    assert done.returncode == status
    told = json.loads(done.stdout)
    nodes = told["nodes"]
    assert len(nodes) > 50
    assert told["exact"] is (status == 0)
    assert told["verdict"].startswith("runs exactly" if status == 0 else "does not run exactly")
    assert all(n["verdict"] == "runs exactly" for n in nodes) is (status == 0)


def test_export_says_the_size_and_writes_nothing_larger_than_allowed(folder: Path) -> None:
    limit = ("--memory-limit", "4")
    done = lapilli("export", "net.lapilli", "--nir", "net.nir", *limit, cwd=folder)
    assert done.returncode == 2
    assert done.stdout.startswith("as binary neurons: 81,280 neurons, 30 in a row, ")
    assert "a limit of 65,536 neurons cannot take this graph" in done.stderr
    for node in ("block.0.attn.matmul.2", "block.1.attn.matmul.2"):
        assert f"  {node}: " in done.stderr
    assert not (folder / "net.nir").exists()


def test_doctor_lists_everything(folder: Path) -> None:
    done = lapilli("doctor", "--json", cwd=folder)
    told = json.loads(done.stdout)
    names = {f["what"] for f in told["findings"]}
    importers = {"nirtorch", "snntorch", "spikingjelly", "norse"}
    files = {"nir", "h5py", "onnx", "onnxruntime", "pyarrow"}
    others = {"scikit-learn", "scipy", "uv", "numba", "distributed", "jinja2", "pymetis"}
    packages = {"torch", *others, *files, *importers}
    assert names == {"python", "C compiler", "lava", "nengo-loihi", *packages}
    assert done.returncode == int(any(f["broken"] for f in told["findings"]))
    assert all(f["remedy"] for f in told["findings"] if f["broken"] or f["version"] is None)


def test_doctor_tells_a_lava_that_does_not_run_from_one_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no lava here >&2\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setenv("LAPILLI_LAVA_PYTHON", str(python))
    done = lapilli("doctor", cwd=tmp_path)
    assert done.returncode == 1
    assert f"broken: {python} does not import Lava (status 3: no lava here)" in done.stdout
    assert "; unset LAPILLI_LAVA_PYTHON, then lapilli doctor --fix" in done.stdout

    python.write_text("#!/bin/sh\necho 0.9.0\n")
    assert "has lava-nc 0.9.0, not 0.10.0" in lapilli("doctor", cwd=tmp_path).stdout

    monkeypatch.delenv("LAPILLI_LAVA_PYTHON")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = lapilli("doctor", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout)["findings"][-2:]
    assert [f["what"] for f in found] == ["lava", "nengo-loihi"]
    for each in found:
        told = (each["version"], each["remedy"], each["broken"])
        assert told == (None, "lapilli doctor --fix", False)
    assert "nengo 3.2.0 is free for non-commercial use" in found[1]["gives"]


BAD_INPUT = (
    (("run", "absent.lapilli", "0.png"), "absent.lapilli: no such file"),
    (("run", "net.lapilli", "absent.png"), "absent.png: not a picture"),
    (("run", "net.lapilli", "large.png"), "large.png: is 9 x 9 pixels, the network takes 8 x 8"),
    (("run", "net.lapilli", "0.png", "--simulator", "loihi3"), "no simulator is called 'loihi3'"),
    (("run", "cut.lapilli", "0.png"), "cut.lapilli: truncated"),
    (("inspect", "absent.pt"), "absent.pt: no such file"),
    (("inspect", "absent.onnx"), "absent.onnx: no such file"),
    (("inspect", "cut.onnx"), "cut.onnx: truncated, or no ONNX file"),
    (("inspect", "cut.pt"), "cut.pt: "),
    (("quantize", "bare.safetensors", "-o", "x.lapilli"), "bare.safetensors: does not say"),
    (("compare", "net.lapilli", "--images", "absent.npz"), "absent.npz: expected 'digits'"),
    (("compare", "net.lapilli", "--module", "cut.pt"), "--module 'cut.pt' is not FILE.py:CLASS"),
    (("compare", "net.lapilli", "--arg", "T=4"), "--arg and --unused are for a class of your own"),
    (("quantize", "cut.pt", "-o", "x.lapilli"), "cut.pt: "),
)


@pytest.mark.parametrize(("arguments", "sentence"), BAD_INPUT, ids=lambda v: str(v)[:40])
def test_bad_input_is_one_sentence(folder: Path, arguments: tuple[str, ...], sentence: str) -> None:
    (folder / "cut.lapilli").write_bytes((folder / "net.lapilli").read_bytes()[:1000])
    (folder / "cut.pt").write_bytes(b"PK\x03\x04 this is no checkpoint")
    (folder / "cut.onnx").write_bytes((folder / "net.lapilli").read_bytes()[:1000])
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "large.png")
    from safetensors.numpy import save_file

    save_file({"head.weight": np.zeros((2, 2), np.float32)}, folder / "bare.safetensors")
    done = lapilli(*arguments, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith(f"lapilli: {sentence}"), done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "x.lapilli").exists()
