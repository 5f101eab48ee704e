"""What the network does for an image, exactly, and what that costs by other people's prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lapilli.costs import words
from lapilli.deploy.network_report.figures import bar_figure
from lapilli.deploy.network_report.section import Column, Figure, Missing, Section, Table, percent
from lapilli.deploy.network_report.sources import Facts, Sources
from lapilli.ir.counts import FIELDS
from lapilli.pictures.charts import Span, spans

_MOST = 60  # bars
_BYTE = 8


def section(sources: Sources) -> Section:
    """Give counts and energies with their ranges."""
    cost = sources.cost
    run = Missing(
        "Nothing was counted on data: name the output with --cost cost.json.",
        sources.command("cost {net} --data {data} --json > cost.json"),
    )
    if cost is None:
        return Section(name="cost", title="Counts and energy", missing=(run,))
    images = cost["images"]
    if not images:
        return Section(
            name="cost",
            title="Counts and energy",
            told=(cost["method"],),
            tables=(_bounds(cost),),
            missing=(run,),
            facts={"cost": cost},
        )
    return Section(
        name="cost",
        title="Counts and energy",
        told=(
            f"Counted on {images:,} images by the simulator {cost['simulator']}; all numbers are "
            "of one image. Counts are exact. Energies are not: each is the counts times prices "
            "that somebody published, by a model that leaves things out.",
        ),
        figures=(*_energies(cost), *_accumulates(cost)),
        tables=(_models(cost), _omitted(cost), _nodes(cost), _traffic(cost)),
        facts={"cost": cost},
    )


def _energies(cost: Facts) -> list[Figure]:
    """The range of each model and grade, and the value by the usual table."""
    usual = {name: told["usual_table"] for name, told in cost["models"].items()}
    rows = []
    for span in cost["ranges"]:
        point = next(
            (
                one["picojoules"]
                for one in cost["energy"]
                if (one["model"], one["table"]) == (span["model"], usual[span["model"]])
                and one["table"] in span["tables"]
            ),
            None,
        )
        if 0 < span["lowest"] <= span["highest"]:
            label = f"{span['model']} ({span['grade']})"
            rows.append(Span(label, span["lowest"], span["highest"], point))
    if not rows:
        return []
    title = "Energy of an image, by model and grade of the prices"
    low, high = min(r.low for r in rows), max(r.high for r in rows)
    told = (
        f"From {words.energy(low)} to {words.energy(high)}; a bar is what the tables of a model "
        "span, a dot its usual table. The scale is logarithmic."
    )
    svg = spans(rows, title=title, told=told, written=words.energy)
    data = [{"label": r.label, "lowest": r.low, "highest": r.high, "usual": r.point} for r in rows]
    return [Figure(name="energy", title=title, told=told, svg=svg, data=data)]


def _models(cost: Facts) -> Table:
    """Each model: value, ranges, and where it breaks even."""
    rows = []
    for name, told in cost["models"].items():
        value = _estimate(cost, name, told["usual_table"])
        integers = _estimate(cost, name, told["integer_table"]) if told["integer_table"] else None
        ranges = "; ".join(
            f"{r['grade']} {words.energy(r['lowest'])} to {words.energy(r['highest'])}"
            for r in cost["ranges"]
            if r["model"] == name
        )
        even = integers["break_even"]["rate"] if integers and integers["break_even"] else None
        rows.append((name, told["usual_table"], value["picojoules"], ranges or words.UNKNOWN, even))
    columns = (
        *(Column(name, numeric=False) for name in ("model", "prices")),
        Column("energy", lambda pj: words.UNKNOWN if pj is None else words.energy(pj)),
        Column("range by grade", numeric=False),
        Column("break-even rate", _even),
    )
    title = (
        "Energy of an image, and the firing rate at which a quantized dense network costs as much"
    )
    return Table(name="models", title=title, columns=columns, rows=tuple(rows))


def _omitted(cost: Facts) -> Table:
    """What each model adds up, and what it leaves out."""
    columns = tuple(Column(name, numeric=False) for name in ("model", "equation", "leaves out"))
    rows = tuple(
        (name, told["equation"], "; ".join(told["omits"])) for name, told in cost["models"].items()
    )
    title = "What each model adds up, and what it leaves out"
    return Table(name="equations", title=title, columns=columns, rows=rows, folded=True)


def _even(rate: float | None) -> str:
    if rate is None:
        return words.UNKNOWN
    return "any" if rate > 1 else percent(rate)


def _estimate(cost: Facts, model: str, table: str) -> Mapping[str, Any]:
    found = (e for e in cost["energy"] if (e["model"], e["table"]) == (model, table))
    return next(found, {"picojoules": None, "break_even": None})


def _accumulates(cost: Facts) -> list[Figure]:
    """Accumulates of each node, beside what a dense layer would multiply."""
    rows = [n for n in cost["nodes"] if n["dense"] and n["counts"]["accumulates"]]
    shown = sorted(rows, key=lambda n: -n["counts"]["accumulates"])[:_MOST]
    shown = [n for n in rows if n in shown]
    if not shown:
        return []
    images, T = cost["images"], cost["T"]
    title = "Accumulates of an image by layer, beside dense operations"
    total = sum(n["counts"]["accumulates"] for n in rows) / images
    told = f"{words.count(round(total))} in all; a dense layer would do as many as the second bar."
    series: dict[str, Sequence[float | None]] = {
        "accumulates": [n["counts"]["accumulates"] / images for n in shown],
        "dense": [n["dense"]["operations"] * T for n in shown],
    }
    labels = [n["node"] for n in shown]
    return [bar_figure("accumulates", title, told, labels, series)]


def _nodes(cost: Facts) -> Table:
    """Every count of every node that counts anything."""
    images = cost["images"]
    rows = tuple(
        (
            *(node["node"], node["op"], node["input_rate"]),
            *(_each(node["counts"][name], images) for name in FIELDS),
        )
        for node in cost["nodes"]
        if any(node["counts"].values())
    )
    columns = (
        *(Column(name, numeric=False) for name in ("node", "op")),
        Column("rate at input", percent),
        *(Column(name, _counted) for name in FIELDS),
    )
    title = "Counts of an image, node by node"
    return Table(name="counts", title=title, columns=columns, rows=rows, folded=True)


def _each(count: int, images: int) -> int | float:
    """The mean of an image: whole where it is whole."""
    return count // images if count % images == 0 else count / images


def _counted(count: float) -> str:
    return f"{count:,.0f}" if isinstance(count, int) or count >= 100 else f"{count:,.2f}"


def _traffic(cost: Facts) -> Table:
    images = cost["images"]
    rows = tuple((name, bits / _BYTE / images) for name, bits in cost["traffic_bits"].items())
    columns = (Column("what", numeric=False), Column("bytes", _counted))
    title = "Bytes read and written for an image"
    return Table(name="traffic", title=title, columns=columns, rows=rows, folded=True)


def _bounds(cost: Facts) -> Table:
    """What shapes and proven ranges allow, without a run."""
    rows = tuple(
        (
            *(node["node"], node["op"]),
            *(node[end]["accumulates"] for end in ("least_of_an_image", "most_of_an_image")),
            node["most_of_an_image"]["updates"],
        )
        for node in cost["nodes"]
        if node["dense"] or node["most_of_an_image"]["updates"]
    )
    columns = (
        *(Column(name, numeric=False) for name in ("node", "op")),
        *(Column(name) for name in ("fewest accumulates", "most accumulates", "neuron updates")),
    )
    title = "Bounds of an image, each node for itself"
    return Table(name="bounds", title=title, columns=columns, rows=rows, folded=True)
