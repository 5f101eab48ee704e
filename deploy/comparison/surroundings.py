"""What two runs showed around the place where they part: enough to draw it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray

_NEURONS, _STEPS = 24, 48  # at most so many beside each other

Rows = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Spikes of the neurons beside one, and its membrane, over steps, of both runs.

    Attributes:
        first_step: number of the first step; row, column: of the neuron and step in question.
        neurons: indices of the rows, in the node.
        expected, got: what each neuron (row) sent at each step.
        expected_membrane, got_membrane: of the neuron in question, before reset; empty where a
            run did not record it.
    """

    first_step: int
    row: int
    column: int
    neurons: Rows
    expected: Rows
    got: Rows
    expected_membrane: tuple[int, ...] = ()
    got_membrane: tuple[int, ...] = ()


def surroundings(
    expected: Recording, got: Recording, node: str, t: int, sample: int, index: tuple[int, ...]
) -> Surroundings | None:
    """Cut out what lies around one neuron and step.

    Args:
        expected: a run of a batch.
        got: another of the same batch.
        node: that fires, or shows a membrane.
        t: time step.
        sample: of the batch.
        index: of the neuron in its node.

    Returns:
        None of an answer, of which runs need not show the same steps.
    """
    one, other = expected.values[node], got.values[node]
    if one.shape != other.shape or len(one) <= t:
        return None
    shape = one.shape[2:]
    flat = int(np.ravel_multi_index(index, shape)) if shape else 0
    size = int(np.prod(shape))
    first = max(0, min(flat - _NEURONS // 2, size - _NEURONS))
    begin = max(0, min(t - _STEPS // 2, len(one) - _STEPS))
    rows = range(first, min(size, first + _NEURONS))
    steps = slice(begin, begin + _STEPS)

    def sent(values: IntArray) -> Rows:
        some = values[steps, sample].reshape(-1, size)[:, first : rows.stop]
        return tuple(map(tuple, some.T.tolist()))

    def membrane(recording: Recording) -> tuple[int, ...]:
        kept = recording.membranes.get(node)
        if kept is None:
            return ()
        some: list[int] = kept[steps, sample].reshape(-1, size)[:, flat].tolist()
        return tuple(some)

    return Surroundings(
        first_step=begin,
        row=flat - first,
        column=t - begin,
        neurons=tuple(tuple(int(i) for i in np.unravel_index(k, shape)) for k in rows),
        expected=sent(one),
        got=sent(other),
        expected_membrane=membrane(expected),
        got_membrane=membrane(got),
    )
