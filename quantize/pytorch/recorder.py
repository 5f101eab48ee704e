"""Record inputs, outputs and membranes of every neuron during one forward pass from rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lapilli.model.capture import program
from lapilli.model.capture.opaque_step import shown_membrane
from lapilli.model.neurons.adapters import adapter_of
from lapilli.model.neurons.rule import Trace
from lapilli.quantize.pytorch.integer_neuron import StandIn


@dataclass(frozen=True, slots=True, eq=False)
class NeuronCall:
    """What one call of a neuron took and gave.

    Attributes:
        current, spikes: argument and result.
        shown: the membrane that the author's forward can read after it, if there is one.
        membranes: before reset, of this very pass; None where the neuron keeps them to itself.
    """

    current: Tensor
    spikes: Tensor
    shown: Tensor | None = None
    membranes: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class NeuronRecorder:
    """Holds each call of each neuron, by path."""

    calls: dict[str, list[NeuronCall]] = field(default_factory=dict)

    def add(self, path: str, call: NeuronCall) -> None:
        """Add one call."""
        self.calls.setdefault(path, []).append(call)

    def trace(self, fire: program.Neuron) -> tuple[Tensor, Tensor]:
        """Return currents and spikes of all steps."""
        calls = self.calls[fire.module]
        if not fire.steps:
            return calls[fire.call].current, calls[fire.call].spikes
        return (
            torch.stack([calls[n].current for n in fire.steps]),
            torch.stack([calls[n].spikes for n in fire.steps]),
        )

    def membranes(self, fire: program.Neuron) -> Tensor | None:
        """Return the membranes before reset of all steps, if forward computed them in sight."""
        return None if fire.steps else self.calls[fire.module][fire.call].membranes

    def membrane(self, fire: program.Neuron) -> Tensor:
        """Return the membrane of all steps, as the author's forward can read it.

        Raises:
            TypeError: the neuron shows none.
        """
        membranes = [self.calls[fire.module][n].shown for n in fire.steps or (fire.call,)]
        found = [m for m in membranes if m is not None]
        if len(found) != len(membranes):
            raise TypeError(f"{fire.module} shows no membrane")
        return torch.stack(found) if fire.steps else found[0]


@contextmanager
def recorder(
    module: nn.Module,
    paths: Iterable[str],
    into: NeuronRecorder | None = None,
    *,
    membranes: bool = True,
) -> Iterator[NeuronRecorder]:
    """Record the neurons at `paths`, which are reset before and after; their membranes, or not."""
    into = into or NeuronRecorder()
    neurons = {path: module.get_submodule(path) for path in sorted(paths)}
    with ExitStack() as stack:
        for path, neuron in neurons.items():
            traces = stack.enter_context(_watching(neuron)) if membranes else []
            record = _recording(into, path, traces)
            hook = neuron.register_forward_hook(record, prepend=True)  # before one that casts
            stack.callback(hook.remove)
        _reset(neurons.values())
        stack.callback(_reset, neurons.values())
        yield into


def _reset(neurons: Iterable[nn.Module]) -> None:
    for neuron in neurons:
        own = neuron
        if isinstance(neuron, StandIn):
            neuron.restart()
            own = neuron.module
        if adapter := adapter_of(own):
            adapter.forget(own)


@contextmanager
def _watching(neuron: nn.Module) -> Iterator[list[Trace]]:
    """Collect what the method that forward computes by returns, where a neuron has one."""
    traces: list[Trace] = []
    adapter = adapter_of(neuron)
    name = "trace" if isinstance(neuron, StandIn) else adapter.watched if adapter else ""
    if not name:
        yield traces
        return
    method = getattr(neuron, name)

    def watched(*args: Any) -> Trace:
        trace: Trace = method(*args)
        traces.append(trace)
        return trace

    setattr(neuron, name, watched)  # of the instance; the class keeps its own
    try:
        yield traces
    finally:
        delattr(neuron, name)


def _recording(
    into: NeuronRecorder, path: str, traces: list[Trace]
) -> Callable[[nn.Module, tuple[Any, ...], Any], Any]:
    def record(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        x = args[0]
        # Only the very spikes that forward returns vouch for the membranes beside them.
        seen = [membranes for spikes, membranes in traces if spikes is output]
        traces.clear()
        spikes = output[0] if isinstance(output, tuple) else output
        spikes = spikes.to(x.dtype)  # some frameworks answer float64 currents by float32 spikes
        adapter = adapter_of(module.module if isinstance(module, StandIn) else module)
        shown = shown_membrane(module, adapter.membrane if adapter else "", output)
        membranes = seen[0].detach() if seen else None
        into.add(path, NeuronCall(x.detach(), spikes.detach(), shown, membranes))
        return (spikes, *output[1:]) if isinstance(output, tuple) else spikes

    return record
