"""The opaque operator for neurons that run one time step a call.

It takes and returns tokens in place of the state, so that the T calls of one module are T
nodes, and a state that is passed by hand, or read, leaves its trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree


@torch.library.custom_op("lapilli::neuron_step", mutates_args=())
def neuron_step(x: Tensor, tokens: Sequence[Tensor], path: str, count: int) -> list[Tensor]:
    """Stand for one step of the neuron at `path`: spikes, membrane, and what else is its state.

    It is traced, never run.
    """
    raise RuntimeError(f"{path}: the opaque neuron is for tracing only")


@neuron_step.register_fake
def _(x: Tensor, tokens: Sequence[Tensor], path: str, count: int) -> list[Tensor]:
    return [torch.empty_like(x) for _ in range(count)]


NEURON_STEP = torch.ops.lapilli.neuron_step.default
SPIKES, MEMBRANE = 0, 1  # of what it returns


class _Shown:
    """The membrane after the latest call; no tensor of a module, as `torch.export` forbids."""

    token: Tensor | None = None


class OpaqueStep(nn.Module):
    """Takes the place of a neuron of one time step in the copy that is traced.

    Attributes:
        form: what its forward returns, a tree of tensors, if that is more than spikes.
        membrane: the attribute in which it shows its membrane between two calls.
        keeps: whether a call without a state goes on where the one before ended.
    """

    def __init__(
        self, path: str, module: nn.Module, *, form: pytree.TreeSpec | None, membrane: str,
        keeps: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.path = path
        self.form = form
        self.membrane = membrane
        self.keeps = keeps
        self.shown = _Shown()
        self.own = (module,)  # in a tuple: its buffers are no part of what is traced

    def forward(self, x: Tensor, *state: Any, **named: Any) -> Any:
        """Leave one node in the trace."""
        tokens = [t for t in pytree.tree_leaves((state, named)) if isinstance(t, Tensor)]
        if not tokens and not self.keeps and self.shown.token is not None:
            tokens = [torch.zeros_like(x)]  # begins anew, which `rolling` refuses
        values = NEURON_STEP(x, tokens, self.path, self.form.num_leaves if self.form else 2)
        self.shown.token = values[MEMBRANE]
        return pytree.tree_unflatten(values, self.form) if self.form else values[SPIKES]

    def __getattr__(self, name: str) -> Any:
        """Its membrane, or whatever else the model asks of its neuron, such as `init_leaky()`.

        It is at rest when it is traced. A reset does nothing: snnTorch's would reach every
        neuron of the process, and leave the tracer's tensors in them.
        """
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == self.__dict__["membrane"] and self.__dict__["shown"].token is not None:
                return self.__dict__["shown"].token
            found = getattr(self.__dict__["own"][0], name)
            return _nothing if callable(found) and name.startswith("reset") else found


def shown_membrane(module: nn.Module, membrane: str, answer: Any) -> Tensor | None:
    """What a neuron shows of its membrane after a call: behind its spikes, or in an attribute."""
    if isinstance(answer, tuple):
        found = pytree.tree_leaves(answer)[MEMBRANE]
    else:
        found = getattr(module, membrane, None) if membrane else None
    return found.detach() if isinstance(found, Tensor) else None


def _nothing(*_: Any, **__: Any) -> None:
    return None
