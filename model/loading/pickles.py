"""Read PyTorch's pickles without running anything that they name.

torch's own reader builds tensors and refuses every class and function that it does not know. What
people store beside their weights is added here: command-line arguments, and NumPy's numbers and
arrays, which are rebuilt by stand-ins, so that no function of NumPy is called by a
file either.
"""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import torch

from lapilli.ir.errors import CheckpointError
from lapilli.model.loading.stand_ins import Array, DType, empty, encode, scalar

_ALLOWED: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    argparse.Namespace,
    (DType, "numpy.dtype"),
    (Array, "numpy.ndarray"),
    (Array, "numpy.core.multiarray._reconstruct"),
    (Array, "numpy._core.multiarray._reconstruct"),
    (scalar, "numpy.core.multiarray.scalar"),
    (scalar, "numpy._core.multiarray.scalar"),
    (encode, "_codecs.encode"),
    (empty, "builtins.bytes"),
]
_FOREIGN_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def read_pickle(path: Path) -> object:
    """Read what `torch.save` wrote; arrays are tensors, scalars of NumPy are plain numbers.

    Raises:
        CheckpointError: it asks for code to be run, or is damaged.
    """
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            content = torch.load(path, map_location="cpu", weights_only=True)
        return _with_tensors(content)
    except pickle.UnpicklingError as error:
        named = _FOREIGN_GLOBAL.search(str(error))
        what = f" (the class or function {named[1]})" if named else ""
        raise CheckpointError(
            path,
            f"it asks for code to be run while loading{what}, or is no checkpoint; refused. "
            "Save its state_dict alone, or convert it to .safetensors where you trust it",
        ) from error
    except Exception as error:  # a damaged pickle makes torch raise anything
        raise CheckpointError(path, f"not a PyTorch checkpoint ({error!r})") from error


def _with_tensors(content: object) -> object:
    """Replace arrays in nested dicts by tensors."""
    if isinstance(content, dict):
        return {key: _with_tensors(value) for key, value in content.items()}
    if isinstance(content, Array):
        return torch.from_numpy(content.value.copy(order="C"))
    return content
