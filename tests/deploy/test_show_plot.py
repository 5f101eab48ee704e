"""`lapilli show --plot`: a layer's raster and membranes, as they were recorded; sentences."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import lapilli as lp
from lapilli.deploy.cli.app import app
from lapilli.deploy.cli.bitmap import png
from lapilli.deploy.cli.layer_plot import check_node, layer_of, picture
from lapilli.export.native import save_network
from lapilli.ir import ops
from lapilli.ir.errors import LapilliError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import Network
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import TensorType
from lapilli.pictures.canvas import Canvas
from lapilli.pictures.stack import stacked

_SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, net_chain: Callable[..., Network]) -> Path:
    folder = tmp_path_factory.mktemp("show")
    save_network(net_chain(encoder=False), folder / "net.lapilli")
    images = np.random.default_rng(2).integers(0, 256, (3, 2, 7, 6), np.uint8)
    np.savez(folder / "images.npz", images=images)
    (folder / "taken.svg").mkdir()
    return folder


def _show(folder: Path, words: str) -> str:
    given = [word.replace("@", f"{folder}/") for word in words.split()]
    result = CliRunner().invoke(app, ["show", str(folder / "net.lapilli"), *given])
    if isinstance(result.exception, LapilliError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


_RUN = "--data @images.npz --on reference"


def _values(root: ET.Element, tag: str) -> list[float]:
    return [float(e.get("data-value", "")) for e in root.iter(_SVG + tag) if e.get("data-value")]


def test_what_is_drawn_is_what_ran(files: Path, tmp_path: Path) -> None:
    """Boxes are the events, circles the membranes, lines across the thresholds."""
    network = lp.load(files / "net.lapilli")
    name = network.graph.firing[1]
    images = np.load(files / "images.npz")["images"]
    run = lp.run(network, images[1:2])
    spikes = run.values[name][:, 0].reshape(network.graph.T, -1)
    membranes = run.membranes[name][:, 0].reshape(network.graph.T, -1)
    out = tmp_path / "layer.svg"
    words = f"--plot {out} --node {name} --image 1 --neurons 0,2,5 {_RUN}"
    facts = json.loads(_show(files, f"{words} --json"))
    assert facts["events"] == spikes[:, [0, 2, 5]].T.tolist()
    assert facts["membranes"] == membranes[:, [0, 2, 5]].T.tolist()
    root = ET.fromstring(out.read_text())
    assert root.get("role") == "img"
    assert name in str(root.get("aria-label"))
    drawn = spikes[:, [0, 2, 5]].T
    assert _values(root, "rect") == drawn[drawn != 0].tolist()
    assert _values(root, "circle") == membranes[:, [0, 2, 5]].T.ravel().tolist()
    op = network.graph[name].op
    assert isinstance(op, ops.Neuron)
    assert facts["thresholds"][0]["threshold"] == op.threshold.array.ravel()[0]
    assert any((e.text or "").startswith("threshold ") for e in root.iter(_SVG + "text"))
    assert drawn.any()


def test_png_is_the_same_picture(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "layer.png"
    said = _show(files, f"--plot {out} {_RUN}")
    assert said.startswith(f"wrote {out}: ")
    with Image.open(out) as image:
        width, height = image.size
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20) or []}
    assert width > 300
    assert height > 300
    assert (0x1F, 0x6F, 0xB2) in colours  # a spike
    assert (0xB9, 0x1C, 0x2B) in colours  # a threshold


def test_a_bitmap_has_each_mark_where_it_stands() -> None:
    canvas = Canvas(40, 30)
    canvas.rect(2, 3, 10, 6, "one", opacity=0.5)
    canvas.circle(30, 10, 4, "two")
    canvas.line(0, 20, 40, 20, "wrong", dashes="10 10")
    with Image.open(io.BytesIO(png(canvas.svg("a", "b")))) as image:
        plain = image.convert("RGB")
        places = ((10, 10), (60, 20), (10, 40), (50, 40), (30, 40), (0, 0))
        found = [plain.getpixel(place) for place in places]
    red, white = (0xB9, 0x1C, 0x2B), (255, 255, 255)
    assert found == [(0x8F, 0xB7, 0xD8), (0xB4, 0x54, 0x0A), red, red, white, white]
    with pytest.raises(ValueError, match="<g> is drawn by no picture here"):
        png('<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"><g/></svg>')


def test_pictures_below_each_other() -> None:
    small = Canvas(10, 20).svg("a", "")
    both = ET.fromstring(stacked([small, Canvas(30, 5).svg("b", "")], title="two", told="both"))
    inner = both.findall(_SVG + "svg")
    assert [e.get("y") for e in inner] == ["26", "54"]
    assert float(both.get("height", "0")) == 26 + 20 + 8 + 5 + 8
    assert both.get("aria-label") == "two. both"
    with pytest.raises(ValueError, match="is no picture of this package"):
        stacked(["<p>"], title="", told="")


def _one(op: ops.Op, shape: tuple[int, ...] = (3,)) -> Graph:
    nodes = (Node("x", ops.Input(type=TensorType.spikes(*shape))), Node("lif", op, ("x",)))
    return Graph(nodes, ("lif",), 2)


def _recorded(graph: Graph, values: Any, membranes: Any = None) -> Recording:
    shown = {"lif": np.array(values, np.int64)[:, None]}
    held = {} if membranes is None else {"lif": np.array(membranes, np.int64)[:, None]}
    return Recording(values=shown, membranes=held)


def test_thresholds_of_each_kind() -> None:
    each = ops.Neuron(threshold=IntTensor.of([65, 70, 75]), ternary=True)
    graph = _one(each)
    run = _recorded(graph, [[1, 0, -1], [0, 0, 0]], [[65, 3, -80], [0, 3, 0]])
    layer = layer_of(graph, run, "lif")
    assert [list(levels.items()) for levels in layer.levels] == [
        [("threshold", level), ("below", -level)] for level in (65, 70, 75)
    ]
    text = picture(layer, "image 0")
    assert "threshold of 1 70" in text
    assert "below of 2 -75" in text
    two = ops.GeneralNeuron(
        taps=IntTensor.of([[[1]]]), threshold=IntTensor.of(np.array([[[5], [9]]]))
    )
    graph = _one(two)
    layer = layer_of(graph, _recorded(graph, np.zeros((2, 3))), "lif", [2])
    assert [dict(levels) for levels in layer.levels] == [{"level 1": 5, "level 2": 9}]
    assert layer.membranes is None


def test_those_that_changed_most_are_shown() -> None:
    graph = _one(ops.Neuron(threshold=IntTensor.of([65])), (100,))
    values = np.zeros((2, 100), np.int64)
    values[:, 7], values[1, 50:] = 1, 1
    layer = layer_of(graph, _recorded(graph, values), "lif")
    assert layer.chosen == (7, *range(50, 89))
    assert layer.fired == 51
    assert "40 of 100 neurons, of which 51 fired at all" in picture(layer, "image 0")


def test_one_that_rests_in_between_goes_before_one_that_always_fires() -> None:
    graph = _one(ops.Neuron(threshold=IntTensor.of([65])), (100,))
    values = np.ones((2, 100), np.int64)
    values[1, 90:] = 0
    layer = layer_of(graph, _recorded(graph, values), "lif")
    assert layer.chosen == (*range(30), *range(90, 100))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--plot @a.svg", "--plot draws what a layer did: name images with --data"),
        (f"--plot @a.jpg {_RUN}", "a picture is .svg or .png"),
        (f"--plot @a.svg --node n9 {_RUN}", "no layer of neurons is called 'n9'; such are n"),
        (f"--plot @a.svg --image 3 {_RUN}", "--image 3: there are 3, the first is 0"),
        (f"--plot @a.svg --neurons 9999 {_RUN}", "has neurons 0 to"),
        (f"--plot @a.svg --neurons 1,x {_RUN}", "is no list of numbers, as 0,5,7"),
        (f"--plot @taken.svg {_RUN}", "is a folder"),
        (f"--plot @net.lapilli.svg --on moon {_RUN.replace('--on reference', '')}", "no simulator"),
        ("--data @images.npz", "are for a picture: give --plot"),
        ("--node n1", "are for a picture: give --plot"),
    ],
)
def test_refusals_are_a_sentence(files: Path, words: str, said: str) -> None:
    with pytest.raises(LapilliError) as caught:
        _show(files, words)
    assert said in str(caught.value)
    assert not (files / "a.svg").exists()


def test_a_graph_without_neurons_has_no_raster() -> None:
    nodes = (Node("x", ops.Input(type=TensorType.spikes(3))), Node("r", ops.Readout(), ("x",)))
    with pytest.raises(LapilliError, match="there is no raster to draw"):
        check_node(Graph(nodes, ("r",), 2), "")


def test_a_silent_layer_is_drawn(files: Path) -> None:
    graph = _one(replace(ops.Neuron(threshold=IntTensor.of([65])), dv=1))
    layer = layer_of(graph, _recorded(graph, np.zeros((2, 3))), "lif")
    assert "0 events in 2 steps" in picture(layer, "grey")
