"""One row of the page: a model captured, quantized and compared, or the sentence of its refusal."""

from __future__ import annotations

import traceback
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from step.rows import Row
from torch import Tensor, nn

from lapilli.deploy.comparison.compare import Comparison, compare_recordings
from lapilli.deploy.comparison.targets import target
from lapilli.deploy.surveys.coverage import integers
from lapilli.ir.errors import LapilliError
from lapilli.quantize import Quantized, quantize

SIMULATORS = ("reference", "event-driven", "onnx", "lava")
_SEEDS = 6  # of random parameters, until every neuron both fires and rests


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a row.

    Attributes:
        refused: the sentence, or "".
        values: compared with PyTorch on the reference simulator.
        mismatches: by simulator, of those that took the graph; declined: of the others.
        nodes: of the graph; rates: of the neurons that fire least and most.
    """

    refused: str = ""
    values: int = 0
    mismatches: dict[str, int] = field(default_factory=dict)
    declined: dict[str, str] = field(default_factory=dict)
    nodes: int = 0
    rates: tuple[float, float] = (0.0, 0.0)

    @property
    def exact(self) -> bool:
        """Whether all values of all simulators were equal, and none of it was vacuous."""
        alive = self.rates[0] > 0 and self.rates[1] < 1
        return not self.refused and self.values > 0 and alive and not any(self.mismatches.values())

    def as_json(self) -> dict[str, object]:
        """For the process that writes the page."""
        return asdict(self)


def verdict(row: Row) -> Verdict:
    """Try a row; of models whose neurons are dead, the next one."""
    found = Verdict()
    for seed in range(_SEEDS):
        try:
            found = _tried(row, seed)
        except LapilliError as error:
            return Verdict(refused=str(error))
        if found.exact or any(found.mismatches.values()):
            break
    return found


def _tried(row: Row, seed: int) -> Verdict:
    torch.manual_seed(seed)
    model = row.make()
    images = row.samples(6, seed=1)
    try:
        _wake(row, model, images, 0.8 + 0.3 * (seed % 3))
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1].name
        text = f"STEP's own forward fails in `{where}`: {type(error).__name__} {error}"
        return Verdict(refused=text.splitlines()[0].strip())
    known = {name: rule for name, rule in row.neurons.items() if _has(model, name)}
    made = quantize(
        model,
        images,
        layout=row.layout,
        per_sample=row.per_sample,
        counts=row.counts,
        neurons=known,
    )
    return _compared(row, made)


def _has(model: nn.Module, name: str) -> bool:
    kinds = {f".{type(m).__module__}.{type(m).__qualname__}" for m in model.modules()}
    return any(kind.endswith(f".{name}") for kind in kinds)


def _wake(row: Row, model: nn.Module, images: Tensor, offset: float) -> None:
    """Draw gains, and offsets around one, and let batch norm see the images."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 0.5
        nn.init.uniform_(norm.weight, 0.8, 1.6)
        nn.init.normal_(norm.bias, offset, 1.0)
    for path, module in model.named_modules():
        if path.endswith(row.bare) and row.bare:
            nn.init.normal_(module.get_parameter("weight"), 0.1, 0.3)
    model.train()
    with torch.no_grad():
        for _ in range(4):
            model(row.given(images))
            for module in model.modules():
                if hasattr(module, "reset") and hasattr(module, "v"):  # SpikingJelly's keep theirs
                    module.reset()  # type: ignore[operator]
    model.eval()


def _compared(row: Row, made: Quantized) -> Verdict:
    network, graph = made.network, made.network.graph
    given = integers(network, row.samples(3, seed=2).numpy())
    expected = made.reference.run_images(given)
    timed = "T" in row.layout
    steps = np.moveaxis(given, 1, 0) if timed else np.broadcast_to(given, (graph.T, *given.shape))
    shown = {graph.inputs[0]: np.ascontiguousarray(steps)}
    done: dict[str, Comparison] = {}
    declined: dict[str, str] = {}
    for name in SIMULATORS:
        try:
            got = target(name).compile(graph).run(shown)
        except LapilliError as error:
            declined[name] = str(error)
            continue
        done[name] = compare_recordings(graph, expected, got)
        if not done[SIMULATORS[0]].exact:
            break  # dead neurons, or a difference: the others need not be asked
    first = done[SIMULATORS[0]]
    return Verdict(
        values=first.compared,
        mismatches={name: found.mismatches for name, found in done.items()},
        declined=declined,
        nodes=len(graph.nodes),
        rates=(min(first.rates.values()), max(first.rates.values())),
    )
