"""A constant for each element, such as a position embedding, as a current of its own.

No linear map has a bias for each position. A synapse without weights has one for each of its
outputs, and its current is added to what the constants are added to.
"""

from __future__ import annotations

import math

import numpy as np

from lapilli.model.capture import program
from lapilli.model.capture.axes import Dims, anonymous, step_shape
from lapilli.model.capture.program import Call, FloatArray


def offsets(
    name: str, path: str, source: Call, values: FloatArray
) -> tuple[list[Call], dict[str, FloatArray]]:
    """Make a current of constants.

    Args:
        name: of the call that adds them.
        path: of its module.
        source: a value that a synapse takes; one element of it is heard, at weight 0.
        values: one for each element of one time step.

    Returns:
        Calls, the last of them of the current, and their constants.
    """
    own = f"{name}.offsets"
    size, count = math.prod(step_shape(source.dims)), values.size
    named = tuple((f,) for dim in source.dims for f in dim if f.name)

    def dims(*sizes: int) -> Dims:
        return (*named, *anonymous(*sizes))

    row = Call(f"{own}.row", program.Reshape(), (source.name,), path, dims(size))
    first = Call(f"{own}.first", program.Slice(axis=0, start=0, stop=1), (row.name,), path, dims(1))
    weight, bias = f"{own}.weight", f"{own}.bias"
    synapse = program.Synapse(weight=weight, bias=bias, space=0, constant=True)
    current = Call(own, synapse, (first.name,), path, dims(count))
    placed = Call(f"{own}.placed", program.Reshape(), (own,), path, dims(*values.shape))
    constants = {weight: np.zeros((count, 1)), bias: np.array(values.reshape(-1))}
    return [row, first, current, placed], constants
