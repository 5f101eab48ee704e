"""The report of a network: one file that is whole, its pictures say what its JSON says."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jinja2")
pytest.importorskip("pyarrow")

from lapilli.deploy.cli import frame
from lapilli.deploy.cli.app import app
from lapilli.deploy.network_report.report import report_of
from lapilli.deploy.network_report.sources import Results, Sources
from lapilli.export.native import load_network, save_network
from lapilli.ir import ops
from lapilli.ir.network import Network
from lapilli.ir.recipe import Recipe, Rounding

_MOST = 5 << 20
_VOID = {"meta", "br", "link", "hr", "img", "input"}


def call(folder: Path, words: str) -> tuple[int, str, str]:
    """Run a command in words, @ being the folder; return status, standard output and error."""
    held = io.BytesIO(), io.BytesIO()
    out, err = (io.TextIOWrapper(stream, write_through=True) for stream in held)
    given = [word.replace("@", f"{folder}/") for word in words.split()]
    with redirect_stdout(out), redirect_stderr(err):
        ended = frame.run(app, given)
    return ended, held[0].getvalue().decode(), " ".join(held[1].getvalue().decode().split())


class Page(HTMLParser):
    """What a page holds: tags closed in order, identifiers, links, and marks of each figure."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.labels: list[str] = []
        self.headings: list[int] = []
        self.marks: dict[str, list[str]] = {}
        self.figure = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {key: value or "" for key, value in attrs}
        if tag not in _VOID:
            self.open.append(tag)
        if "id" in told:
            self.ids.append(told["id"])
        if tag == "a":
            self.links.append(told["href"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.loaded += [told[key] for key in ("src", "srcset", "poster", "data") if key in told]
        self.loaded += [told["href"]] if tag == "link" else []
        if tag == "svg":
            assert told["role"] in ("img", "group")
            self.labels.append(told["aria-label"])
        if tag == "figure":
            self.figure = told["id"]
            self.marks[self.figure] = []
        if "data-value" in told:
            self.marks[self.figure].append(told["data-value"])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def leaves(data: Any) -> Iterator[float]:
    """Every number in JSON, in its order."""
    if isinstance(data, dict):
        for value in data.values():
            yield from leaves(value)
    elif isinstance(data, list):
        for value in data:
            yield from leaves(value)
    elif isinstance(data, int | float) and not isinstance(data, bool):
        yield float(data)


def shown(name: str, data: Any) -> list[float] | list[str]:
    """What the marks of a figure must say, in their order, by its JSON."""
    if name.startswith(("block",)):
        if "blocks" in data:
            return [str(k) for k in range(len(data["blocks"]))]
        return [*data["from"], *data["nodes"], *(f"to\n{a}" for a in data["to"])]
    if isinstance(data, list):  # energies: a bar, and a dot where there is a usual table
        spans = [f"{row['lowest']} {row['highest']}" for row in data]
        return [
            text
            for row, span in zip(data, spans, strict=True)
            for text in ([span] if row["usual"] is None else [span, str(row["usual"])])
        ]
    if "counts" in data:
        return [float(count) for count in data["counts"]]
    if "values" in data:
        return list(leaves(data["values"]))
    if "expected" in data:
        mine, other = (np.array(data[key]) for key in ("expected", "got"))
        return [
            float(x)
            for one, two in zip(mine.ravel(), other.ravel(), strict=True)
            for x in ([one] if one else []) + ([two] if two and one != two else [])
        ]
    if name.startswith("membrane-"):
        return [float(x) for line in data["lines"].values() for x in line]
    series = [numbers for key, numbers in data.items() if key != "limits"]
    return [float(x) for row in zip(*series[1:], strict=True) for x in row if x is not None]


def check(page: Path) -> dict[str, Any]:
    """Hold a page to all that a page is, and return its JSON."""
    text = page.read_text("utf-8")
    facts: dict[str, Any] = json.loads(page.with_suffix(".json").read_text("utf-8"))
    found = Page(text)
    assert len(text.encode()) <= _MOST
    assert not found.open
    assert not found.loaded, "nothing is loaded from elsewhere"
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    assert not re.search(r"url\(|@import|\sstyle=|\son[a-z]+=", text)
    assert len(set(found.ids)) == len(found.ids)
    inside = [link[1:] for link in found.links if link.startswith("#")]
    assert set(inside) <= set(found.ids)
    assert {link for link in found.links if not link.startswith("#")} == {page.stem + ".json"}
    assert found.headings[0] == 1
    assert all(b - a <= 1 for a, b in zip(found.headings, found.headings[1:], strict=False))
    figures = {
        name: figure
        for section in facts["sections"].values()
        for name, figure in section["figures"].items()
    }
    assert len(found.labels) == len(figures) == len(found.marks)
    from lapilli.deploy.network_report.html import anchor

    for name, figure in figures.items():
        marks = found.marks[anchor(name)]
        expected = shown(name, figure["data"])
        if expected and isinstance(expected[0], float):
            assert [float(m) for m in marks] == expected, name
        else:
            assert marks == expected, name
        assert any(figure["told"] in label for label in found.labels), name
    assert set(facts["sections"]) <= set(found.ids)
    return facts


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, net_chain: Callable[..., Network]) -> Path:
    """Two networks, labelled images, and what validate, compare and cost say of the first."""
    folder = tmp_path_factory.mktemp("report")
    made = net_chain(encoder=False)
    save_network(made, folder / "net.lapilli")
    save_network(net_chain(encoder=True), folder / "other.lapilli")
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (9, 2, 7, 6), np.uint8)
    labels = rng.integers(0, made.class_count, 9)
    np.savez(folder / "images.npz", images=images, labels=labels)
    for words in (
        "validate @net.lapilli --data @images.npz --on reference -o @results --shard-size 4",
        "validate @other.lapilli --data @images.npz --on reference -o @others --no-labels",
    ):
        assert call(folder, words)[0] == 0
    for name, words in (
        ("compare", "compare @net.lapilli --images @images.npz --on event-driven --json"),
        ("cost", "cost @net.lapilli --data @images.npz --on reference --json"),
    ):
        status, out, _ = call(folder, words)
        assert status == 0
        (folder / f"{name}.json").write_text(out)
    return folder


