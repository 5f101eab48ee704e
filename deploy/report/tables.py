"""A report as tables, whatever shows them: a terminal, Markdown or HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from lapilli.deploy.report.histogram import Histogram
from lapilli.deploy.report.layers import NeuronReport, QuantizationReport, SynapseReport
from lapilli.ir.recipe import Note

Cell: TypeAlias = "str | Bars"
_LEVELS = " ▁▂▃▄▅▆▇█"
_NARROW = 16  # bars in a line of text


@dataclass(frozen=True, slots=True)
class Bars:
    """A histogram to be drawn, and a number that is marked in it, if there is one."""

    histogram: Histogram
    mark: int | None = None

    def __str__(self) -> str:
        shown = self.histogram
        while len(shown.counts) > _NARROW:
            shown = shown.widened(1)
        most = max(shown.counts)
        drawn = "".join(_LEVELS[-(-8 * count // most)] for count in shown.counts)
        return f"{self.histogram.lowest} {drawn} {self.histogram.beyond - 1}"


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: a title, what its columns mean, and cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def summary(report: QuantizationReport) -> tuple[str, ...]:
    """Sentences about the whole network."""
    differ = f"{report.mismatches:,} differ"
    if report.first_wrong:
        differ += f", first at {report.first_wrong}: an integer is wrong"
    found = report.suspicious
    told = [
        f"{report.images} images: {report.same_answers} have the same answer in float and in "
        f"integers; {report.unlike_float:.2%} of all spikes are not those of float.",
        f"PyTorch's quantized module against the graph on {report.simulator}: "
        f"{report.compared:,} values, {differ}.",
    ]
    if found:
        layers = ", ".join(f"{layer.node} ({layer.state})" for layer in found)
        told.append(f"Look at {len(found)} layers: {layers}.")
    return tuple(told)


def grids(report: QuantizationReport) -> tuple[Grid, ...]:
    """Neurons, synapses, and everything that was given up or is warned of."""
    notes = tuple((note.path or "the model", note.kind.value, note.text) for note in report.notes)
    return (
        Grid("Neurons", _NEURONS, tuple(map(_neuron, report.neurons))),
        Grid("Synapses", _SYNAPSES, tuple(map(_synapse, report.synapses))),
        *([Grid("Given up, and warnings", ("layer", "what", "why"), notes)] if notes else []),
    )


_NEURONS = (
    *("layer", "state", "fires", "in float", "unlike float", "never", "always"),
    *("membranes", "bits seen", "bits proved", "threshold", "fraction bits", "scale", "given up"),
)
_SYNAPSES = (
    *("layer", "state", "bits", "used", "weights", "zero", "lost", "at limit"),
    *("integers", "scale", "exponent", "current's scale", "given up"),
)


def _neuron(row: NeuronReport) -> tuple[Cell, ...]:
    low = row.thresholds[0] if row.thresholds else None
    return (
        row.node,
        row.state,
        *map(_share, (row.rate, row.rate_in_float, row.unlike_float)),
        *(_part(n, row.neurons) if row.rate is not None else "" for n in (row.never, row.always)),
        Bars(row.membranes, low) if row.membranes else "",
        *(str(bits or "") for bits in (row.state_bits_seen, row.state_bits)),
        " to ".join(map(str, dict.fromkeys(row.thresholds))),
        "" if row.fraction_bits is None else str(row.fraction_bits),
        scale_text(row.scale),
        _kinds(row.notes) if row.exact else _kinds(row.notes) or "float neuron",
    )


def _synapse(row: SynapseReport) -> tuple[Cell, ...]:
    channels = f" x {min(row.factors)} to {max(row.factors)}" if row.factors else ""
    return (
        row.node,
        row.state,
        str(row.bits or ""),
        str(row.bits_used),
        f"{row.weights:,}",
        _part(row.zeros, row.weights),
        _share(row.zeroed),
        _part(row.at_limit, row.weights),
        Bars(row.histogram),
        scale_text(row.weight_scale) + channels,
        str(row.exponent),
        scale_text(row.output_scale) + channels,
        _kinds(row.notes),
    )


def scale_text(scale: Fraction) -> str:
    """Write a power of two as one, anything else as a fraction.

    >>> scale_text(Fraction(1, 64)), scale_text(Fraction(3, 64)), scale_text(Fraction(-2))
    ('2^-6', '3/64', '-2^1')
    """
    if abs(scale.numerator).bit_count() == 1 and scale.denominator.bit_count() == 1:
        exponent = scale.numerator.bit_length() - scale.denominator.bit_length()
        return f"{'-' if scale < 0 else ''}2^{exponent}"
    return str(scale)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _part(count: int, whole: int) -> str:
    return f"{count / whole:.2%}" if count else "0"


def _kinds(notes: Sequence[Note]) -> str:
    return ", ".join(dict.fromkeys(note.kind.value for note in notes))
