"""A captured model: a float program of few operators, its time and batch axes named."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from torch import nn

from lapilli.ir.recipe import Note
from lapilli.model.capture.axes import Dims
from lapilli.model.capture.host_map import HostMap
from lapilli.model.capture.signature import Signature
from lapilli.model.neurons.rule import NeuronRule, Rule

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """The model's input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synapse:
    """A linear map of the last axis, or a convolution; names of its parameters.

    Attributes:
        space: how many axes a convolution runs over, 1 or 2; 0 for a linear map. One axis
            has the first of each pair.
        constant: whether all weights are 0, so that only its bias is heard: a constant for each
            element, which no other linear map can hold.
    """

    weight: str
    bias: str | None
    space: int
    constant: bool = False
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNorm:
    """Batch norm in evaluation mode; `module` holds its parameters."""

    module: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """y = factor * x + shift; names of constants that broadcast to one time step."""

    factor: str | None
    shift: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pad:
    """Frame of `before` and `after` elements around the last two axes of one time step.

    `fill` names a constant, one value per channel, that fills it; zeros without one. The
    author may write it side by side: `sides` counts those that have been written.
    """

    before: tuple[int, int]
    after: tuple[int, int]
    fill: str | None = None
    sides: frozenset[tuple[int, bool]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Neuron:
    """A neuron over all T steps.

    Attributes:
        module: its path.
        call: which use of that module this is.
        rule: what it computes.
        steps: where the module runs one time step a call, the numbers of its T calls; else
            empty, and `call` is the number of the call.
        rescaled: whether `rule` has the thresholds of an input without the factors that the
            module's own is given.
        moved: the threshold that integers have in place of the one in `rule`, if they do.
    """

    module: str
    call: int
    rule: Rule
    steps: tuple[int, ...] = ()
    rescaled: bool = False
    moved: Fraction | None = None

    @property
    def moved_rule(self) -> Rule:
        """What integers compute: the rule, with a threshold that was moved."""
        if self.moved is None or not isinstance(self.rule, NeuronRule):
            return self.rule
        return replace(self.rule, v_threshold=self.moved)


@dataclass(frozen=True, slots=True, kw_only=True)
class Membrane:
    """The membrane of a neuron, on the current that the neuron itself is given.

    Attributes:
        neuron: the neuron.
        after_reset: whether it is read when a spike has reset it, or before.
    """

    neuron: Neuron
    after_reset: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Last:
    """The value of the last time step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relu:
    """Largest of a value and 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matmul:
    """Matrix product of two values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftSum:
    """Sums of values, weighed by the powers of two that a `Shiftmax` makes of scores.

    Attributes:
        module: its path.
        window: its constant.
    """

    module: str
    window: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mul:
    """Elementwise product of two values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Product with a constant."""

    factor: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Add:
    """Elementwise sum of two values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """Sum, or average, over axes of one time step; `time` if over T as well."""

    axes: tuple[int, ...]
    keepdims: bool
    mean: bool
    time: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool:
    """Largest value of each window."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reshape:
    """Reshape of one time step: to the shape of the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permute:
    """Permutation of the axes of one time step."""

    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expand:
    """Axes of length 1 repeated: to the shape of the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Elements start..stop - 1 of one axis of one time step."""

    axis: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Concat:
    """Two values, one behind the other along one axis of one time step."""

    axis: int


Operator: TypeAlias = (
    Input
    | Synapse
    | BatchNorm
    | Affine
    | Pad
    | Neuron
    | Membrane
    | Last
    | Relu
    | Matmul
    | ShiftSum
    | Mul
    | Scale
    | Add
    | Sum
    | MaxPool
    | Reshape
    | Permute
    | Expand
    | Slice
    | Concat
)


# What moves, repeats or scales a value, and leaves it what it was.
Wiring: TypeAlias = Reshape | Permute | Expand | Slice | Scale


@dataclass(frozen=True, slots=True)
class Call:
    """One operator applied; `path` is the module that asked for it."""

    name: str
    op: Operator
    inputs: tuple[str, ...]
    path: str
    dims: Dims


@dataclass(frozen=True, slots=True, eq=False)
class Captured:
    """A module as a program.

    Attributes:
        module: the author's own, untouched; parameters are looked up here by name.
        calls: in an order in which every input precedes its use; by name.
        outputs: names of the answers, the first of the logits.
        T: time steps.
        constants: parameters that the author's forward computes from others, float64.
        signature: how the module takes images and returns its answer.
        notes: what was understood differently from what is written.
        hosts: for each answer the linear map of all its time steps that the host computes, or None;
            empty where there is none at all.
    """

    module: nn.Module
    calls: Mapping[str, Call]
    outputs: tuple[str, ...]
    T: int
    constants: Mapping[str, FloatArray] = field(default_factory=dict)
    signature: Signature = field(default_factory=Signature)
    notes: tuple[Note, ...] = ()
    hosts: tuple[HostMap | None, ...] = ()

    @property
    def output(self) -> str:
        """Name of the logits, the first answer."""
        return self.outputs[0]

    def array(self, name: str) -> FloatArray:
        """A parameter, a buffer or a constant, in float64."""
        if name in self.constants:
            return self.constants[name]
        parent, _, leaf = name.rpartition(".")
        tensor = getattr(self.module.get_submodule(parent), leaf)
        return np.asarray(tensor.detach().double().numpy(), np.float64)

    def normalisation(self, norm: BatchNorm) -> tuple[FloatArray, FloatArray]:
        """Factor and shift of each channel of a batch norm, float64; see `normalisation`."""
        module: Any = self.module.get_submodule(norm.module)
        mean, var = (self.array(f"{norm.module}.running_{name}") for name in ("mean", "var"))
        weight, bias = (
            None if getattr(module, name) is None else self.array(f"{norm.module}.{name}")
            for name in ("weight", "bias")
        )
        return normalisation(mean, var, float(module.eps), weight, bias)


def normalisation(
    mean: FloatArray,
    var: FloatArray,
    eps: float,
    weight: FloatArray | None,
    bias: FloatArray | None,
) -> tuple[FloatArray, FloatArray]:
    """Batch norm in evaluation mode as y = factor * x + shift, each of one number per channel.

    A variance below -eps gives NaN, which whoever rounds these numbers refuses.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = (1.0 if weight is None else weight) / np.sqrt(var + eps)
    shift = -mean * factor
    return factor, shift if bias is None else bias + shift


Name = TypeVar("Name", bound=Hashable)


def ancestors(names: Iterable[Name], inputs: Callable[[Name], Iterable[Name]]) -> frozenset[Name]:
    """Find these and everything that they depend on.

    >>> sorted(ancestors(["c"], {"a": [], "b": ["a"], "c": ["b"], "d": ["c"]}.__getitem__))
    ['a', 'b', 'c']
    """
    found = set(names)
    open_ = list(found)
    while open_:
        for source in inputs(open_.pop()):
            if source not in found:
                found.add(source)
                open_.append(source)
    return frozenset(found)


def neuron_of(call: Call) -> Neuron:
    """The neuron that fires in a call, or whose membrane is read there.

    Raises:
        TypeError: it is neither.
    """
    op = call.op.neuron if isinstance(call.op, Membrane) else call.op
    if not isinstance(op, Neuron):
        raise TypeError(f"{call.name} is no neuron")
    return op