def made(tmp_path: Path, sources: Sources) -> dict[str, Any]:
    """Write a report of what is in memory, and hold it to what a page is."""
    from lapilli.deploy.cli.report_making import write

    page = tmp_path / "r.html"
    write(report_of(sources), page, page.with_suffix(".json"))
    return check(page)


def test_all_that_is_known_is_on_one_page(files: Path, tmp_path: Path) -> None:
    words = "--results @results --comparison @compare.json --cost @cost.json"
    status, out, err = call(files, f"report @net.lapilli {words} -o {tmp_path}/r.html")
    facts = check(tmp_path / "r.html")
    assert status == (1 if facts["verdict"] in ("differs", "vacuous") else 0), err
    assert facts["verdict"] in out
    sections = facts["sections"]
    assert " ".join(sections) == (
        "equality accuracy flow activity headroom quantization integers cost cores provenance"
    )
    summary = json.loads((files / "results/summary.json").read_text())
    compared = json.loads((files / "compare.json").read_text())["comparisons"][0]
    runs = sections["equality"]["runs"]
    assert [run["compared"] for run in runs] == [0, compared["compared"]]
    assert runs[1]["kinds"] == compared["kinds"]
    assert sum(c for c, _ in compared["kinds"].values()) == compared["compared"] > 0
    (row,) = sections["equality"]["tables"]["matrix"]
    assert row["spikes"] == compared["kinds"]["spikes"]
    assert sections["accuracy"]["accuracy"] == summary["accuracy"]
    matrix = sections["accuracy"]["figures"]["confusion"]["data"]["values"]
    assert matrix == summary["accuracy"]["integer"]["confusion"]
    layers = {name: row for name, row in summary["layers"].items() if "rate" in row}
    rates = sections["activity"]["figures"]["rates"]["data"]
    assert rates["layer"] == list(load_network(files / "net.lapilli").graph.firing)
    assert dict(zip(rates["layer"], rates["integers"], strict=True)) == {
        name: row["rate"] for name, row in layers.items()
    }
    by_step = sections["activity"]["figures"]["by-step"]["data"]["values"]
    assert by_step == [layers[name]["rate_by_step"] for name in rates["layer"]]
    network = load_network(files / "net.lapilli")
    states = sections["headroom"]["tables"]["states"]
    assert {row["layer"]: row["highest"] for row in states} == {
        name: row["highest_state"] for name, row in summary["layers"].items()
        if "highest_state" in row
    }  # fmt: skip
    weights = sections["integers"]["figures"]["weights-c1"]["data"]
    assert sum(weights["counts"]) == network.graph["c1"].op.weight.array.size  # type: ignore[union-attr]
    cost = json.loads((files / "cost.json").read_text())
    assert sections["cost"]["cost"] == cost
    energies = sections["cost"]["figures"]["energy"]["data"]
    assert len(energies) == sum(r["lowest"] > 0 for r in cost["ranges"])
    cores = sections["cores"]["chips"]["loihi1"]
    assert sum(p["cores"] for p in cores["populations"]) == cores["cores"]
    assert any(p["messages"] for p in cores["populations"])
    drawn = sections["cores"]["figures"]["map-loihi1"]["data"]["values"]
    assert sum(map(len, drawn)) == cores["cores"]
    assert 0 < max(map(max, drawn)) <= 1
    assert facts["digest"] == network.digest
    values = {row["what"]: row["value"] for row in sections["provenance"]["tables"]["network"]}
    assert values["network"] == network.digest


