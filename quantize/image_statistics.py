"""Whether images look as they did in training: what the first batch norms are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lapilli.ir.recipe import Note, NoteKind
from lapilli.model.capture import program
from lapilli.model.capture.program import Captured
from lapilli.model.neurons.adapters import reset_states
from lapilli.model.neurons.copies import copied

_SHIFTED = 1.0  # standard deviations, of most channels
_SPREAD = 4.0  # times the variance, of most channels
_PIXELS = 1 << 18  # shown at a time
_Linear = (
    *(program.Synapse, program.Affine, program.Pad, program.Scale),
    *(program.Reshape, program.Permute, program.Expand, program.Slice),
)


def image_statistics(captured: Captured, images: Tensor) -> list[Note]:
    """Warn where a batch norm that hears linear maps of the image alone hears something else.

    A forward ends as soon as they have heard it, so that this takes the time of the first layers.

    Args:
        captured: the program, and the module, which is copied.
        images: (count, C, H, W), or (count, T, C, H, W) for a layout with time.
    """
    paths = first_norms(captured)
    if not paths:
        return []
    module = copied(captured.module)
    moments = [_Moments(path, module.get_submodule(path)) for path in paths]
    dtype = next((p.dtype for p in module.parameters()), images.dtype)
    signature = captured.signature
    few = 1 if signature.per_sample else max(1, _PIXELS * len(images) // images.numel())
    with torch.no_grad(), _listening(moments, whole="T" in signature.layout):
        for some in images.split(few):
            reset_states(module)
            for one in moments:
                one.heard = False
            with suppress(_EnoughHeardError):
                signature.logits(module, some.to(dtype))
    return [note for one in moments for note in one.notes()]


def first_norms(captured: Captured) -> list[str]:
    """Paths of the batch norms that no neuron, and no other batch norm, comes before."""
    calls = captured.calls
    heard: dict[str, bool] = {}  # value -> whether it is a linear map of the image alone
    found = []
    for name, call in calls.items():
        alone = bool(call.inputs) and all(heard[i] for i in call.inputs)
        heard[name] = isinstance(call.op, program.Input) or (alone and isinstance(call.op, _Linear))
        if alone and isinstance(call.op, program.BatchNorm):
            found.append(call.op.module)
    return list(dict.fromkeys(found))


class _EnoughHeardError(Exception):
    """Ends a forward whose further layers say nothing here."""


@dataclass(slots=True, eq=False)
class _Moments:
    """Mean and variance of what a batch norm is given, channel by channel.

    Attributes:
        path, norm: the batch norm.
        heard: whether it was called in the running forward.
    """

    path: str
    norm: nn.Module
    heard: bool = False
    count: int = 0
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add(self, given: Tensor) -> None:
        """Add one call; what does not have its channels is left out."""
        mean = getattr(self.norm, "running_mean", None)
        size = 0 if mean is None else len(mean)
        channels = [a for a in range(1, given.ndim) if given.shape[a] == size]
        if channels:
            rows = given.double().movedim(channels[0], 0).flatten(1)
            self.count += rows.shape[1]
            self.total = self.total + rows.sum(1)
            self.squares = self.squares + rows.square().sum(1)

    def notes(self) -> list[Note]:
        """Warn where a trained batch norm is given other values than in training."""
        mean, var = (getattr(self.norm, f"running_{name}", None) for name in ("mean", "var"))
        trained = int(getattr(self.norm, "num_batches_tracked", 0) or 0)
        if mean is None or var is None or not trained or not self.count:
            return []
        own = torch.as_tensor(self.total) / self.count
        spread_own = torch.as_tensor(self.squares) / self.count - own.square()
        usual = var + getattr(self.norm, "eps", 0.0)
        shift = float(((own - mean).abs() / usual.sqrt()).median())
        spread = float((spread_own / usual).median())
        if shift <= _SHIFTED and 1 / _SPREAD <= spread <= _SPREAD:
            return []
        text = (
            f"is given values whose mean lies {shift:.2g} standard deviations from that of "
            f"training, with {spread:.2g} times its variance: were the images normalised as in "
            "training?"
        )
        return [Note(NoteKind.NORMALISATION, self.path, text)]


@contextmanager
def _listening(moments: Sequence[_Moments], *, whole: bool) -> Iterator[None]:
    """Add up what batch norms are given; end a forward once all were, or let it be `whole`."""

    def listener(one: _Moments) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def listen(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            one.add(args[0].detach())
            one.heard = True
            if not whole and all(other.heard for other in moments):
                raise _EnoughHeardError

        return listen

    hooks = [one.norm.register_forward_pre_hook(listener(one)) for one in moments]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
