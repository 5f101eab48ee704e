"""The quantization report: its numbers are true, what is wrong shows, and its files are whole."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from networks.tiny import Tiny, tiny  # noqa: E402
from torch import nn  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

import lapilli as lp  # noqa: E402
from lapilli.deploy.cli.app import app  # noqa: E402
from lapilli.deploy.report.histogram import Histogram, histogram, joined  # noqa: E402
from lapilli.deploy.report.layers import QuantizationReport  # noqa: E402
from lapilli.deploy.report.pages import page  # noqa: E402
from lapilli.ir import ops  # noqa: E402
from lapilli.ir.errors import InputError, OutputError  # noqa: E402
from lapilli.ir.recipe import Note, NoteKind  # noqa: E402
from lapilli.ir.tensor import IntTensor  # noqa: E402
from lapilli.quantize import Quantized, quantize  # noqa: E402
from lapilli.simulators.reference import Reference  # noqa: E402

pytestmark = pytest.mark.torch

_MEAN, _STD = 0.5, 0.25


def pixels(count: int = 12) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(3).integers(0, 256, (count, 1, 4, 4)).astype(np.uint8)


def made_of(model: nn.Module, **options: object) -> Quantized:
    images = (torch.from_numpy(pixels()).float() / 255 - _MEAN) / _STD
    told = {"mean": (_MEAN,), "std": (_STD,), **options}
    return quantize(model, images, **told)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def model() -> Tiny:
    return tiny().float()


@pytest.fixture(scope="module")
def made(model: Tiny) -> Quantized:
    return made_of(model, weight_bits=4, layer_bits={"head": 6})


@pytest.fixture(scope="module")
def report(made: Quantized, model: Tiny) -> QuantizationReport:
    return lp.quantization_report(made, model, pixels())


def _spikes_in_float(model: Tiny) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    """By a forward of the author's module, apart from lapilli's own recorder."""
    kept = {}
    neurons = {name: m for name, m in model.named_children() if name.startswith("lif")}
    hooks = [
        m.register_forward_hook(lambda _, __, y, name=name: kept.update({name: y}))
        for name, m in neurons.items()
    ]
    with torch.no_grad():
        model((torch.from_numpy(pixels()).float() / 255 - _MEAN) / _STD)
    for hook in hooks:
        hook.remove()
    return {name: y.numpy().astype(np.int64) for name, y in kept.items()}


def test_rates_and_mismatches_are_those_of_plain_runs(
    report: QuantizationReport, made: Quantized, model: Tiny
) -> None:
    graph = made.network.graph
    got = Reference().compile(graph).run(made.network.encode(pixels()))
    real = _spikes_in_float(model)
    assert [row.node for row in report.neurons] == list(graph.neurons) == sorted(real)
    differ = 0
    for row in report.neurons:
        mine, theirs = got.values[row.node], real[row.node]
        assert row.rate == mine.mean()
        assert row.rate_in_float == theirs.mean()
        assert row.unlike_float == (mine != theirs).mean()
        differ += int((mine != theirs).sum())
        flat = mine.reshape(-1, row.neurons)
        assert (row.never, row.always) == (
            sum(not column.any() for column in flat.T), sum(column.all() for column in flat.T)
        )  # fmt: skip
        membranes = got.membranes[row.node]
        assert row.membranes is not None
        assert row.state_bits_seen <= row.state_bits
        reach = max(int(membranes.max()), -int(membranes.min()) - 1)
        assert row.state_bits_seen == reach.bit_length() + 1
        edges = [
            (row.membranes.first + k) << row.membranes.shift
            for k in range(len(row.membranes.counts) + 1)
        ]
        counted = [int(((a <= membranes) & (membranes < b)).sum()) for a, b in _pairs(edges)]
        assert list(row.membranes.counts) == counted
        assert sum(counted) == membranes.size
        assert row.compared == 3 * mine.size  # currents, membranes and spikes
    assert report.unlike_float == differ / sum(s.size for s in real.values())
    assert report.compared == sum(row.compared for row in report.neurons) + len(pixels()) * 3
    assert (report.mismatches, report.first_wrong, report.images) == (0, "", len(pixels()))
    answers = zip(made.health.integer_answers, made.health.float_answers, strict=True)
    assert report.same_answers == sum(a == b for a, b in answers)
    assert report.suspicious == ()


def _pairs(edges: list[int]) -> Iterator[tuple[int, int]]:
    return pairwise(edges)


def test_weights_are_those_that_rounding_gives(report: QuantizationReport, model: Tiny) -> None:
    (head,) = (row for row in report.synapses if row.node == "head")
    (fc,) = (row for row in report.synapses if row.node == "fc")
    for row, linear, bits in ((head, model.head, 6), (fc, model.fc, 4)):
        real = linear.weight.detach().double().numpy()
        most = 2 ** (bits - 1) - 1
        unit = float(row.weight_scale) * 2**row.exponent
        integers = np.rint(real / unit).clip(-most, most).astype(int)
        bins = {row.histogram.first + k: n for k, n in enumerate(row.histogram.counts)}
        counts: Counter[int] = Counter()
        for value in integers.ravel().tolist():
            counts[value >> row.histogram.shift] += 1
        assert {k: n for k, n in bins.items() if n} == dict(counts)
        assert (row.bits, row.weights) == (bits, real.size)
        assert row.bits_used == int(np.abs(integers).max()).bit_length() + 1
        assert row.zeros == (integers == 0).sum()
        assert row.zeroed == (integers == 0).mean()  # none is 0 in float
        assert row.at_limit == (np.abs(integers) == most).sum()
        assert row.state == ""


def test_thresholds_and_formats_are_those_of_the_graph(
    report: QuantizationReport, made: Quantized
) -> None:
    bounds = {bound.name: bound.state_bits for bound in made.bounds}
    for row in report.neurons:
        op = made.network.graph[row.node].op
        assert isinstance(op, ops.Neuron)
        assert (row.thresholds[0], row.thresholds[1]) == (op.threshold.array.min(),) * 2
        assert (row.fraction_bits, row.state_bits) == (op.fraction_bits, bounds[row.node])


def test_batches_change_nothing(
    report: QuantizationReport, made: Quantized, model: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lapilli.deploy.report import measure

    monkeypatch.setattr(measure, "affordable_batch", lambda _: 5)
    assert lp.quantization_report(made, model, pixels()) == report


@pytest.mark.parametrize("bias", [-1e3, 1e3])
def test_a_dead_and_a_saturated_layer_show(bias: float) -> None:
    model = tiny().float()
    with torch.no_grad():
        model.fc.bias.fill_(bias)
    found = lp.quantization_report(made_of(model), model, pixels())
    (row,) = (row for row in found.neurons if row.node == "lif1")
    assert row in found.suspicious
    if bias < 0:
        assert (row.state, row.rate, row.never) == ("silent, in float too", 0, row.neurons)
    else:
        assert (row.state, row.rate, row.always) == ("saturated, in float too", 1, row.neurons)
    assert f"lif1 ({row.state})" in page(found, Path("x.md")).decode()


def test_what_integers_lost_shows(made: Quantized, model: Tiny) -> None:
    """Weights that became 0, which health tells, and a layer that is silent in integers alone."""
    zeroed = {**made.health.zeroed, "fc": 0.95}
    note = Note(NoteKind.LOST_WEIGHTS, "fc", "95.0% of its weights became 0: the layer is lost")
    lost = replace(made, health=replace(made.health, zeroed=zeroed), notes=(note,))
    found = lp.quantization_report(lost, model, pixels())
    assert [(layer.node, layer.state) for layer in found.suspicious] == [("fc", "lost")]
    assert found.suspicious[0].notes == (note,)
    row = replace(found.neurons[0], rate=0.0)
    assert row.state == "silent"
    assert replace(row, rate=0.9995).state == "saturated"


def _with_weight(made: Quantized, name: str) -> Quantized:
    """One weight, of an input that fires, is larger by one unit, in the graph alone."""
    run = Reference().compile(made.network.graph).run(made.network.encode(pixels()))
    events = run.values[{"fc": "lif0", "b": "lif2", "head": "lif3"}[name]].sum((0, 1)).ravel()
    nodes = []
    for node in made.network.graph.nodes:
        op = node.op
        if node.name == name and isinstance(op, ops.Linear):
            array = op.weight.array.copy()
            array[0, events.argmax()] += 1
            op = replace(op, weight=IntTensor(array))
        nodes.append(replace(node, op=op))
    graph = replace(made.network.graph, nodes=tuple(nodes))
    return replace(made, network=replace(made.network, graph=graph))


@pytest.mark.parametrize(("layer", "shows"), [("fc", "lif1"), ("b", "lif3"), ("head", "logits")])
def test_a_wrong_integer_shows(made: Quantized, model: Tiny, layer: str, shows: str) -> None:
    faulty = _with_weight(made, layer)
    found = lp.quantization_report(faulty, model, pixels())
    (compared,) = lp.compare(faulty, pixels(), on="reference").comparisons
    assert found.mismatches == compared.mismatches > 0
    assert found.compared == compared.compared
    assert found.first_wrong == shows
    wrong = [row.node for row in found.suspicious if row.state == "wrong"]
    assert wrong[:1] == ([] if shows == "logits" else [shows])
    assert f"first at {shows}: an integer is wrong" in page(found, Path("x.html")).decode()


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows = 0
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [name for name, _ in attrs]
        self.rows += tag == "tr"
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [name for name, _ in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone_and_names_are_only_text(report: QuantizationReport) -> None:
    odd = replace(report.neurons[0], node="<script>alert(1)</script>|")
    shown = page(replace(report, neurons=(odd, *report.neurons[1:])), Path("x.HTML")).decode()
    tags = _Tags()
    tags.feed(shown)
    assert tags.open == []
    assert tags.rows == 2 + len(report.neurons) + len(report.synapses) + (
        1 + len(report.notes) if report.notes else 0
    )
    assert not {"src", "href", "onclick"} & set(tags.attributes)
    assert "<script" not in shown
    assert shown.count("<svg") == len(report.neurons) + len(report.synapses)
    table = page(replace(report, neurons=(odd,)), Path("x.md")).decode()
    (row,) = (line for line in table.splitlines() if "alert" in line)
    assert "<script>" not in row
    assert row.replace("\\|", "").count("|") == 15


def test_json_has_every_number(report: QuantizationReport) -> None:
    told = json.loads(page(report, Path("x.json")))
    assert told["neurons"][0]["membranes"]["counts"] == list(
        report.neurons[0].membranes.counts if report.neurons[0].membranes else ()
    )
    assert [Fraction(row["weight_scale"]) for row in told["synapses"]] == [
        row.weight_scale for row in report.synapses
    ]
    assert told["neurons"][1]["unlike_float"] == report.neurons[1].unlike_float
    assert told["neurons"][1]["state"] == ""


def test_what_cannot_be_reported_is_refused(
    report: QuantizationReport, made: Quantized, model: Tiny
) -> None:
    with pytest.raises(OutputError, match=r"a report is \.html, \.md, \.json, not '\.txt'"):
        page(report, Path("x.txt"))
    with pytest.raises(InputError, match="at least one image"):
        lp.quantization_report(made, model, pixels()[:0])
    bare = replace(made, network=replace(made.network, recipe=None))
    with pytest.raises(lp.LapilliError, match="holds no recipe"):
        lp.quantization_report(bare, model, pixels())


@pytest.mark.parametrize("parts", [[100], [1, 99], [30, 30, 40]])
@pytest.mark.parametrize("spread", [3, 40, 10**6])
def test_histograms_are_the_same_however_values_come(parts: list[int], spread: int) -> None:
    values = np.random.default_rng(spread).integers(-spread, spread, 100)
    whole: Histogram | None = None
    for part in np.split(values, np.cumsum(parts)[:-1]):
        whole = joined(whole, histogram(part))
    assert whole == histogram(values)
    assert whole is not None
    assert len(whole.counts) <= 33
    assert whole.total == 100
    assert whole.lowest <= values.min()
    assert values.max() < whole.beyond
    assert histogram(values[:0]) is None


_FILE = """
import torch
from torch import nn
from lapilli.model.families.lif import LIF

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.lif, self.head = nn.Conv2d(1, 4, 3), LIF(), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.lif(4 * self.stem(x).expand(4, -1, -1, -1, -1)).mean((3, 4))).mean(0)
"""


@pytest.mark.parametrize("suffix", [".html", ".md", ".json"])
def test_from_the_command_line(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "net.py").write_text(_FILE)
    np.savez(tmp_path / "images.npz", images=pixels())
    asked = ["quantize", f"{tmp_path}/net.py:Net", "--calibration", f"{tmp_path}/images.npz",
             "--no-normalisation", "-o", f"{tmp_path}/x.lapilli"]  # fmt: skip
    done = CliRunner().invoke(app, [*asked, "--report", f"{tmp_path}/r{suffix}"])
    assert done.exit_code == 0, done.output
    assert "stem" in (tmp_path / f"r{suffix}").read_text()
    assert "12 images" in done.stderr
    assert "0 differ" in done.stderr
    quiet = CliRunner().invoke(app, [*asked, "--report", f"{tmp_path}/q{suffix}", "--json"])
    assert json.loads(quiet.stdout)["file"] == f"{tmp_path}/x.lapilli"
    assert "differ" not in quiet.stderr
    wrote = (tmp_path / f"q{suffix}").read_bytes()
    assert wrote == (tmp_path / f"r{suffix}").read_bytes()
    refused = CliRunner().invoke(app, [*asked[:-1], f"{tmp_path}/y", "--report", f"{tmp_path}/r"])
    assert isinstance(refused.exception, OutputError)
    assert not (tmp_path / "y").exists()


def test_scales_of_channels_show(model: Tiny) -> None:
    made = made_of(model, scales="channel")
    report = lp.quantization_report(made, model, pixels())
    assert report.mismatches == 0
    row = next(r for r in report.synapses if r.node == "fc")
    held = made.reference.module.get_parameter("fc.weight").detach().numpy()
    op = made.network.graph["fc"].op
    assert isinstance(op, ops.Linear)
    each = float(row.weight_scale) * np.array(row.factors)[:, None]
    assert np.array_equal(op.weight.array * each, held)
    least, most = min(row.factors), max(row.factors)
    assert least < most
    assert f" x {least} to {most}" in page(report, Path("x.md")).decode()


def test_a_notebook_sees_each_layer(report: QuantizationReport) -> None:
    shown = report._repr_html_()
    assert all(f"<td>{row.node}</td>" in shown for row in report.neurons)
    assert f"{report.mismatches:,} of {report.compared:,}" in shown
    assert "<script" not in shown
