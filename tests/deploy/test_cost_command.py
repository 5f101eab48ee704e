"""`lapilli cost` from its command line: text, JSON, CSV, LaTeX; refusals of a sentence."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lapilli as lp
from lapilli.costs import pages
from lapilli.deploy.cli import frame
from lapilli.deploy.cli.app import app
from lapilli.deploy.cli.chip_needs import as_facts, needs_of
from lapilli.export.native import save_network
from lapilli.ir import ops
from lapilli.ir.errors import InputError
from lapilli.ir.network import Network
from lapilli.ir.tensor import IntTensor
from lapilli.simulators.reference import Reference


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, net_chain: Callable[..., Network]) -> Path:
    """A chain of convolutions and dense layers, images for it, and grey ones on which it rests."""
    folder = tmp_path_factory.mktemp("cost")
    save_network(net_chain(encoder=False), folder / "net.lapilli")
    images = np.random.default_rng(2).integers(0, 256, (5, 2, 7, 6), np.uint8)
    np.savez(folder / "images.npz", images=images)
    np.savez(folder / "grey.npz", images=np.full_like(images, 128))
    np.savez(folder / "wide.npz", images=images.repeat(2, -1))
    (folder / "there.csv").write_text("kept")
    (folder / "wrong.json").write_text('{"tables": [{"name": "a"}]}')
    table = {"name": "papers-int8", "model": "papers", "prices": _prices()}
    (folder / "twice.json").write_text(json.dumps({"tables": [table]}))
    (folder / "mine.json").write_text(json.dumps({"tables": [{**table, "name": "mine"}]}))
    return folder


def _prices() -> dict[str, Any]:
    told = {"unit": "pJ", "technology": "none", "source": "me", "year": 2026, "grade": "measured"}
    return {key: {"value": 1, **told} for key in ("multiply-accumulate", "accumulate")}


def _call(folder: Path, words: str) -> tuple[int, str, str]:
    """Run `cost` on the network of `folder`; return status, standard output and error."""
    held = io.BytesIO(), io.BytesIO()
    out, err = (io.TextIOWrapper(stream) for stream in held)
    given = [word.replace("@", f"{folder}/") for word in words.split()]
    with redirect_stdout(out), redirect_stderr(err):
        ended = frame.run(app, ["cost", str(folder / "net.lapilli"), *given])
    for stream in (out, err):
        stream.flush()
    return ended, held[0].getvalue().decode(), held[1].getvalue().decode()


def test_every_form_says_what_python_says(files: Path, tmp_path: Path) -> None:
    network = lp.load(files / "net.lapilli")
    images = np.load(files / "images.npz")["images"]
    report = lp.cost(network, images[:4], on=Reference(), prices=[files / "mine.json"], batch=3)
    words = "--data @images.npz --count 4 --on reference --batch 2 --prices @mine.json"
    status, out, _ = _call(files, f"{words} --csv {tmp_path}/c.csv --latex {tmp_path}/t.tex")
    assert status == 0
    assert out == pages.text(report)
    assert "measured" in out
    assert (tmp_path / "c.csv").read_text() == pages.as_csv(report)
    assert (tmp_path / "t.tex").read_text() == pages.latex(report)
    status, out, _ = _call(files, f"{words} --json")
    assert status == 0
    assert json.loads(out) == json.loads(json.dumps(pages.facts(report)))
    assert report.images == 4
    assert report.total.multiplies > 0


def test_standard_output_takes_one_file(files: Path) -> None:
    status, out, err = _call(files, "--data @images.npz --on reference --csv -")
    assert status == 0
    assert out.startswith("node,op,images")
    assert "energy of one image" in err


def test_without_data_there_are_bounds(files: Path) -> None:
    status, out, _ = _call(files, "")
    assert status == 0
    assert "bounds of an image" in out
    assert out == pages.text(lp.cost(lp.load(files / "net.lapilli")))


def test_a_chip_stands_beside_counts(files: Path) -> None:
    words = "--data @images.npz --on reference --chip loihi1"
    status, out, _ = _call(files, words)
    assert status == 0
    assert "on loihi1, as" in out
    assert "chips of 128 cores: 1" in out
    status, out, _ = _call(files, f"{words} --json")
    cores = json.loads(out)["cores"]
    assert cores["cores"] >= cores["lowest"] >= 1
    sent = [p["messages"] for p in cores["populations"] if p["messages"]]
    assert len(sent) > 1


def test_what_a_chip_cannot_hold_is_named_as_inspect_names_it(
    net_chain: Callable[..., Network], tmp_path: Path
) -> None:
    file = tmp_path / "net.lapilli"
    save_network(net_chain(encoder=True), file)
    status, out, _ = _call(tmp_path, "--chip loihi1")
    assert status == 0
    assert "\nhead: needs 9 bits for its weights; there are 8\n" in out
    assert out.endswith("loihi1 cannot hold it: 1 layer stands against it\n")
    cores = json.loads(_call(tmp_path, "--chip loihi1 --json")[1])["cores"]
    needed = as_facts(needs_of(lp.load(file), "loihi1"))
    assert not cores["fits"]
    assert cores["cores"] >= cores["lowest"]
    assert [(o["node"], o["reason"]) for o in cores["obstacles"]] == [
        (one["module"], one["reason"]) for one in needed["cannot"]
    ]


def test_without_binary_neurons_counts_are_told_all_the_same(
    net_chain: Callable[..., Network], tmp_path: Path
) -> None:
    network = net_chain(encoder=False)
    level = ops.GeneralNeuron(taps=IntTensor.of([[[1]]]), threshold=IntTensor.of([[[200]]]))
    nodes = tuple(replace(n, op=level) if n.name == "n3" else n for n in network.graph.nodes)
    network = replace(network, graph=replace(network.graph, nodes=nodes))
    save_network(network, tmp_path / "net.lapilli")
    status, out, _ = _call(tmp_path, "--chip loihi1")
    assert status == 0
    assert "bounds of an image" in out
    assert "on loihi1: no cut, without binary neurons" in out
    assert "\nn3: " in out
    assert "loihi1 cannot hold it: " in out
    assert "populations" not in json.loads(_call(tmp_path, "--chip loihi1 --json")[1])["cores"]


def _small_chip(folder: Path) -> None:
    told = {"source": "me", "grade": "its own code"}
    figures = {"cores": 2, "neurons": 40, "input axons": 4096, "output axons": 4096,
               "bits of synapses": 1 << 20}  # fmt: skip
    described = {key: {"value": n, **told} for key, n in figures.items()}
    (folder / "small.json").write_text(json.dumps({"name": "small", **described}))


def test_several_chips_talk_as_much_as_the_run_says(files: Path) -> None:
    pytest.importorskip("pymetis")
    _small_chip(files)
    status, out, _ = _call(files, "--data @images.npz --on reference --chip @small.json --json")
    assert status == 0
    facts = json.loads(out)
    measured = facts["cores"]["placement"]
    assert measured["measured"]
    assert measured["chips"] > 1
    assert len(measured["chip_of_core"]) == facts["cores"]["cores"]
    status, out, _ = _call(files, "--chip @small.json --json")
    assert status == 0
    most = json.loads(out)["cores"]["placement"]
    assert not most["measured"]
    assert 0 < measured["messages"] < most["messages"]
    assert measured["lowest"] <= measured["between_chips"] <= measured["between_chips_in_order"]


def test_without_metis_a_sentence_says_what_to_install(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _small_chip(files)
    monkeypatch.setitem(sys.modules, "pymetis", None)
    status, out, _ = _call(files, "--chip @small.json")
    assert status == 0
    assert "on small, as" in out
    assert "cores are not put onto chips: this command needs pymetis" in out
    assert "pip install 'lapilli[cores]'" in out


@pytest.mark.parametrize("name", ["speck", "xylo-imu"])
def test_small_chips_say_what_cannot_be_there(files: Path, name: str) -> None:
    status, out, _ = _call(files, f"--chip {name}")
    assert status == 0
    assert f"{name} cannot hold it: " in out
    status, out, _ = _call(files, f"--chip {name} --json")
    assert status == 0
    assert json.loads(out)["cores"]["chip"] == name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--data @grey.npz", "no neuron fired on 5 images"),
        ("--data @wide.npz", "images are 2 x 7 x 12, the network takes 2 x 7 x 6"),
        ("--data @missing.npz", "there is none of this name"),
        ("--data @images.npz --prices @missing.json", "missing.json: cannot be read"),
        ("--data @images.npz --prices @wrong.json", "table 'a' does not say its model"),
        ("--data @images.npz --prices @twice.json", "two tables of prices are called"),
        ("--data @images.npz --on moon", "no simulator is called 'moon'"),
        ("--chip moon", "chip 'moon' is none of loihi1, loihi2"),
        ("--chip @images.json", "images.json: cannot be read"),
        ("--prices @mine.json", "--prices and --count are for a run"),
        ("--count 3", "--prices and --count are for a run"),
        ("--data @images.npz --csv @net.lapilli", "is what is read"),
        ("--data @images.npz --csv @", "is a folder"),
        ("--data @images.npz --csv @there.csv", "is there already: name another file, or say --ov"),
        ("--latex @there.csv", "is there already: name another file, or say --overwrite"),
        ("--data @images.npz --csv @a.csv --latex @a.csv", "would be written twice"),
        ("--csv - --latex @a.csv", "standard output takes one file"),
    ],
)
def test_refusals_are_a_sentence(files: Path, words: str, said: str) -> None:
    status, out, err = _call(files, words if "--on" in words or "--data" not in words
                             else f"{words} --on reference")  # fmt: skip
    assert status == 2
    assert said in " ".join(err.split())
    assert "Traceback" not in err
    assert not out
    assert (files / "there.csv").read_text() == "kept"


def test_a_file_that_is_there_is_replaced_if_that_is_said(files: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("old")
    assert _call(files, f"--csv {tmp_path}/a.csv --overwrite")[0] == 0
    assert (tmp_path / "a.csv").read_text().startswith("node,")


def test_prices_in_python_need_a_run(files: Path) -> None:
    with pytest.raises(InputError, match="prices are for a run"):
        lp.cost(lp.load(files / "net.lapilli"), prices=[files / "mine.json"])
