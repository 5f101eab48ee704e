"""The opaque operator for neurons that run one time step a call.

It takes and returns a token in place of the membrane, so that the T calls of one module are
T nodes, and a membrane that is passed by hand leaves its trace.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


@torch.library.custom_op("lapilli::neuron_step", mutates_args=())
def neuron_step(x: Tensor, token: Tensor | None, path: str) -> tuple[Tensor, Tensor]:
    """Stand for one step of the neuron at `path`; it is traced, never run."""
    raise RuntimeError(f"{path}: the opaque neuron is for tracing only")


@neuron_step.register_fake
def _(x: Tensor, token: Tensor | None, path: str) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x)


NEURON_STEP = torch.ops.lapilli.neuron_step.default


class OpaqueStep(nn.Module):
    """Takes the place of a neuron of one time step in the copy that is traced.

    Attributes:
        several: whether its forward returns a state beside the spikes.
    """

    def __init__(self, path: str, module: nn.Module, *, several: bool) -> None:
        super().__init__()
        self.path = path
        self.several = several
        self.own = (module,)  # in a tuple: its buffers are no part of what is traced

    def forward(self, x: Tensor, token: Tensor | None = None) -> Any:
        """Leave one node in the trace."""
        spikes, after = NEURON_STEP(x, token, self.path)
        return (spikes, after) if self.several else spikes

    def __getattr__(self, name: str) -> Any:
        """Whatever else the model asks of its neuron, such as `init_leaky()`.

        It is at rest when it is traced. A reset does nothing: snnTorch's would reach every
        neuron of the process, and leave the tracer's tensors in them.
        """
        try:
            return super().__getattr__(name)
        except AttributeError:
            found = getattr(self.__dict__["own"][0], name)
            return _nothing if callable(found) and name.startswith("reset") else found


def _nothing(*_: Any, **__: Any) -> None:
    return None
