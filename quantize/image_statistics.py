"""Whether images look as they did in training: what the first batch norm is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lapilli.ir.recipe import Note, NoteKind
from lapilli.model.capture import program
from lapilli.model.capture.program import Captured
from lapilli.quantize.plan import Plan

_SHIFTED = 1.0  # standard deviations, of most channels
_SPREAD = 4.0  # times the variance, of most channels


@dataclass(slots=True, eq=False)
class Moments:
    """Mean and variance of what a batch norm is given, channel by channel."""

    norm: nn.Module
    count: int = 0
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add(self, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        """Add one call; what does not have its channels is left out."""
        given = args[0].detach().double()
        mean = getattr(self.norm, "running_mean", None)
        size = 0 if mean is None else len(mean)
        channels = [a for a in range(1, given.ndim) if given.shape[a] == size]
        if channels:
            rows = given.movedim(channels[0], 0).flatten(1)
            self.count += rows.shape[1]
            self.total = self.total + rows.sum(1)
            self.squares = self.squares + rows.square().sum(1)

    def notes(self, path: str) -> list[Note]:
        """Warn where a trained batch norm is given other values than in training."""
        mean, var = (
            getattr(self.norm, "running_mean", None),
            getattr(self.norm, "running_var", None),
        )
        trained = int(getattr(self.norm, "num_batches_tracked", 0) or 0)
        if mean is None or var is None or not trained or not self.count:
            return []
        own = torch.as_tensor(self.total) / self.count
        spread_own = torch.as_tensor(self.squares) / self.count - own.square()
        usual = var + self.norm.eps
        shift = float(((own - mean).abs() / usual.sqrt()).median())
        spread = float((spread_own / usual).median())
        if shift <= _SHIFTED and 1 / _SPREAD <= spread <= _SPREAD:
            return []
        text = (
            f"is given values whose mean lies {shift:.2g} standard deviations from that of "
            f"training, with {spread:.2g} times its variance: were the images normalised as in "
            "training?"
        )
        return [Note(NoteKind.NORMALISATION, path, text)]


@contextmanager
def first_norm(
    captured: Captured, plan: Plan, module: nn.Module
) -> Iterator[Mapping[str, Moments]]:
    """Look at what the batch norm behind the image's own linear map is given, by its path."""
    seen: dict[str, Moments] = {}
    for unit in plan.units.values():
        call = captured.calls.get(unit.norm or "")
        first = captured.calls.get(unit.call)
        if call is None or first is None or not isinstance(call.op, program.BatchNorm):
            continue
        source = captured.calls[first.inputs[0]]
        while isinstance(source.op, program.Reshape | program.Permute | program.Expand):
            source = captured.calls[source.inputs[0]]
        if isinstance(source.op, program.Input):
            seen[call.op.module] = Moments(module.get_submodule(call.op.module))
    hooks = [m.norm.register_forward_pre_hook(m.add) for m in seen.values()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
