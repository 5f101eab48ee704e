"""What a chip cannot hold, or do, and the sentence that sums it up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WHOLE = "all of it"  # where no layer alone is too much


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What a chip cannot hold, or do, of one layer.

    Attributes:
        node: whose it is: a node of the graph, what the reader is told in its place, or `WHOLE`.
        reason: what, and by how much.
    """

    node: str
    reason: str

    def __str__(self) -> str:
        return f"{self.node}: {self.reason}"


def verdict(chip: str, obstacles: Sequence[Obstacle], unknown: Sequence[str] = ()) -> str:
    """Say in a sentence whether a chip holds a network.

    Args:
        chip: its name.
        obstacles: all that it cannot hold.
        unknown: what nobody says how much of there is.

    >>> verdict("speck", [Obstacle("head", "no neurons follow it")])
    'speck cannot hold it: 1 layer stands against it'
    """
    known = f"; of {', '.join(unknown)} nobody knows" if unknown else ""
    if obstacles:
        layers = len({one.node for one in obstacles} - {WHOLE})
        stand = "layer stands" if layers == 1 else "layers stand"
        return (
            f"{chip} cannot hold it" + (f": {layers} {stand} against it" if layers else "") + known
        )
    return f"nothing that is known of {chip} stands against it{known}"
