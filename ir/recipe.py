"""How a network was made: what a `.lapilli` file remembers of the model that it came from.

Everything is exact, a fraction, an integer or text, so that whoever has the same model makes the
same integers again, without calibration: `lapilli.quantize.replay`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeAlias

from lapilli.ir.errors import ROOT

Json: TypeAlias = "bool | int | str | list[Json] | dict[str, Json] | None"  # no floats

# What an answer takes of the time steps that a module returns; beside these, last:K.
OVER_TIME = ("mean", "sum", "last", "steps")
_LAST = "last:"
STEPS, HOST = "steps", "host"
NEAREST = "nearest"  # a weight is the integer nearest to its real value by its scale


class NoteKind(enum.Enum):
    """What a note is about: programs read this, people read the text."""

    INTEGER_NEURON = "integer neuron"  # it replaces the float neuron in the PyTorch reference too
    THRESHOLD = "threshold"  # rounded, in the PyTorch reference too
    STATE = "state"  # exact, but no neuron of stock Loihi
    WEIGHT_BITS = "weight bits"  # given up, so that a state fits
    MERGED = "merged"  # linear maps that became one
    CAPTURED_PROGRAM = "captured program"  # runs in place of the author's forward
    SHIFTMAX = "shiftmax"
    ANSWER = "answer"  # which result is the answer, or how it is read
    CAPTURE = "capture"  # something else that was understood differently from what is written
    # Warnings: the integers may be exact and no good.
    LOST_WEIGHTS = "lost weights"
    UNUSUAL_WEIGHTS = "unusual weights"
    SILENT = "silent"
    SATURATED = "saturated"
    SAME_ANSWER = "same answer"
    CALIBRATION = "calibration"
    NORMALISATION = "normalisation"
    CLIPPED = "clipped"


WARNINGS = frozenset(
    {
        NoteKind.LOST_WEIGHTS,
        NoteKind.UNUSUAL_WEIGHTS,
        NoteKind.SILENT,
        NoteKind.SATURATED,
        NoteKind.SAME_ANSWER,
        NoteKind.CALIBRATION,
        NoteKind.NORMALISATION,
        NoteKind.CLIPPED,
    }
)


@dataclass(frozen=True, slots=True)
class Note:
    """Something about a network that is not the author's module bit for bit, or a warning.

    Attributes:
        kind: for programs.
        path: the module, or the node, that it is about; empty for the model itself.
        text: a sentence for people.
    """

    kind: NoteKind
    path: str
    text: str

    @property
    def is_warning(self) -> bool:
        """Whether the network may be no good, however exact."""
        return self.kind in WARNINGS

    def __str__(self) -> str:
        return f"{self.path or ROOT}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SynapseRecord:
    """How the integers of one synapse were found.

    Attributes:
        node: in the graph.
        path, use: the linear map's module, and which of its uses this is, from 0.
        weight_scale: a real weight is an integer times this.
        output_scale: a real current is an integer times this, and so is a bias.
        exponent: weights are the nearest multiples of 2**exponent.
        bits: that a weight has beside it, sign included, and what is larger is cut off; 0 if
            nothing is.
        factors: how many times as large both scales of each output channel are; empty if all are
            the same.
    """

    node: str
    path: str
    use: int
    weight_scale: Fraction
    output_scale: Fraction
    exponent: int = 0
    bits: int = 0
    factors: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuronRecord:
    """How the integers of one neuron, or of a membrane that is read, were found.

    Attributes:
        node: in the graph.
        path, use: the neuron's module, and which of its calls this is, from 0.
        rule: what it computes in real numbers, as text: `model.neurons.described`.
        fraction_bits, loihi_threshold: of a state that had to be coarser than the trained
            threshold asks for, and whether its threshold is one that Loihi can hold; both None
            where nothing was given up.
        exact: whether the author's float neuron computes the same spikes.
        v_threshold: what the float neuron must compare with, where it had to be rounded.
        scale: a real current is an integer times this.
        moved: the threshold that was taken in place of the one in `rule`; None where none was.
    """

    node: str
    path: str
    use: int
    rule: str
    fraction_bits: int | None
    loihi_threshold: bool | None
    exact: bool
    v_threshold: Fraction | None
    scale: Fraction
    moved: Fraction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One of the tensors that a module returns, and what an answer takes of it.

    Attributes:
        name: of the answer.
        leaf: its number in a walk through everything that is returned.
        batch, time: its axes of samples and of time steps; None where it has none.
        over_time: what is taken of its steps: `OVER_TIME`, last:K; or host, where the module itself
            ends in a linear map of all of them.
        dropped: functions at its very end that are left to the host, the last first.
    """

    name: str = "logits"
    leaf: int = 0
    batch: int | None = 0
    time: int | None = None
    over_time: str = OVER_TIME[0]
    dropped: tuple[str, ...] = ()

    @property
    def keeps_steps(self) -> bool:
        """Whether all of its time steps are looked at, one by one."""
        return self.is_hosts or (self.time is not None and self.over_time not in OVER_TIME[:3])

    @property
    def is_hosts(self) -> bool:
        """Whether the module ends in a linear map of all steps, which the host computes."""
        return self.over_time == HOST

    @property
    def last_steps(self) -> int:
        """Of how many last steps the mean is taken; 0 where not of a few."""
        return int(self.over_time.removeprefix(_LAST)) if self.over_time.startswith(_LAST) else 0

    @property
    def is_plain(self) -> bool:
        """Whether leaf, and a mean over time, say everything."""
        plain = (None, 0) if self.time is None else (0, 1)
        return self == Result(leaf=self.leaf, time=plain[0], batch=plain[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounding:
    """How weights were rounded.

    Attributes:
        method: `NEAREST`, or the name of one that looks at more than one weight at a time; its
            integers are taken from the file.
        bound: how far an integer may lie from weight / scale, cut off at the largest, in units of
            the integer.
        bias_bound: how far a bias lies from its real value by its scale, at most.
    """

    method: str = NEAREST
    bound: Fraction = Fraction(1, 2)
    bias_bound: Fraction = Fraction(1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a network was made from a model.

    Attributes:
        model: which model: a family and its configuration, or somebody's own class and the
            arguments it was built with. Never a path.
        options: those of `quantize` that were given, numbers as text.
        parameters: SHA-256 of the model's parameters, as float64.
        rounding: how weights became integers.
        synapses, neurons: what came out, in the order of the graph.
        leaf, per_step: which tensor of the module's answer holds the logits, and whether their
            mean over T is the answer.
        results: every tensor that is an answer, where these two do not say everything.
        notes: what is not the author's module bit for bit, and warnings.
        images: how the images of the calibration were read: format, resize, crop, binning.
        target: what holds every number of the network, by name: `ir.targets`. Empty of what an
            older lapilli made: nothing is promised, nothing is asked.
        certificate: of each of the target's registers by name, the most bits that were proved to
            be needed. What is proved anew may be less, never more.
    """

    model: Mapping[str, Json]
    options: Mapping[str, Json]
    parameters: str
    rounding: Rounding
    synapses: tuple[SynapseRecord, ...]
    neurons: tuple[NeuronRecord, ...]
    leaf: int
    per_step: bool
    notes: tuple[Note, ...]
    images: Mapping[str, Json] = field(default_factory=dict)
    target: str = ""
    certificate: Mapping[str, Json] = field(default_factory=dict)
    results: tuple[Result, ...] = ()

    @property
    def returned(self) -> tuple[Result, ...]:
        """Every tensor that is an answer."""
        time, batch = (0, 1) if self.per_step else (None, 0)
        return self.results or (Result(leaf=self.leaf, time=time, batch=batch),)
