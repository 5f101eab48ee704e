"""Files of every version load for ever; what a later version adds has a default."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lapilli.export.native import load_network, save_network
from lapilli.ir import ops
from lapilli.ir.errors import FormatError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.recipe import Json
from lapilli.ir.types import TensorType
from lapilli.simulators.conformance import CASES

if TYPE_CHECKING:
    from lapilli.quantize import Quantized

VERSION1 = Path(__file__).parent / "version1"  # written by lapilli 0.1.0 when it wrote version 1


# What version 1 could hold: a later op has no file of it, and needs none.
OPS_OF_VERSION_1 = {
    "Add",
    "Concat",
    "Conv2d",
    "Delay",
    "Expand",
    "Gate",
    "Input",
    "Linear",
    "MaxPool2d",
    "Membrane",
    "Neuron",
    "Permute",
    "Readout",
    "Relu",
    "Reshape",
    "ShiftSum",
    "Slice",
    "SpikeMatmul",
    "Staircase",
    "Sum",
}


def other_ops() -> Graph:
    """The ops of version 1 that no conformance case of one input has."""
    nodes = (
        Node("x", ops.Input(type=TensorType.spikes(3, 3))),
        Node("late", ops.Delay(steps=2), ("x",)),
        Node("both", ops.Gate(), ("x", "late")),
        Node("wide", ops.Concat(axis=0), ("both", "x")),
        Node("scores", ops.SpikeMatmul(), ("wide", "x")),
        Node("y", ops.ShiftSum(window=40, reach=7), ("scores", "x")),
    )
    return Graph(nodes, ("y",), 2)


GRAPHS = {"other-ops": other_ops()} | {
    str(c).replace("/", "_").replace(" ", "_"): c.graph for c in CASES
}


@pytest.mark.parametrize("file", sorted(VERSION1.iterdir()), ids=lambda f: f.stem)
def test_version_1_still_loads(file: Path, tmp_path: Path) -> None:
    network = load_network(file)
    assert network.graph == GRAPHS[file.stem]
    assert network.recipe is None
    assert (network.logit_scale, network.classes) == (Fraction(-5, 3 << 70), ("é", "", "b\n"))
    save_network(network, tmp_path / "now.lapilli")
    assert load_network(tmp_path / "now.lapilli") == network


def test_the_stored_files_have_every_op_of_version_1() -> None:
    files = [load_network(f) for f in VERSION1.iterdir()]
    assert {type(n.op).__name__ for f in files for n in f.graph.nodes} == OPS_OF_VERSION_1


def test_a_version_1_file_of_ops_with_fewer_attributes_loads(tmp_path: Path) -> None:
    """As version 1 files are for a reader whose ops have gained some."""
    file = VERSION1 / "fires-at-threshold.lapilli"
    whole = load_network(file)
    head = _metadata(file)
    content = json.loads(head["network"])
    nodes = []
    for node in content["nodes"]:
        if node["op"] == "Neuron":
            assert node["attributes"].pop("ternary") is False
        nodes.append(node)
    shown = [repr(n).replace(", ternary=False", "") for n in whole.graph.nodes]
    text = f"(({', '.join(shown)}), {whole.graph.outputs!r}, {whole.graph.T})"

    def change(header: dict[str, Any]) -> None:
        header["__metadata__"]["network"] = json.dumps({**content, "nodes": nodes})
        header["__metadata__"]["digest"] = hashlib.sha256(text.encode()).hexdigest()

    copy = tmp_path / "net.lapilli"
    copy.write_bytes(file.read_bytes())
    assert load_network(edited(copy, change)) == whole


def edited(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change the header of a file and write it beside."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    change(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    made = path.with_name("edited.lapilli")
    made.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])
    return made


def test_a_changed_version_1_file_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "net.lapilli"
    copy.write_bytes((VERSION1 / sorted(f.name for f in VERSION1.iterdir())[0]).read_bytes())

    def change(header: dict[str, Any]) -> None:
        content = json.loads(header["__metadata__"]["network"])
        content["T"] += 1
        header["__metadata__"]["network"] = json.dumps(content)

    with pytest.raises(FormatError, match=r"digest is not its content's"):
        load_network(edited(copy, change))


def test_attributes_at_their_default_may_be_missing(spikformer: Quantized, tmp_path: Path) -> None:
    """As they are in a file of today for a reader whose ops have more of them."""
    path = tmp_path / "net.lapilli"
    save_network(spikformer.network, path)
    dropped = 0

    def change(header: dict[str, Any]) -> None:
        nonlocal dropped
        content = json.loads(header["__metadata__"]["network"])
        for node in content["nodes"]:
            if node["op"] == "Neuron":
                for key, default in (("reset_by", 0), ("ternary", False)):
                    assert node["attributes"].pop(key) == default
                    dropped += 1
        header["__metadata__"]["network"] = json.dumps(content)

    assert load_network(edited(path, change)) == spikformer.network
    assert dropped > 10


# ---- the recipe ---------------------------------------------------------------------------------


def test_the_recipe_survives(spikformer: Quantized, tmp_path: Path) -> None:
    path = tmp_path / "net.lapilli"
    save_network(spikformer.network, path)
    recipe = load_network(path).recipe
    assert recipe is not None
    assert recipe == spikformer.network.recipe
    assert len(recipe.synapses) > 10
    assert len(recipe.neurons) > 10
    assert recipe.options["mean"] == [str(m) for m in spikformer.network.input.mean]


def _recipe(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    def edit(header: dict[str, Any]) -> None:
        content = json.loads(header["__metadata__"]["recipe"])
        change(content)
        header["__metadata__"]["recipe"] = json.dumps(content)

    return edit


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda r: r.update(extra=1), "the recipe: unknown key 'extra'"),
        (lambda r: r.pop("parameters"), "the recipe: key 'parameters' is missing"),
        (lambda r: r["options"].update(mean=[0.3]), "0.3 is a floating-point number"),
        (lambda r: r["synapses"][0].update(weight_scale="1e-3"), "'1e-3' is no fraction"),
        (lambda r: r["synapses"][0].update(use="0"), "expected a 64-bit integer"),
        (lambda r: r["neurons"][0].update(exact=1), "expected true or false"),
        (lambda r: r["notes"].append({"kind": "?", "path": "", "text": ""}), "unknown kind '?'"),
        (lambda r: r.update(model=[]), "the recipe: model: expected an object"),
        (lambda r: r.update(parameters="0" * 64), "digest is not its content's"),
        (lambda r: r["synapses"][0].update(weight_scale="1/3"), "digest is not its content's"),
    ],
)  # fmt: skip
def test_an_edited_recipe_is_refused(
    spikformer: Quantized,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], None],
    sentence: str,
) -> None:
    path = tmp_path / "net.lapilli"
    save_network(spikformer.network, path)
    with pytest.raises(FormatError) as caught:
        load_network(edited(path, _recipe(change)))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda n: replace(n, classes=tuple(reversed(n.classes))),
        lambda n: replace(n, logit_scale=n.logit_scale * 2),
        lambda n: replace(n, input=replace(n.input, mean=(Fraction(9, 10),))),
        lambda n: replace(n, input=replace(n.input, std=(Fraction(9, 10),))),
        lambda n: replace(n, input=replace(n.input, hi=n.input.hi - 1)),
    ],
)
def test_all_that_decides_an_answer_is_in_the_digest(
    spikformer: Quantized, tmp_path: Path, change: Callable[[Any], Any]
) -> None:
    other = change(spikformer.network)
    assert other.graph.digest == spikformer.network.graph.digest
    assert other.digest != spikformer.network.digest
    whole, part = tmp_path / "whole.lapilli", tmp_path / "part.lapilli"
    save_network(spikformer.network, whole)
    save_network(other, part)
    told: Json = json.loads(_metadata(part)["network"])

    def swap(header: dict[str, Any]) -> None:
        header["__metadata__"]["network"] = json.dumps(told)

    with pytest.raises(FormatError, match=r"digest is not its content's"):
        load_network(edited(whole, swap))


def _metadata(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    found: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return dict(found["__metadata__"])
