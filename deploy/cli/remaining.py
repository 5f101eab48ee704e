"""How much time is left: a bar on a terminal, now and then a line in a log."""

from __future__ import annotations

import time
from collections.abc import Callable

import typer

from lapilli.deploy.cli.progress import Bars

_EVERY = 30.0  # seconds between lines


class Remaining:
    """Is told of images that are done, or need not be done again, and says what is left.

    Attributes:
        total: images of this process.
        done: of those; skipped: of the done, those that took no time.
    """

    def __init__(
        self, total: int, bars: Bars, *, quiet: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total, self.done, self.skipped = total, 0, 0
        self._bars, self._quiet, self._clock = bars, quiet, clock
        self._began = self._said = clock()

    def advance(self, images: int) -> None:
        """Say that so many more images are done."""
        self.done += images
        self._bars.advance(self.done)
        now = self._clock()
        if not self._quiet and not self._bars.shown and now - self._said >= _EVERY:
            self._said = now
            typer.echo(str(self), err=True)

    def skip(self, images: int) -> None:
        """Say that so many images were done before."""
        self.skipped += images
        self.done += images
        self._bars.advance(self.done)

    def seconds(self) -> float | None:
        """Return the seconds that are left at the speed so far; None while nothing was done."""
        timed = self.done - self.skipped
        if timed < 1:
            return None
        return (self._clock() - self._began) / timed * (self.total - self.done)

    def __str__(self) -> str:
        told = f"{self.done:,} of {self.total:,} images"
        left = self.seconds()
        return told if left is None else f"{told}, about {duration(left)} left"


def duration(seconds: float) -> str:
    """Write a time for people.

    >>> [duration(s) for s in (0.4, 59, 61, 7384, 200000)]
    ['1 s', '59 s', '1 min', '2 h 3 min', '55 h 33 min']
    """
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = int(seconds // 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
