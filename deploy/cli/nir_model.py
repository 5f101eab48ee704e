"""A `.nir` file of floats as a model to quantize: its graph, run in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

from lapilli.deploy.cli.flow import Model
from lapilli.export.malformed import MalformedError
from lapilli.export.nir.read import reader
from lapilli.export.nir.read.dynamics import Reading, dynamics
from lapilli.export.nir.read.grid import pair, whole
from lapilli.export.nir.read.importer import order_of
from lapilli.export.nir.read.reader import NirFile, NirNode, read_nir
from lapilli.ir import ops
from lapilli.ir.errors import FormatError, InputError
from lapilli.model.loading import wired
from lapilli.model.loading.preprocess import Preprocessing
from lapilli.model.loading.strict import Module
from lapilli.model.neurons.rule import NeuronRule

_MOST_STEPS = 1 << 10
_NEURONS = ("IF", "LIF", "CubaLIF")
_ASK = "--arg reading=snntorch --arg dt=1e-4 --arg T=8, and --arg reset=zero where it drops that"


def nir_model(
    path: Path, arguments: Mapping[str, object], mean: tuple[float, ...], std: tuple[float, ...]
) -> Model:
    """Build the network that a NIR file holds, in floats; an image is shown at each of T steps.

    Args:
        path: of the file.
        arguments: reading, dt, T and reset, as `lapilli import` takes them.
        mean: of pixel / 255, one per channel, where the caller says so.
        std: of the same.

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
        module = _Build(file, reading, dt, reset).module(T)
    except MalformedError as error:
        raise FormatError(path, str(error)) from error
    return Model(
        module=module,
        made_from={"kind": "nir", "arguments": {k: str(v) for k, v in arguments.items()}},
        preprocessing=Preprocessing(mean=mean, std=std, classes=()) if mean else None,
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
        self, file: NirFile, reading: Reading, dt: Fraction, reset: ops.Reset | None
    ) -> None:
        self.file = file
        self.reading, self.dt, self.reset = reading, dt, reset

    def module(self, T: int) -> Module:
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
            node = self.file.nodes[name]
            try:
                made = self._made(node)
            except (MalformedError, ValueError) as error:
                raise MalformedError(f"node {name!r}: {error}") from error
            inputs = tuple(places[source] for source in before[name])
            places[name] = len(parts)
            parts.append(wired.Part(name, made, inputs, over_time=node.type in _NEURONS))
        return wired.Wired(parts, shape, T).eval()

    def _made(self, node: NirNode) -> Module:
        match node.type:
            case "Output" | reader.PORT:
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
            case "IF" | "LIF" | "CubaLIF":
                return wired.ruled(self._rule(node))
            case _:
                raise MalformedError(
                    f"is a {node.type}; quantize takes Linear, Affine, Conv2d, SumPool2d, "
                    f"AvgPool2d, Flatten, {', '.join(_NEURONS)}"
                )

    def _rule(self, node: NirNode) -> NeuronRule:
        found = dynamics(node, self.reading, self.dt, self.reset, exact=False)
        return NeuronRule(
            decay=found.keeps,
            gain=found.gain,
            v_threshold=wired.thresholds(found.threshold),
            strict=found.strict,
            current_decay=found.current_keeps,
            reset=found.reset,
            reset_by=found.reset_by,
            v_rest=found.rest,
        )


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