def test_data_are_validated_and_counted_first(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lapilli.deploy.comparison.targets.usual", lambda: "reference")
    words = f"report @net.lapilli --data @images.npz --on reference --results {tmp_path}/v"
    status, _, err = call(files, f"{words} --count 6 -o {tmp_path}/r.html --json")
    assert status == 0, err
    facts = check(tmp_path / "r.html")
    summary = json.loads((tmp_path / "v/summary.json").read_text())
    assert summary["images"] == facts["sections"]["cost"]["cost"]["images"] == 6
    assert facts["sections"]["accuracy"]["accuracy"] == summary["accuracy"]
    assert call(files, f"{words} --count 6 -o {tmp_path}/r.html --overwrite")[0] == 0


def test_results_of_a_model_are_not_gone_on_with_alone(files: Path, tmp_path: Path) -> None:
    """The model was named to validate, and not to report: what is there is left as it is."""
    shutil.copytree(files / "results", tmp_path / "v")
    options = tmp_path / "v/options.json"
    options.write_text(json.dumps({**json.loads(options.read_text()), "model": {"parameters": ""}}))
    words = f"report @net.lapilli --data @images.npz --on reference --results {tmp_path}/v"
    status, _, err = call(files, f"{words} -o {tmp_path}/r.html")
    assert status == 2
    assert "none is named now: leave out --data to report on it as it is; or give" in err
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    ("model", "commands"),
    [
        (
            {"kind": "class", "source": "net.py:Net", "arguments": {}},
            ["quantize net.py:Net --checkpoint CHECKPOINT ... -o net.lapilli",
             "validate net.lapilli --data DATA --checkpoint CHECKPOINT --module net.py:Net -o"],
        ),
        (
            {"kind": "checkpoint", "config": "{}"},
            ["quantize CHECKPOINT ... -o net.lapilli",
             "validate net.lapilli --data DATA --checkpoint CHECKPOINT -o"],
        ),
    ],
)  # fmt: skip
def test_commands_name_the_class_of_a_network_that_has_one(
    net_chain: Callable[..., Network], model: dict[str, Any], commands: list[str]
) -> None:
    recipe = Recipe(
        model=model, options={}, parameters="", rounding=Rounding(), synapses=(), neurons=(),
        leaf=0, per_step=False, notes=(),
    )  # fmt: skip
    network = replace(net_chain(encoder=False), recipe=recipe)
    facts = json.loads(report_of(Sources(network=network, file="net.lapilli")).as_json())
    told = [m["command"] for s in facts["sections"].values() for m in s["missing"]]
    for command in commands:
        assert any(command in one for one in told), told


