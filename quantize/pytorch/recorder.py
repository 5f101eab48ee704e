"""Record inputs and outputs of every neuron during one forward pass from rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lapilli.model.capture import program
from lapilli.model.capture.opaque_step import shown_membrane
from lapilli.model.neurons.adapters import adapter_of
from lapilli.quantize.pytorch.integer_neuron import StandIn


@dataclass(frozen=True, slots=True, eq=False)
class NeuronRecorder:
    """Holds currents, spikes and shown membranes of each call of each neuron, by path."""

    calls: dict[str, list[tuple[Tensor, Tensor, Tensor | None]]] = field(default_factory=dict)

    def add(self, path: str, current: Tensor, spikes: Tensor, shown: Tensor | None) -> None:
        """Add one call."""
        self.calls.setdefault(path, []).append((current, spikes, shown))

    def trace(self, fire: program.Neuron) -> tuple[Tensor, Tensor]:
        """Return currents and spikes of all steps."""
        calls = self.calls[fire.module]
        if not fire.steps:
            return calls[fire.call][:2]
        return (
            torch.stack([calls[n][0] for n in fire.steps]),
            torch.stack([calls[n][1] for n in fire.steps]),
        )

    def membrane(self, fire: program.Neuron) -> Tensor:
        """Return the membrane of all steps, as the author's forward can read it.

        Raises:
            TypeError: the neuron shows none.
        """
        membranes = [self.calls[fire.module][n][2] for n in fire.steps or (fire.call,)]
        found = [m for m in membranes if m is not None]
        if len(found) != len(membranes):
            raise TypeError(f"{fire.module} shows no membrane")
        return torch.stack(found) if fire.steps else found[0]


@contextmanager
def recorder(
    module: nn.Module, paths: Iterable[str], into: NeuronRecorder | None = None
) -> Iterator[NeuronRecorder]:
    """Record the neurons at `paths`, which are reset before and after."""
    into = into or NeuronRecorder()
    neurons = {path: module.get_submodule(path) for path in sorted(paths)}
    hooks = [
        neuron.register_forward_hook(_recording(into, path)) for path, neuron in neurons.items()
    ]
    try:
        _reset(neurons.values())
        yield into
    finally:
        for hook in hooks:
            hook.remove()
        _reset(neurons.values())


def _reset(neurons: Iterable[nn.Module]) -> None:
    for neuron in neurons:
        own = neuron
        if isinstance(neuron, StandIn):
            neuron.restart()
            own = neuron.module
        if adapter := adapter_of(own):
            adapter.forget(own)


def _recording(into: NeuronRecorder, path: str) -> Callable[[nn.Module, tuple[Any, ...], Any], Any]:
    def record(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        x = args[0]
        spikes = output[0] if isinstance(output, tuple) else output
        spikes = spikes.to(x.dtype)  # some frameworks answer float64 currents by float32 spikes
        adapter = adapter_of(module.module if isinstance(module, StandIn) else module)
        shown = shown_membrane(module, adapter.membrane if adapter else "", output)
        into.add(path, x.detach(), spikes.detach(), shown)
        return (spikes, *output[1:]) if isinstance(output, tuple) else spikes

    return record
