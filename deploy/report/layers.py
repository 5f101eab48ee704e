"""What the report says of each layer."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from lapilli.deploy.report.histogram import Histogram
from lapilli.ir.recipe import Note
from lapilli.pictures.tables import table
from lapilli.quantize.health import NEARLY_ALL, SATURATED


@dataclass(frozen=True, slots=True, kw_only=True)
class SynapseReport:
    """A linear map or convolution, its batch norm folded in.

    Attributes:
        node: in the graph; path, use: its module, and which of its uses this is.
        bits: that its weights were given; bits_used: of the widest of them, sign included.
        exponent: weights are multiples of 2**exponent, which are not counted among their bits.
        weight_scale: a real weight is an integer times this; output_scale: a real current. Both
            are `factors` times as large where output channels have a scale each.
        weights: how many; zeros: how many integers are 0.
        zeroed: share of the weights that are not 0 in float and are in integers.
        at_limit: how many have the largest integer of their bits: cut off there, or just reaching.
        histogram: of the integers, divided by 2**exponent.
        notes: what is told of its module.
    """

    node: str
    path: str
    use: int
    bits: int
    bits_used: int
    exponent: int
    weight_scale: Fraction
    output_scale: Fraction
    factors: tuple[int, ...]
    weights: int
    zeros: int
    zeroed: float
    at_limit: int
    histogram: Histogram
    notes: tuple[Note, ...] = ()

    @property
    def state(self) -> str:
        """Say "lost" where nine in ten weights became 0; else nothing."""
        return "lost" if self.zeroed >= NEARLY_ALL else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuronReport:
    """A layer of neurons, or a membrane that is read, whose rates are None.

    Attributes:
        node: in the graph; path, use: its module, and which of its calls this is.
        scale: a real current is an integer times this.
        fraction_bits: of the state below a synaptic unit; thresholds: smallest and largest, in
            state units. None, and (), without a membrane.
        exact: whether the author's float neuron computes the same spikes.
        state_bits: proved to be enough; state_bits_seen: what the images asked for, of the
            membrane, sign included; both 0 without one.
        neurons: how many; never, always: those that sent nothing, or all they can, at each step.
        rate: events in parts of the most that they can send, in integers; rate_in_float: in float.
        unlike_float: share of neurons and steps whose integer event is not that of float.
        compared, mismatches: values of PyTorch's quantized module against the graph's.
        membranes: before reset, in state units.
        notes: what is told of its node or module.
    """

    node: str
    path: str
    use: int
    scale: Fraction
    fraction_bits: int | None
    thresholds: tuple[int, ...]
    exact: bool
    state_bits: int
    state_bits_seen: int
    neurons: int
    never: int
    always: int
    rate: float | None
    rate_in_float: float | None
    unlike_float: float | None
    compared: int
    mismatches: int
    membranes: Histogram | None
    notes: tuple[Note, ...] = ()

    @property
    def state(self) -> str:
        """Say "wrong", "silent" or "saturated", in float too or not; nothing of a healthy layer."""
        if self.mismatches:
            return "wrong"
        for name, reached in (("silent", _is_silent), ("saturated", _is_saturated)):
            if self.rate is not None and reached(self.rate):
                too = self.rate_in_float is not None and reached(self.rate_in_float)
                return f"{name}, in float too" if too else name
        return ""


def _is_silent(rate: float) -> bool:
    return rate == 0


def _is_saturated(rate: float) -> bool:
    return rate >= SATURATED


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationReport:
    """What integers did to a network, on some images.

    Attributes:
        digest: of the network; options: of `quantize`, as its recipe keeps them.
        simulator: which ran the graph.
        images: how many; same_answers: of how many float and integers have the same largest logit.
        compared, mismatches: PyTorch's quantized module against the graph; not 0 is a fault.
        first_wrong: the first node of the graph where they differ; empty if nowhere.
        unlike_float: share of all spikes that are not those of float.
        synapses, neurons: in the order of the graph.
        notes: all of the network's, warnings too.
    """

    digest: str
    options: dict[str, object]
    simulator: str
    images: int
    same_answers: int
    compared: int
    mismatches: int
    first_wrong: str
    unlike_float: float
    synapses: tuple[SynapseReport, ...]
    neurons: tuple[NeuronReport, ...]
    notes: tuple[Note, ...]

    @property
    def suspicious(self) -> tuple[SynapseReport | NeuronReport, ...]:
        """Layers that are wrong, lost, silent or saturated."""
        layers: list[SynapseReport | NeuronReport] = [*self.synapses, *self.neurons]
        return tuple(layer for layer in layers if layer.state)

    def _repr_html_(self) -> str:
        """Show a notebook the whole in short, and a row for each layer of neurons."""
        facts = {
            "network": self.digest[:12],
            "images": f"{self.images:,}",
            "same answer in float and in integers": f"{self.same_answers:,}",
            "spikes unlike float's": f"{self.unlike_float:.2%}",
            "values that differ from PyTorch's": f"{self.mismatches:,} of {self.compared:,}",
            "to be looked at": ", ".join(f"{one.node} ({one.state})" for one in self.suspicious)
            or "none",
        }
        rows = [
            (
                n.node, n.state, *map(_percent, (n.rate, n.rate_in_float, n.unlike_float)),
                " to ".join(map(str, dict.fromkeys(n.thresholds))),
                f"{n.state_bits_seen} of {n.state_bits}" if n.state_bits else "",
            )
            for n in self.neurons
        ]  # fmt: skip
        head = ("layer", "state", "fires", "in float", "unlike float", "threshold", "bits seen")
        return table((), list(facts.items()), caption="quantization") + table(head, rows)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"