def test_a_section_without_data_says_how_to_get_it(files: Path, tmp_path: Path) -> None:
    status, out, _ = call(files, f"report @net.lapilli -o {tmp_path}/r.html --chip loihi2")
    assert (status, "not compared" in out) == (0, True)
    facts = check(tmp_path / "r.html")
    missing = {name: s["missing"] for name, s in facts["sections"].items() if s["missing"]}
    assert set(missing) == {"equality", "accuracy", "activity", "headroom", "quantization", "cost"}
    from typer.main import get_command

    commands = get_command(app).commands  # type: ignore[attr-defined]
    for told in (m["command"] for some in missing.values() for m in some):
        _, name, *words = told.split()
        known = {option for p in commands[name].params for option in p.opts}
        assert {w for w in words if w.startswith("-")} <= known
    assert facts["sections"]["cores"]["chips"]["loihi2"]["unknown"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--results @nowhere", "there is no such folder; `lapilli validate` makes one"),
        ("--results @empty", "holds no summary.json"),
        ("--results @others", "is about another network"),
        ("--results @damaged", "is no JSON"),
        ("--results @partial", "lacks 'kinds'"),
        ("--results @wrong", "layers.c1: is no object"),
        ("--comparison @cost.json", "lacks 'network'"),
        ("--comparison @nowhere.json", "cannot be read"),
        ("--cost @compare.json", "lacks 'digest'"),
        ("--cost @foreign.json", "is about another network"),
        ("--quantization @cost.json", "lacks 'same_answers'"),
        ("--chip moon", "chip 'moon' is none of"),
        ("--checkpoint @ckpt.pth", "a model and --count are for a run"),
        ("--data @nowhere.npz", "there is none of this name"),
        ("--data @images.npz --results @a --results @b", "into one --results"),
        ("--data @images.npz --on moon", "no simulator is called"),
    ],
)
def test_refusals_are_a_sentence_and_write_nothing(
    files: Path, tmp_path: Path, words: str, said: str
) -> None:
    summary = json.loads((files / "results/summary.json").read_text())
    for name, facts in (
        ("partial", {k: v for k, v in summary.items() if k != "kinds"}),
        ("wrong", {**summary, "layers": {"c1": 3}}),
    ):
        (files / name).mkdir(exist_ok=True)
        (files / name / "summary.json").write_text(json.dumps(facts))
    (files / "empty").mkdir(exist_ok=True)
    (files / "damaged").mkdir(exist_ok=True)
    (files / "damaged/summary.json").write_text("{")
    cost = json.loads((files / "cost.json").read_text())
    (files / "foreign.json").write_text(json.dumps({**cost, "digest": "0" * 64}))
    if "--results" not in words:
        words += f" --results {tmp_path}/v" if "--data" in words else ""
    status, out, err = call(files, f"report @net.lapilli {words} -o {tmp_path}/r.html")
    assert status == 2
    assert said in err
    assert not out
    assert not list(tmp_path.glob("r.*"))


def test_chips_that_take_all_or_nothing_say_what_stands_against_them(
    files: Path, tmp_path: Path
) -> None:
    words = "--chip speck --chip xylo-audio3"
    status, _, err = call(files, f"report @net.lapilli {words} -o {tmp_path}/r.html")
    assert status == 0, err
    section = check(tmp_path / "r.html")["sections"]["cores"]
    assert set(section["chips"]) == {"speck", "xylo-audio3"}
    for chip, found in section["chips"].items():
        told = section["tables"].get(f"obstacles-{chip}", [])
        assert [row["node"] for row in told] == [o["node"] for o in found["obstacles"]]
        assert any(chip in sentence for sentence in section["told"])
    assert not section["chips"]["xylo-audio3"]["fits"]


def test_cores_on_several_chips_are_drawn_chip_by_chip(
    net_chain: Callable[..., Network], tmp_path: Path
) -> None:
    network = net_chain(encoder=False)
    each = {"neurons": {"least": 10, "most": 10, "source": "", "grade": ""}}
    use = {"neurons": 5}
    told = {
        "chip": "mine", "neurons": 35, "cores": 7, "lowest": 4, "system": "", "unknown": [],
        "chips": [2, 2], "each": each, "fits": False,
        "obstacles": [{"node": "b", "reason": "needs 25 bits for its state; there are 24"}],
        "populations": [
            {"population": name, "neurons": 5 * n, "cores": n, "use": use, "beyond": [],
             "messages": None}
            for name, n in (("a", 3), ("b", 4))
        ],
        "placement": {"chips": 2, "messages": 9.0, "between_chips": 3.0, "lowest": 1.0,
                      "measured": True, "chip_of_core": [1, 0, 0, 1, 0, 0, 1]},
    }  # fmt: skip
    facts = made(tmp_path, Sources(network=network, file="n.lapilli", cores={"mine": told}))
    section = facts["sections"]["cores"]
    drawn = section["figures"]["map-mine"]["data"]
    assert drawn["rows"] == ["chip 0, from core 0", "chip 1, from core 0"]
    assert [len(row) for row in drawn["values"]] == [4, 3]
    assert section["told"][0].endswith("mine cannot hold it: 1 layer stands against it.")
    assert section["tables"]["obstacles-mine"] == [
        {"node": "b", "what stands against it": "needs 25 bits for its state; there are 24"}
    ]
    assert "3 of 9 messages of an image go from chip to chip" in section["told"][1]


