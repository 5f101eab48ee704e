"""Golden vectors for exported C: whose images they are, and what the reference makes of them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.export.c.vectors import Vectors
from lapilli.ir.errors import FormatError
from lapilli.ir.network import Network
from lapilli.ir.tensor import IntArray
from lapilli.simulators.reference import Reference

_SEED, _SAMPLES = 0, 2


def vectors_of(network: Network, golden: Path | None) -> Vectors:
    """The samples of a golden file, or two random ones, with all that is recorded of them.

    Args:
        network: that answers.
        golden: as `lapilli golden` writes it; None for random pixels, of the same seed always.

    Raises:
        FormatError: the file is no such archive, or of another network.
    """
    if golden is None:
        inputs = {name: _random(network, name) for name in network.graph.inputs}
    else:
        inputs = {network.graph.inputs[0]: _read(network, golden)}
    recording = Reference().compile(network.graph).run(inputs)
    return Vectors(inputs, {n: recording.values[n] for n in network.graph.recorded})


def silent(network: Network, vectors: Vectors) -> list[str]:
    """Nodes that never fire on these vectors, and so show nothing."""
    return [n for n in network.graph.firing if not vectors.values[n].any()]


def _random(network: Network, name: str) -> IntArray:
    given, T = network.graph.types[name], network.graph.T
    rng = np.random.default_rng(_SEED)
    if len(given.shape) == 3 and given.shape[0] == len(network.input.mean):
        pixels = rng.integers(0, 256, (_SAMPLES, *given.shape), dtype=np.uint8)
        encoded = network.input.encode(pixels)
        if int(encoded.min()) in given.range and int(encoded.max()) in given.range:
            return np.broadcast_to(encoded, (T, *encoded.shape))
    drawn = rng.integers(given.range.lo, given.range.hi, (T, _SAMPLES, *given.shape), endpoint=True)
    return drawn.astype(np.int64)


def _read(network: Network, golden: Path) -> IntArray:
    try:
        with np.load(golden, allow_pickle=False) as archive:
            found = {name: archive[name] for name in ("input", "digest")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise FormatError(golden, f"is no golden.npz of lapilli golden ({error})") from error
    if str(found["digest"]) != network.graph.digest:
        raise FormatError(golden, "is of another network: the digests differ")
    given = network.graph.types[network.graph.inputs[0]]
    images: npt.NDArray[np.signedinteger[Any]] = found["input"]
    fits = images.dtype.kind == "i" and images.shape[2:] == given.shape
    if not fits or images.shape[0] != network.graph.T or images.shape[1] < 1:
        raise FormatError(golden, f"its input {images.dtype} {images.shape} does not fit {given}")
    if int(images.min()) not in given.range or int(images.max()) not in given.range:
        raise FormatError(golden, f"its input leaves {given}")
    return images.astype(np.int64)
