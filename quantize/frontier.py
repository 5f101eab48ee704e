"""Which layers can do with fewer bits: points from the most bits to the fewest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from typing_extensions import Unpack

from lapilli.ir.errors import QuantizeError
from lapilli.quantize.fit import Scaling
from lapilli.quantize.options import QuantizeOptions, learns_scales
from lapilli.quantize.pipeline import begin, scaling_of
from lapilli.quantize.trials import Score, Trials
from lapilli.quantize.weights import fold

WIDTHS = (8, 6, 5, 4, 3, 2)
Progress = Callable[[int, int], None]  # done, of how many


@dataclass(frozen=True, slots=True)
class Point:
    """One way to share out bits.

    Attributes:
        bits: path of a linear map -> bits of its weights: what `layer_bits` takes.
        weight_bytes: of all weights, at these bits.
        score: how far the integers are from float.
        agree: share of the images to which they give float's answer.
    """

    bits: Mapping[str, int]
    weight_bytes: int
    score: Score
    agree: float


def frontier(
    model: nn.Module,
    calibration: Tensor,
    *,
    images: int = 64,
    progress: Progress | None = None,
    **options: Unpack[QuantizeOptions],
) -> list[Point]:
    """Take bits away where that costs least, until all layers have two.

    Each layer alone is tried at each width first, the others at eight; then the layer whose next
    width adds least loss for each byte that it saves gives it up, one after the other. Of L layers
    that is 10 L runs of the images.

    Args:
        model: as for `quantize`.
        calibration: as for `quantize`.
        images: of the calibration, on which every choice is tried.
        progress: called after every run.
        options: as for `quantize`; `weight_bits` and `layer_bits` are not read.

    Returns:
        A point after every such step, the most bits first.

    Raises:
        CaptureError, QuantizeError, RangeError: see `quantize`.
    """
    if learns_scales(options):
        raise QuantizeError(
            "", "has learned its scales at the bits that it has: none are shared out"
        )
    begun = begin(model, calibration, options)
    trials = Trials(begun.prepared, begun.source, begun.image, calibration.cpu(), most=images)
    search = _Search(trials, scaling_of(options, begun.prepared.plan), progress)
    return search.points()


def choose(points: Sequence[Point], *, most_bytes: int | None, most_drop: float | None) -> Point:
    """Take the point with the fewest bytes that keeps to a drop, or the first that fits a size.

    Args:
        points: as `frontier` returns them.
        most_bytes: of all weights.
        most_drop: share of the images whose answer may differ from float's.

    Raises:
        QuantizeError: there is none.
    """
    fits = [p for p in points if most_bytes is None or p.weight_bytes <= most_bytes]
    if not fits:
        raise QuantizeError("", f"has {points[-1].weight_bytes} bytes of weights at two bits")
    if most_drop is None:
        return fits[0]
    kept = [p for p in fits if p.agree >= 1 - most_drop]
    if not kept:
        best = max(p.agree for p in fits)
        raise QuantizeError("", f"gives at best {best:.1%} of the images float's answer")
    return kept[-1]


class _Search:
    """Tries one choice of bits after another."""

    def __init__(self, trials: Trials, scaling: Scaling, progress: Progress | None) -> None:
        self.trials, self.scaling, self.progress = trials, scaling, progress
        units = {n: u for n, u in trials.prepared.plan.units.items() if not u.constant}
        self.paths = {name: unit.path for name, unit in units.items()}
        self.sizes = dict.fromkeys(self.paths.values(), 0)
        for unit in units.values():
            self.sizes[unit.path] = fold(trials.prepared.merged, unit).weight.size
        self.done, self.runs = 0, 1 + 2 * len(self.sizes) * (len(WIDTHS) - 1)

    def score(self, bits: Mapping[str, int]) -> Score:
        every = dict.fromkeys(self.trials.prepared.plan.units, WIDTHS[0])
        by_unit = every | {name: bits[path] for name, path in self.paths.items()}
        score = self.trials.score(self.trials.fitted(by_unit, self.scaling))
        self.done += 1
        if self.progress:
            self.progress(self.done, self.runs)
        return score

    def points(self) -> list[Point]:
        """See `frontier`."""
        full = dict.fromkeys(self.sizes, WIDTHS[0])
        start = self.score(full)
        loss = {(path, WIDTHS[0]): start.loss for path in full}
        for path in full:
            loss |= {(path, w): self.score({**full, path: w}).loss for w in WIDTHS[1:]}
        bits, points = full, [self.point(full, start)]
        while lower := {p: _next(width) for p, width in bits.items() if width != WIDTHS[-1]}:
            prices = {
                path: (loss[path, width] - loss[path, bits[path]])
                / (self.sizes[path] * (bits[path] - width))
                for path, width in lower.items()
            }
            cheapest = min(prices, key=prices.__getitem__)
            bits = {**bits, cheapest: lower[cheapest]}
            points.append(self.point(bits, self.score(bits)))
        return points

    def point(self, bits: Mapping[str, int], score: Score) -> Point:
        size = -(-sum(self.sizes[path] * width for path, width in bits.items()) // 8)
        same = [a == b for a, b in zip(score.answers, self.trials.answers, strict=True)]
        return Point(bits, size, score, sum(same) / len(same))


def _next(width: int) -> int:
    return WIDTHS[WIDTHS.index(width) + 1]
