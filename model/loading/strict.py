"""Parameters into a module of somebody else: every key accounted for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lapilli.ir.errors import CaptureError, CheckpointError
from lapilli.model.capture.scripted import check_not_scripted
from lapilli.model.loading.checkpoint import Checkpoint, require_real_numbers
from lapilli.model.loading.containers import (
    common_prefix,
    is_count_of_a_tool,
    prefix_hint,
    without_prefix,
)

Module: TypeAlias = nn.Module  # for those right of here, who do not import torch

_SHOWN = 6  # keys in a message
_COUNTER = ".num_batches_tracked"  # of batch norms; evaluation does not read it


def as_network(made: object, name: str) -> Module:
    """A module, in evaluation mode.

    Raises:
        CaptureError: it is something else, or TorchScript.
    """
    if not isinstance(made, nn.Module):
        raise CaptureError(name, f"is a {type(made).__name__}, not a torch.nn.Module")
    check_not_scripted(made)
    return made.eval()


def set_attributes(module: Module, attributes: Mapping[str, object]) -> None:
    """Set attributes that a class has no argument for, such as `T` or `block.0.attn.scale`.

    Raises:
        CaptureError: no such attribute; or it is a parameter or a module.
    """
    for name, value in attributes.items():
        path, _, leaf = name.rpartition(".")
        owner: object = None
        with contextlib.suppress(AttributeError):
            owner = module.get_submodule(path)
        if not isinstance(owner, nn.Module) or not hasattr(owner, leaf):
            plain = [n for n in vars(owner or module) if n[0] != "_" and n != "training"]
            raise CaptureError(
                path, f"has no attribute {leaf!r} to be set; it has {_listed(plain) or 'none'}"
            )
        if isinstance(getattr(owner, leaf), Tensor | nn.Module):
            raise CaptureError(path, f"{leaf!r} is no plain attribute, and is not set")
        setattr(owner, leaf, value)


def import_while_running(
    module: Module, importing: Callable[[], AbstractContextManager[None]]
) -> Module:
    """Keep `importing()` entered whenever `module` is called; some import within `forward`.

    Args:
        module: it gets two hooks, which its copies share.
        importing: makes a context manager.
    """
    entered: list[contextlib.ExitStack] = []

    def enter(_: nn.Module, __: object) -> None:
        stack = contextlib.ExitStack()
        stack.enter_context(importing())
        entered.append(stack)

    def leave(_: nn.Module, __: object, ___: object) -> None:
        entered.pop().close()

    module.register_forward_pre_hook(enter, prepend=True)
    module.register_forward_hook(leave, always_call=True)
    return module


def load_strictly(module: nn.Module, checkpoint: Checkpoint, unused: Sequence[str] = ()) -> Module:
    """Load a checkpoint into `module` and return it.

    Args:
        module: it is changed.
        checkpoint: from `load_checkpoint`.
        unused: patterns (`block.*.norm1.*`) of keys that the file has and nothing uses.

    Raises:
        CheckpointError: keys are missing, left over, or of another shape, with their names;
            a pattern that matches nothing; a value that is not finite.
    """
    wanted = module.state_dict()
    state = {k: v for k, v in checkpoint.state.items() if k in wanted or not is_count_of_a_tool(k)}
    needed = [k for k in wanted if not _is_counter(k)]
    if (prefix := common_prefix(checkpoint.path, state, needed)) is not None:
        state = without_prefix(state, prefix)
    for pattern in unused:
        matching = [k for k in state if fnmatchcase(k, pattern) and k not in wanted]
        if not matching:
            raise CheckpointError(
                checkpoint.path, f"--unused {pattern!r} matches no key that is left over"
            )
        for key in matching:
            del state[key]
    problems = []
    if missing := [k for k in needed if k not in state]:
        problems.append(
            f"the module wants, but the file has not: {_listed(missing)}"
            f"{prefix_hint(state, needed)}"
        )
    if left := [k for k in state if k not in wanted and not _is_counter(k)]:
        problems.append(
            f"the file has, but the module wants not: {_listed(left)}; if nothing uses them, "
            "say so with --unused"
        )
    shapes = [
        f"{k} {tuple(state[k].shape)}, not {tuple(v.shape)}"
        for k, v in wanted.items()
        if k in state and state[k].shape != v.shape
    ]
    if shapes:
        problems.append(f"of another shape: {_listed(shapes)}")
    if problems:
        raise CheckpointError(checkpoint.path, ". ".join(problems))
    require_real_numbers(checkpoint.path, state)
    module.load_state_dict({k: v for k, v in state.items() if k in wanted}, strict=False)
    return module


def _is_counter(key: str) -> bool:
    return key.endswith(_COUNTER) or is_count_of_a_tool(key)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def events(pixels: npt.NDArray[Any]) -> Tensor:
    """Numbers of events, or of what is no image, as a model sees them: float32, as they are."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).float()
