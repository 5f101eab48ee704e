"""The page of what is exact of STEP, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from step.rows import Row
from step.verdict import SIMULATORS, Verdict

PAGE = Path(__file__).resolve().parents[2] / "docs" / "step.md"

_HEAD = """# STEP

Generated from a checkout of STEP (commit `c0b3193`) by `PYTHONPATH=tests python -m step CHECKOUT FOLDER`; no row is filled in by
hand. Nothing of STEP is part of this repository.

Its own classes, untouched, at small sizes, with random parameters and batch-norm statistics of random images: captured, quantized to 8
bits, and compared. "Values" counts currents, membranes and spikes of every neuron at every time step of three images, and the logits,
compared between PyTorch and `reference`. The other columns are mismatches of the same values, of `lava` of spikes, logits and digests of
currents. In every row that is exact, every layer both fires and rests. A row that is refused has the sentence.

The neurons are tried in `spikformer_cifar`. Points, sequences and frames (T, C, B, H, W) come in the order of images and are arranged by a
line around the model; maps and boxes of several levels are answered as one vector. What stands in for what is not STEP's own: timm's
decorator and initialisation, the packages that BrainCog imports without need, farthest-point sampling on a GPU; for segmentation
and detection mmcv's registry, base module and convolution with batch norm, and STEP's own LIF for BrainCog's, which does not take
(T * B, N, C). Anchors, boxes and non-maximum suppression are the host's.
"""


def page(rows: Sequence[tuple[Row, Verdict]]) -> str:
    """The whole page: a table for each part."""
    parts = list(dict.fromkeys(row.part for row, _ in rows))
    tables = [_table(part, [(r, v) for r, v in rows if r.part == part]) for part in parts]
    return "\n".join([_HEAD, *tables])


def _table(part: str, rows: Sequence[tuple[Row, Verdict]]) -> str:
    exact = sum(v.exact for _, v in rows)
    columns = ["", "nodes", "values", *(f"`{name}`" for name in SIMULATORS), "firing"]
    lines = [
        f"## {part}\n",
        f"{exact} of {len(rows)} are exact.\n",
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(_line(row, found) for row, found in rows if found.exact),
        "",
    ]
    refused = [(r, v) for r, v in rows if not v.exact]
    lines += [f"- {r.name}: {v.refused or 'a neuron never fires, or always'}" for r, v in refused]
    return "\n".join([*lines, ""] if refused else lines)


def _line(row: Row, found: Verdict) -> str:
    name = row.name + (" (`per_sample`)" if row.per_sample else "")
    told = [str(found.mismatches[s]) if s in found.mismatches else "declined" for s in SIMULATORS]
    rates = f"{found.rates[0]:.1%} to {found.rates[1]:.1%}"
    cells = [name, str(found.nodes), f"{found.values:,}", *told, rates]
    return f"| {' | '.join(cells)} |"
