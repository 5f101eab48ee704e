"""Right answers of every side, and what is taken for what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lapilli.deploy.network_report.figures import bar_figure, heat_figure
from lapilli.deploy.network_report.section import (
    Column,
    Figure,
    Missing,
    Section,
    Table,
    percent,
    round_percent,
)
from lapilli.deploy.network_report.sources import Facts, Sources

_MOST = 40  # classes of which a matrix is drawn
_WORST = 12
SIDES = {
    "float": "model in float",
    "pytorch": "quantized module in PyTorch",
    "integer": "integer graph",
}


def section(sources: Sources) -> Section:
    """Say how many images each side answers right, and which classes are confused."""
    found = next((r.summary for r in sources.results if r.summary["accuracy"]), None)
    if found is None:
        return _of_comparisons(sources)
    sides: dict[str, Any] = {s: found["accuracy"][s] for s in SIDES if s in found["accuracy"]}
    side = "integer" if "integer" in sides else next(iter(sides))
    confusion = sides[side]["confusion"]
    names = _names(sources, len(confusion))
    of = sides[side]["of"]
    told = [f"{_share(sides[s]['top1'], sides[s]['of'])} by the {SIDES[s]}" for s in sides]
    sentence = f"Top-1 on {of:,} labelled images: {'; '.join(told)}."
    if found["unreadable"]:
        sentence += f" {len(found['unreadable']):,} images could not be read and are left out."
    return Section(
        name="accuracy",
        title="Accuracy",
        told=(sentence,),
        figures=(_by_class(confusion, names), *_matrix(confusion, names)),
        tables=(_sides(sides), *_worst(confusion, names)),
        facts={"accuracy": {side: _told(found) for side, found in sides.items()}, "classes": names},
    )


def _of_comparisons(sources: Sources) -> Section:
    """What `compare` counted, which names no class."""
    words = "validate {net} --data {data} {model} -o results"
    missing = Missing("No test set with labels was run.", sources.command(words))
    answers = sources.answers
    of = answers.get("labelled")
    if of and "integer_mean_iou" in answers:
        return _of_maps(answers)
    if not of or "integer_right" not in answers:
        return Section(name="accuracy", title="Accuracy", missing=(missing,))
    told = [f"{_share(answers['integer_right'], of)} by the {SIDES['integer']}"]
    if "float_right" in answers:
        told.insert(0, f"{_share(answers['float_right'], of)} by the {SIDES['float']}")
    return Section(
        name="accuracy",
        title="Accuracy",
        told=(f"Top-1 on {of:,} labelled images: {'; '.join(told)}.",),
        missing=(Missing("Which classes are confused is not known.", missing.command),),
        facts={"accuracy": dict(answers)},
    )


def _of_maps(answers: Facts) -> Section:
    """The mean IoU of what names a class for each place."""
    sides = [side for side in ("float", "integer") if f"{side}_mean_iou" in answers]
    told = [f"{percent(answers[f'{side}_mean_iou'])} by the {SIDES[side]}" for side in sides]
    sentence = f"Mean IoU on {answers['labelled']:,} labelled images: {'; '.join(told)}."
    facts = {side: answers[f"{side}_mean_iou"] for side in sides}
    return Section(name="accuracy", title="Accuracy", told=(sentence,), facts={"mean_iou": facts})


def _told(side: Facts) -> Facts:
    """What JSON holds of a side: of many classes only the cells of the matrix that are not 0."""
    if len(side["confusion"]) <= _MOST:
        return side
    cells = [
        {"label": label, "answer": answer, "images": count}
        for label, row in enumerate(side["confusion"])
        for answer, count in enumerate(row)
        if count
    ]
    return {**side, "confusion": cells}


def _share(right: int, of: int) -> str:
    return f"{percent(right / of)} ({right:,})" if of else "none"


def _names(sources: Sources, count: int) -> list[str]:
    names = sources.network.classes
    return list(names) if len(names) == count else [str(k) for k in range(count)]


def _sides(sides: Facts) -> Table:
    columns = (
        Column("side", numeric=False),
        Column("images"),
        *(Column(name) for name in ("top-1 right", "top-5 right")),
        *(Column(name, percent) for name in ("top-1", "top-5")),
    )
    rows = tuple(
        (
            *(SIDES[side], told["of"], told["top1"], told["top5"]),
            *(told[key] / told["of"] if told["of"] else None for key in ("top1", "top5")),
        )
        for side, told in sides.items()
    )
    return Table(name="sides", title="Right answers", columns=columns, rows=rows)


def _by_class(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> Figure:
    """Right answers of each class; of many the worst."""
    shares = [(names[k], row[k] / sum(row)) for k, row in enumerate(confusion) if sum(row)]
    few = len(shares) <= _MOST
    shown = shares if few else sorted(shares, key=lambda pair: pair[1])[:_WORST]
    title = "Right answers by class" if few else f"The {_WORST} classes that are answered worst"
    low = min(shares, key=lambda pair: pair[1], default=("none", 0.0))
    told = f"Lowest: {low[0]}, {percent(low[1])} of its images."
    return bar_figure(
        "by-class",
        title,
        told,
        [name for name, _ in shown],
        {"right": [share for _, share in shown]},
        of="class",
        written=percent,
        ticked=round_percent,
        most=1.0,
    )


def _matrix(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> list[Figure]:
    if len(names) > _MOST:
        return []
    wrong = sum(sum(row) for row in confusion) - sum(row[k] for k, row in enumerate(confusion))
    told = f"Rows are labels, columns answers; {wrong:,} images lie off the diagonal."
    figure = heat_figure(
        "confusion",
        "Confusion",
        told,
        names,
        names,
        confusion,
        across="answer of the integer graph",
        cell=(30.0, 22.0) if len(names) <= 20 else (18.0, 16.0),
        numbered=len(names) <= 20,
        written=lambda count: f"{count:,}",
    )
    return [figure]


def _worst(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> list[Table]:
    """Pairs of classes that are confused most."""
    pairs = [
        (count, names[label], names[answer], count / sum(row))
        for label, row in enumerate(confusion)
        for answer, count in enumerate(row)
        if count and answer != label
    ]
    if not pairs:
        return []
    pairs.sort(key=lambda pair: -pair[0])
    columns = (
        *(Column(name, numeric=False) for name in ("label", "answer")),
        Column("images"),
        Column("of the label's", percent),
    )
    rows = tuple((label, answer, count, share) for count, label, answer, share in pairs[:_WORST])
    return [Table(name="confused", title="Confused most", columns=columns, rows=rows, folded=True)]
