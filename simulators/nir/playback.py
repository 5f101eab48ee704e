"""A `.nir` file run step by step by whatever has imported it, and what every neuron showed.

The importer is somebody else's and untouched: it makes a PyTorch module with a submodule for
each NIR node, under the node's name. What these return is recorded; nothing is computed here.
The graph is exported, written and read again, so that only the file is used, and the layouts
that its metadata states.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lapilli.ir.errors import MismatchError, SimulatorUnavailableError
from lapilli.ir.graph import Graph
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray

if TYPE_CHECKING:
    import torch

    from lapilli.export.nir.write.dialect import Flavour

Step: TypeAlias = "Callable[[torch.Tensor], torch.Tensor]"


@dataclass(frozen=True, slots=True, eq=False)
class Imported:
    """What a framework has made of a file.

    Attributes:
        framework: its name, for messages.
        module: has a submodule for each node.
        start: from rest: a function from one step's input to its output.
        batched: whether arrays have a batch axis; if not, samples run one after the other.
    """

    framework: str
    module: torch.nn.Module
    start: Callable[[], Step]
    batched: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Playback:
    """An imported file, ready to run: spikes of every neuron and the outputs, in float32."""

    graph: Graph
    facts: Mapping[str, Any]
    imported: Imported
    shape: tuple[int, ...]  # of the file's input

    def run(self, inputs: Mapping[str, IntArray]) -> Recording:
        """Run a batch of samples.

        Raises:
            MismatchError: a value that is no integer.
        """
        (given,) = inputs.values()
        given = given[: self.facts["T"]].reshape(*given.shape[:2], *self.shape)
        sums = self.facts["sums"]
        wanted = {*self.graph.types, *(part for parts in sums.values() for _, part in parts)}
        shown = {n: s for n, s in self.facts["layouts"].items() if n in wanted}
        start = time.perf_counter()
        if self.imported.batched:
            seen = self._steps(given, shown)
        else:
            samples = [self._steps(given[:, i], shown) for i in range(given.shape[1])]
            seen = {key: np.stack([s[key] for s in samples], axis=1) for key in samples[0]}
        seconds = time.perf_counter() - start
        values = {n: self._integers(n, seen[s["node"]], s["layout"]) for n, s in shown.items()}
        for name, parts in sums.items():
            values[name] = np.asarray(sum(weight * values[part] for weight, part in parts))
        values = {name: value for name, value in values.items() if name in self.graph.types}
        output = self.facts["output"]
        answer = self._integers(output["name"], seen[""], output["layout"])
        values[output["name"]] = read_out(answer, output)
        return Recording(values, seconds=seconds)

    def _steps(self, given: IntArray, shown: Mapping[str, Any]) -> dict[str, _Floats]:
        """Node -> its output at each step; the empty name is the whole module's."""
        import torch

        seen: dict[str, list[_Floats]] = {s["node"]: [] for s in shown.values()}
        out: list[_Floats] = []
        with torch.no_grad(), _listening(self.imported.module, seen):
            step = self.imported.start()
            for x in given:
                y = step(torch.from_numpy(x.astype(np.float32)))
                out.append(y.numpy().copy())
        return {"": np.stack(out), **{key: np.stack(steps) for key, steps in seen.items()}}

    def _integers(self, name: str, steps: _Floats, layout: Mapping[str, Any]) -> IntArray:
        from lapilli.export.nir.write.placement import positions

        rows = steps.reshape(*steps.shape[:2], -1)
        return integers(self.imported.framework, name, rows, positions(layout))


_Floats: TypeAlias = npt.NDArray[np.floating[Any]]


def integers(framework: str, name: str, rows: _Floats, home: IntArray) -> IntArray:
    """Rows (T, B, elements) as int64 (T, B, *home.shape); no rounding.

    Raises:
        MismatchError: a value that is no integer, or that its type cannot tell from the next.
    """
    floats = rows[..., home]
    held = 1 << (np.finfo(floats.dtype).nmant + 1)
    exact = (floats == np.floor(floats)) & (np.abs(floats) < held)
    if not exact.all():
        at = tuple(int(i) for i in np.argwhere(~exact)[0])
        raise MismatchError(f"{framework} computes {floats[at]!r} for {name}{list(at)}: no integer")
    return np.asarray(floats, np.int64)


def read_out(shown: IntArray, output: Mapping[str, Any]) -> IntArray:
    """What the host makes of an output (T, B, ...): its words as one number, added up over time."""
    units = output.get("units")
    answer = shown if units is None else np.tensordot(shown, units, axes=(2, 0))
    return np.asarray(answer.cumsum(axis=0) if output["accumulate"] else answer, np.int64)


@contextlib.contextmanager
def _listening(module: torch.nn.Module, seen: Mapping[str, list[_Floats]]) -> Iterator[None]:
    """Note what submodules return, the first of it where it is several things."""

    def listener(heard: list[_Floats]) -> Callable[[object, object, Any], None]:
        def hear(_: object, __: object, y: Any) -> None:
            heard.append((y[0] if isinstance(y, tuple) else y).numpy().copy())

        return hear

    handles = [
        module.get_submodule(key).register_forward_hook(listener(heard))
        for key, heard in seen.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def from_rest(module: Callable[..., Any]) -> Callable[[], Step]:
    """`Imported.start` of a module that takes its state and returns it."""

    def start() -> Step:
        state = None

        def step(x: torch.Tensor) -> Any:
            nonlocal state
            y, state = module(x, state)
            return y

        return step

    return start


def played(
    graph: Graph,
    flavour: Flavour,
    load: Callable[[Any], Imported],
    change: Callable[[Any], None] = lambda nir_graph: None,
) -> Playback:
    """Export, write, read back, import.

    Args:
        graph: what to run.
        flavour: of NIR that the framework reads.
        load: the framework's importer.
        change: does something to the graph that was read; for tests.

    Raises:
        UnsupportedError: lists every node that this flavour cannot say.
    """
    import nir

    from lapilli.export.nir.write.writer import to_nir  # needs nir

    file: Any = io.BytesIO()  # nir takes open files, and annotates paths
    nir.write(file, to_nir(graph, flavour=flavour))
    file.seek(0)
    read = nir.read(file)
    facts = json.loads(read.metadata["lapilli"])
    change(read)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", DeprecationWarning)  # of what importers use
        imported = load(read)
    (entry,) = (node for node in read.nodes.values() if isinstance(node, nir.Input))
    shape = tuple(int(n) for n in entry.input_type["input"])
    return Playback(graph, facts, imported, shape)


def need(simulator: str, *packages: str) -> None:
    """Check that packages are there.

    Raises:
        SimulatorUnavailableError: names the one that is missing, and the command that mends it.
    """
    extra = "nir" if simulator == "nirtorch" else simulator
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise SimulatorUnavailableError(
                f"the {simulator} simulator needs {error.name}: pip install 'lapilli[{extra}]'"
            ) from error
