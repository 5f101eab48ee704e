"""Hear what every neuron of a module is given and answers, in one run from rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lapilli.model.adapters import adapter_of
from lapilli.model.program import Fire
from lapilli.quantize.stand_in import StandIn


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """Currents and spikes of each call of each neuron, by path."""

    calls: dict[str, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)

    def hear(self, path: str, current: Tensor, spikes: Tensor) -> None:
        """Keep one call."""
        self.calls.setdefault(path, []).append((current, spikes))

    def use(self, fire: Fire) -> tuple[Tensor, Tensor]:
        """Currents and spikes of all steps."""
        calls = self.calls[fire.module]
        if not fire.steps:
            return calls[fire.call]
        return (
            torch.stack([calls[n][0] for n in fire.steps]),
            torch.stack([calls[n][1] for n in fire.steps]),
        )


@contextmanager
def listening(
    module: nn.Module, paths: Iterable[str], heard: Heard | None = None
) -> Iterator[Heard]:
    """Bring the neurons at `paths` to rest, listen to them, and bring them to rest again."""
    heard = heard or Heard()
    neurons = {path: module.get_submodule(path) for path in sorted(paths)}
    hooks = [
        neuron.register_forward_hook(_recorder(heard, path)) for path, neuron in neurons.items()
    ]
    try:
        _rest(neurons.values())
        yield heard
    finally:
        for hook in hooks:
            hook.remove()
        _rest(neurons.values())


def _rest(neurons: Iterable[nn.Module]) -> None:
    for neuron in neurons:
        own = neuron
        if isinstance(neuron, StandIn):
            neuron.restart()
            own = neuron.module
        if adapter := adapter_of(own):
            adapter.forget(own)


def _recorder(heard: Heard, path: str) -> Callable[[nn.Module, tuple[Any, ...], Any], Any]:
    def record(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        x = args[0]
        spikes = output[0] if isinstance(output, tuple) else output
        spikes = spikes.to(x.dtype)  # some frameworks answer float64 currents by float32 spikes
        heard.hear(path, x.detach(), spikes.detach())
        return (spikes, *output[1:]) if isinstance(output, tuple) else spikes

    return record
