"""What a validation is asked, and which samples are in which of its shards."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from lapilli.ir.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a test set is divided.

    Attributes:
        images: how many there are.
        shard: images of a shard; the last may have fewer.
        share: of the images that are compared spike by spike; accuracy takes all.

    Raises:
        InputError: an empty set, an empty shard, or a share outside (0, 1].
    """

    images: int
    shard: int
    share: Fraction

    def __post_init__(self) -> None:
        if self.images < 1:
            raise InputError("there is not one image to validate with")
        if self.shard < 1 or not 0 < self.share <= 1:
            raise InputError("a shard takes at least one image, and a share lies in 0 < share <= 1")

    @property
    def shards(self) -> int:
        """How many."""
        return -(-self.images // self.shard)

    def samples(self, shard: int) -> range:
        """Return the numbers of the images of one shard."""
        return range(shard * self.shard, min((shard + 1) * self.shard, self.images))

    def is_compared(self, sample: int) -> bool:
        """Return whether a sample is in the share: evenly spread, and the same in each run."""
        return int((sample + 1) * self.share) > int(sample * self.share)


def slice_of(text: str, shards: int) -> range:
    """Return the shards of one machine of several: "3/16" is the third of 16.

    Raises:
        InputError: it does not say K/N with 1 <= K <= N.
    """
    first, _, count = text.partition("/")
    if not (first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
        raise InputError(f"--shard {text}: say K/N with K from 1 to N, as in 3/16")
    return range(int(first) - 1, shards, int(count))
