"""A `.nir` file of floats as a model to quantize: its graph, run in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

from lapilli.deploy.cli.flow import Model
from lapilli.export.malformed import MalformedError
from lapilli.export.nir.read import nodes
from lapilli.export.nir.read.delays import late_taps, steps_of
from lapilli.export.nir.read.dynamics import Reading, dynamics, integration
from lapilli.export.nir.read.grid import pair, whole
from lapilli.export.nir.read.importer import order_of
from lapilli.export.nir.read.nodes import NirNode
from lapilli.export.nir.read.reader import NirFile, read_nir
from lapilli.ir import ops
from lapilli.ir.errors import FormatError, InputError
from lapilli.ir.tensor import IntArray
from lapilli.model.loading import wired
from lapilli.model.loading.preprocess import Preprocessing
from lapilli.model.loading.strict import Module
from lapilli.model.neurons.general_rule import GeneralRule
from lapilli.model.neurons.rule import NeuronRule

_MOST_STEPS = 1 << 10
_NEURONS = ("IF", "LIF", "CubaLIF")
_MEMBRANES = ("I", "LI", "CubaLI")
_ASK = "--arg reading=snntorch --arg dt=1e-4 --arg T=8, and --arg reset=zero where it drops that"


def nir_model(
    path: Path,
    arguments: Mapping[str, object],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    classes: tuple[str, ...] = (),
) -> Model:
    """Build the network that a NIR file holds, in floats; an image is shown at each of T steps.

    Args:
        path: of the file.
        arguments: reading, dt, T and reset, as `lapilli import` takes them.
        mean: of pixel / 255, one per channel, where the caller says so.
        std: of the same.
        classes: names of its answers, which a NIR file has no place for.

    Raises:
        InputError: an argument is missing, unknown or not possible.
        FormatError: no NIR file, or a node that cannot be quantized; names it.
    """
    reading, dt, T, reset = _stated(path, arguments)
    file = read_nir(path, nested=True)
    if file.facts is not None:
        raise FormatError(
            path, "lapilli wrote it, and it holds integers; `lapilli import` reads it"
        )
    try:
        module = _Build(file, reading, dt, reset, T).module()
    except MalformedError as error:
        raise FormatError(path, str(error)) from error
    return Model(
        module=module,
        made_from={"kind": "nir", "arguments": {k: str(v) for k, v in arguments.items()}},
        preprocessing=Preprocessing(mean=mean, std=std, classes=classes) if mean else None,
        what=str(path),
    )


def _stated(
    path: Path, arguments: Mapping[str, object]
) -> tuple[Reading, Fraction, int, ops.Reset | None]:
    given = dict(arguments)
    reading, dt, T = (given.pop(name, None) for name in ("reading", "dt", "T"))
    reset = given.pop("reset", None)
    if given:
        raise InputError(f"{path}: --arg {next(iter(given))}: a NIR file takes {_ASK}")
    if None in (reading, dt, T):
        raise InputError(f"{path}: nothing says how to run it; state {_ASK}")
    if reading not in [r.value for r in Reading]:
        raise InputError(f"--arg reading={reading}: none of {', '.join(r.value for r in Reading)}")
    if reset is not None and reset not in [r.value for r in ops.Reset]:
        raise InputError(f"--arg reset={reset}: none of {', '.join(r.value for r in ops.Reset)}")
    if not isinstance(T, int) or not 1 <= T <= _MOST_STEPS:
        raise InputError(f"--arg T={T}: the steps of a sample, 1 to {_MOST_STEPS}")
    if not isinstance(dt, int | float) or not 0 < dt < 1e6:
        raise InputError(f"--arg dt={dt}: the seconds of a step")
    return Reading(reading), Fraction(dt), T, None if reset is None else ops.Reset(reset)


class _Build:
    """The nodes of a file, as parts of a module."""

    def __init__(
        self, file: NirFile, reading: Reading, dt: Fraction, reset: ops.Reset | None, T: int
    ) -> None:
        self.file, self.T = file, T
        self.reading, self.dt, self.reset = reading, dt, reset
        self.events: dict[str, int] = {}  # most of one step, of values that are sums of spikes
        self.late: dict[str, IntArray] = {}  # currents that whoever reads them takes late
        self.shown: set[str] = set()  # what a membrane is in

    def module(self) -> Module:
        """Return the module.

        Raises:
            MalformedError: a node that it cannot have, or a loop; names it.
        """
        order = order_of(self.file)
        (entry,) = (name for name in order if self.file.nodes[name].type == "Input")
        shape = tuple(self.file.nodes[entry].arrays["shape"].ravel().tolist())
        if len(shape) not in (1, 3):
            raise MalformedError(f"node {entry!r}: shape {list(shape)}; (F) or (C, H, W) is taken")
        places = {entry: -1}
        parts: list[wired.Part] = []
        before: dict[str, list[str]] = {name: [] for name in order}
        for source, target in self.file.edges:
            before[target].append(source)
        for name in order:
            if name == entry:
                continue
            try:
                made, over_time = self._made(name, before[name])
            except (MalformedError, ValueError) as error:
                raise MalformedError(f"node {name!r}: {error}") from error
            inputs = tuple(places[source] for source in before[name])
            places[name] = len(parts)
            parts.append(wired.Part(name, made, inputs, over_time=over_time))
        return wired.Wired(parts, shape, self.T).eval()

    def _made(self, name: str, before: list[str]) -> tuple[Module, bool]:
        """The module of a node, and whether it takes all steps at once."""
        node = self.file.nodes[name]
        late = self._taken_late(node, before)
        if any(source in self.shown for source in before):
            if node.type in (*_NEURONS, *_MEMBRANES, "Delay"):
                raise MalformedError("takes a membrane; only the answer may read it")
            self.shown.add(name)
        if node.type in _NEURONS:
            self.events[name] = 1
            return wired.ruled(self._rule(node, late)), True
        if node.type in _MEMBRANES:
            self.shown.add(name)
            found = integration(node, self.reading, self.dt, exact=False)
            kept = (found.keeps, found.current_keeps, found.gain)
            return wired.Integrator(*kept, self.T), True
        if node.type == "Delay":
            return self._delay(name, node, before)
        self._follow(name, node, before, late)
        return self._layer(node), False

    def _taken_late(self, node: NirNode, before: list[str]) -> IntArray | None:
        """By how many steps a node takes its current late.

        Raises:
            MalformedError: it is no neuron, or takes another current as well.
        """
        found = [self.late[source] for source in before if source in self.late]
        if not found:
            return None
        if len(before) > 1 or node.type not in (nodes.PORT, "Delay", *_NEURONS):
            raise MalformedError(
                "reads a current that is delayed, which only a neuron can, and alone; delay the "
                "spikes in front of its synapses instead"
            )
        return found[0]

    def _follow(self, name: str, node: NirNode, before: list[str], late: IntArray | None) -> None:
        """Note of a value how many events it has, and by how much it is late."""
        if late is not None:
            self.late[name] = late
        if node.type == "SumPool2d" and all(source in self.events for source in before):
            count = math.prod(pair(node.arrays["kernel_size"], "kernel_size"))
            self.events[name] = count * sum(self.events[source] for source in before)
        if node.type in (nodes.PORT, "Flatten") and all(s in self.events for s in before):
            self.events[name] = sum(self.events[source] for source in before)

    def _delay(self, name: str, node: NirNode, before: list[str]) -> tuple[Module, bool]:
        """Neurons that hold spikes, or nothing: whoever reads a current takes it late."""
        late = steps_of(node, self.dt, self.T)
        if not all(source in self.events for source in before):
            if any(self.file.nodes[source].type == "Input" for source in before):
                raise MalformedError("delays the image, which is no spikes")
            self.late[name] = late + sum(self.late[s] for s in before if s in self.late)
            return wired.same(), False
        self.events[name] = events = sum(self.events[source] for source in before)
        if events > ops.MOST_EVENTS:
            raise MalformedError(
                f"delays up to {events} events of a step; {ops.MOST_EVENTS} can be"
            )
        return wired.ruled(wired.holding(late_taps(late, self.T), events)), True

    def _layer(self, node: NirNode) -> Module:
        match node.type:
            case "Output" | nodes.PORT:
                return wired.same()
            case "Linear" | "Affine":
                return wired.linear(node.arrays["weight"], node.arrays.get("bias"))
            case "Conv2d":
                return _convolution(node)
            case "SumPool2d":
                return wired.SumPool(*_windows(node))
            case "AvgPool2d":
                return wired.average_pool(*_windows(node))
            case "Flatten":
                return wired.flatten(*(whole(node.field(f), f) for f in ("start_dim", "end_dim")))
            case _:
                raise MalformedError(
                    f"is a {node.type}; quantize takes Linear, Affine, Conv2d, SumPool2d, "
                    f"AvgPool2d, Flatten, Delay, {', '.join((*_NEURONS, *_MEMBRANES))}"
                )

    def _rule(self, node: NirNode, late: IntArray | None) -> NeuronRule | GeneralRule:
        found = dynamics(node, self.reading, self.dt, self.reset, exact=False)
        rule = NeuronRule(
            decay=found.keeps,
            gain=found.gain,
            v_threshold=wired.thresholds(found.threshold),
            strict=found.strict,
            current_decay=found.current_keeps,
            reset=found.reset,
            reset_by=found.reset_by,
            v_rest=found.rest,
        )
        return rule if late is None else wired.later(rule, late_taps(late, self.T))


def _windows(node: NirNode) -> list[tuple[int, int]]:
    return [pair(node.arrays[f], f) for f in ("kernel_size", "stride", "padding")]


def _convolution(node: NirNode) -> Module:
    padding = node.texts.get("padding")
    return wired.convolution(
        node.arrays["weight"],
        node.arrays["bias"],
        stride=pair(node.arrays["stride"], "stride"),
        padding=padding or pair(node.arrays["padding"], "padding"),
        dilation=pair(node.arrays["dilation"], "dilation"),
        groups=whole(node.arrays["groups"], "groups"),
    )