def test_a_report_that_is_there_is_kept(files: Path, tmp_path: Path) -> None:
    for name in ("r.html", "r.json"):
        (tmp_path / name).write_text("mine")
        status, _, err = call(files, f"report @net.lapilli -o {tmp_path}/r.html")
        assert (status, "is there already" in err) == (2, True)
        (tmp_path / name).unlink()
    assert not list(tmp_path.iterdir())
    for output in ("r.pdf", "-"):
        assert "a report is an .html file" in call(files, f"report @net.lapilli -o {output}")[2]


def test_both_files_or_none(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lapilli.deploy.cli import report_making
    from lapilli.export.atomic import write_atomic as whole
    from lapilli.ir.errors import OutputError

    def full(path: Path, data: bytes) -> None:
        if path.suffix == ".html":
            raise OutputError(path, "cannot be written (disk full)")
        whole(path, data)

    monkeypatch.setattr(report_making, "write_atomic", full)
    assert call(files, f"report @net.lapilli -o {tmp_path}/r.html")[0] == 2
    assert not list(tmp_path.iterdir())
    (tmp_path / "r.json").write_text("before")
    assert call(files, f"report @net.lapilli -o {tmp_path}/r.html --overwrite")[0] == 2
    assert (tmp_path / "r.json").read_text() == "before"


def test_a_missing_package_is_named(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    status, _, err = call(files, "report @net.lapilli -o @r.html")
    assert (status, "pip install 'lapilli[report]'" in err) == (2, True)


def _compared(network: Network, images: np.ndarray[Any, Any]) -> dict[str, Any]:
    """What compare says of a run in which one neuron of one image fires otherwise."""
    from dataclasses import replace

    from lapilli.deploy.cli.comparison_tables import comparison_facts
    from lapilli.deploy.comparison.compare import compare_recordings
    from lapilli.simulators.reference import Reference

    want = Reference().compile(network.graph).run(network.encode(images))
    node = network.graph.firing[1]
    changed = {name: np.array(array) for name, array in want.values.items()}
    changed[node][2, 1].flat[3] ^= 1
    got = replace(want, values=changed)
    return json.loads(json.dumps(comparison_facts(compare_recordings(network.graph, want, got))))  # type: ignore[no-any-return]


def test_a_divergence_is_drawn(net_chain: Callable[..., Network], tmp_path: Path) -> None:
    network = net_chain(encoder=False)
    images = np.random.default_rng(2).integers(0, 256, (3, 2, 7, 6), np.uint8)
    told = _compared(network, images)
    facts = made(tmp_path, Sources(network=network, file="net.lapilli", comparisons=[told]))
    assert facts["verdict"] == "differs"
    figures = facts["sections"]["equality"]["figures"]
    spikes = figures["raster-0"]["data"]
    expected, got = np.array(spikes["expected"]), np.array(spikes["got"])
    assert np.argwhere(expected != got).tolist() == [[3, 2]]
    assert "1 of" in figures["raster-0"]["told"]
    lines = figures["membrane-0"]["data"]["lines"]
    assert len(lines) == 2
    assert len(set(map(tuple, lines.values()))) == 1
    assert told["mismatches"] == told["kinds"]["spikes"][1] == 1
    page = (tmp_path / "r.html").read_text()
    assert 'class="n bad">1 of' in page
    assert '<p class="verdict bad">' in page


def test_what_compare_counted_is_told(net_chain: Callable[..., Network], tmp_path: Path) -> None:
    network = net_chain(encoder=False)
    for answers, said in (
        (
            {"labelled": 8, "integer_right": 6, "float_right": 7},
            "87.50 % (7) by the model in float",
        ),
        (
            {"labelled": 8, "integer_mean_iou": 0.5, "float_mean_iou": 0.75},
            "50.00 % by the integer",
        ),
    ):
        facts = made(tmp_path, Sources(network=network, file="n.lapilli", answers=answers))
        assert said in facts["sections"]["accuracy"]["told"][0]


def test_other_names_of_classes_are_no_equality(
    net_chain: Callable[..., Network], tmp_path: Path
) -> None:
    network = net_chain(encoder=False)
    told = {**_summary(network), "compared": 7, "images_compared": 1, "renamed": [["cat", "dog"]]}
    results = [Results(name="r", summary=told)]
    facts = made(tmp_path, Sources(network=network, file="n.lapilli", results=results))
    assert facts["verdict"] == "differs"
    assert "names of classes" in facts["told"]
    assert "the model says 'cat', the network 'dog'" in facts["sections"]["equality"]["told"][1]


def test_names_of_strangers_are_text(net_chain: Callable[..., Network], tmp_path: Path) -> None:
    from dataclasses import replace

    from lapilli.ir.graph import Graph, Node

    bad = '<script>alert("1")</script>\'{{7*7}}'
    network = net_chain(encoder=False)
    graph = network.graph
    nodes = tuple(
        Node(f"{bad}.{n.name}", n.op, tuple(f"{bad}.{i}" for i in n.inputs)) for n in graph.nodes
    )
    own = Graph(nodes, tuple(f"{bad}.{o}" for o in graph.outputs), graph.T)
    classes = tuple(f"{bad} {k}" for k in range(network.class_count))
    strange = replace(network, graph=own, classes=classes)
    summary = _summary(strange)
    results = [Results(name=bad, summary=summary)]
    made(tmp_path, Sources(network=strange, file=f"{bad}.lapilli", results=results, data=bad))
    page = (tmp_path / "r.html").read_text()
    assert page.count("<script>") == 1
    assert "{{7*7}}" in page
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", page)[0]


def _summary(network: Network, classes: int = 0) -> dict[str, Any]:
    """A summary as validate writes it, of images nobody ran."""
    count = classes or network.class_count
    confusion = [[3 * (i == j) + (i + j == 4) for j in range(count)] for i in range(count)]
    of, right = sum(map(sum, confusion)), sum(confusion[i][i] for i in range(count))
    side = {"of": of, "top1": right, "top5": of, "confusion": confusion}
    return {
        "images": of,
        "images_compared": 0,
        "compared": 0,
        "mismatches": 0,
        "kinds": {},
        "unreadable": ["one"],
        "vacuous": [],
        "renamed": [],
        "first": None,
        "accuracy": {"integer": side},
        "layers": {name: {"rate": 0.25, "rate_by_step": [0.25]} for name in network.graph.firing},
        "options": {"network": network.digest, "simulator": "fast"},
    }


def test_large_networks_and_many_classes_stay_small(tmp_path: Path) -> None:
    from fractions import Fraction

    from lapilli.ir.graph import Graph, Node
    from lapilli.ir.network import InputQuantizer
    from lapilli.ir.tensor import IntTensor
    from lapilli.ir.types import IntRange, Kind, TensorType

    rng = np.random.default_rng(1)
    nodes = [Node("x", ops.Input(type=TensorType((8,), IntRange(0, 1), Kind.SPIKES)))]
    for k in range(1050):
        weight = IntTensor.of(rng.integers(-9, 9, (8, 8)))
        linear = ops.Linear(weight=weight, bias=IntTensor.of([0] * 8))
        nodes.append(Node(f"m.{k // 400}.linear{k}", linear, (nodes[-1].name,)))
        nodes.append(Node(f"m.{k // 400}.lif{k}", ops.Neuron(threshold=IntTensor.of([640])),
                          (nodes[-1].name,)))  # fmt: skip
    head = ops.Linear(
        weight=IntTensor.of(rng.integers(-9, 9, (60, 8))), bias=IntTensor.of([0] * 60)
    )
    nodes += [Node("head", head, (nodes[-1].name,)), Node("logits", ops.Readout(), ("head",))]
    none = InputQuantizer(mean=(), std=(), exponent=0, lo=0, hi=1)
    network = Network(graph=Graph(tuple(nodes), ("logits",), 2), input=none,
                      logit_scale=Fraction(1), classes=())  # fmt: skip
    results = [Results(name="r", summary=_summary(network, 60))]
    facts = made(tmp_path, Sources(network=network, file="n.lapilli", results=results))
    figures = facts["sections"]["accuracy"]["figures"]
    assert "confusion" not in figures
    cells = facts["sections"]["accuracy"]["accuracy"]["integer"]["confusion"]
    assert sum(cell["images"] for cell in cells) == results[0].summary["images"]
    assert len(figures["by-class"]["data"]["class"]) < 40
    assert "Too many nodes to be drawn" in (tmp_path / "r.html").read_text()
    assert len(facts["sections"]["flow"]["nodes"]) == len(nodes)
