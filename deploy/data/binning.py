"""Events of a camera, (x, y, t, p) each, binned into T frames that count them.

The rules, for N events in time order and T frames:

* by count: frame i takes events i * (N // T) to (i + 1) * (N // T), and the last one the rest;
* by time: frame i takes what happens from t0 + i * d until t0 + (i + 1) * d, where d is
  (last t - t0) // T, and the last one the rest.

A frame is (2, H, W): events of p = 0, then of p = 1. They are the rules of SpikingJelly's
`integrate_events_by_fixed_frames_number`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lapilli.deploy.data.pictures import ImageError
from lapilli.deploy.data.samples import Labels
from lapilli.deploy.data.transforms import size_of
from lapilli.ir.recipe import Json

_RULES = ("count", "time")
_MOST = 1 << 28  # values of all frames of one recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Binning:
    """How events become frames; None is not said.

    Attributes:
        frames: T.
        by: "count" or "time"; count where nobody says it.
        sensor: (height, width); where nobody says it, N-MNIST's 34 x 34 if the files are its.
    """

    frames: int | None = None
    by: str | None = None
    sensor: tuple[int, int] | None = None

    @property
    def said(self) -> bool:
        """Whether anything is asked for."""
        return self != Binning()

    def or_else(self, other: Binning) -> Binning:
        """Take from another what this one does not say."""
        return Binning(
            frames=self.frames or other.frames,
            by=self.by or other.by,
            sensor=self.sensor or other.sensor,
        )

    def but_for(self, other: Binning) -> Binning:
        """Leave out what another says itself."""
        return Binning(
            frames=None if other.frames else self.frames,
            by=None if other.by else self.by,
            sensor=None if other.sensor else self.sensor,
        )

    def describe(self) -> dict[str, Json]:
        """Return what a recipe keeps."""
        sensor: Json = None if self.sensor is None else list(self.sensor)
        return {"frames": self.frames, "bin_by": self.by, "sensor": sensor}

    def __str__(self) -> str:
        """Say it as on a command line."""
        sensor = None if self.sensor is None else "x".join(map(str, self.sensor))
        said = {"--frames": self.frames, "--bin-by": self.by, "--sensor": sensor}
        return " ".join(f"{name} {value}" for name, value in said.items() if value is not None)


def binning_of(frames: int | None, by: str | None, sensor: str | None) -> Binning:
    """Read what the command line says.

    Raises:
        ImageError: another rule than count and time, or no HEIGHTxWIDTH.
    """
    if by is not None and by not in _RULES:
        raise ImageError(f"--bin-by: {by!r} is none of {', '.join(_RULES)}")
    size = None if sensor is None else size_of("--sensor", sensor)
    return Binning(frames=frames, by=by, sensor=None if size is None else (size[0], size[-1]))


def remembered_binning(told: Mapping[str, Json]) -> Binning:
    """Read what `Binning.describe` wrote; nothing where the images were no events.

    Raises:
        ImageError: something else stands there.
    """
    frames, by, sensor = (told.get(name) for name in ("frames", "bin_by", "sensor"))
    if frames is not None and (type(frames) is not int or frames < 1):
        raise ImageError(f"the recipe's 'frames' is {frames!r}, no number of frames")
    size = "x".join(map(str, sensor)) if isinstance(sensor, list) else sensor
    return binning_of(frames, None if by is None else str(by), None if size is None else str(size))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Events:
    """Recordings in time order.

    Attributes:
        x, y: pixel; t: time, in the file's unit; p: polarity, 0 or 1.
    """

    x: Labels
    y: Labels
    t: Labels
    p: Labels


def frames(events: Events, binning: Binning, name: str) -> npt.NDArray[np.uint8]:
    """Count events in T frames (T, 2, H, W), by the rules that the module states.

    Raises:
        ImageError: no events, fewer than frames, none in order, one outside of the sensor, or
            more than 255 in one pixel of one frame.
    """
    T = binning.frames
    if T is None or binning.sensor is None:
        raise ImageError(f"{name}: events need --frames T, and --sensor HEIGHTxWIDTH")
    if len(events.t) < T:
        raise ImageError(f"{name}: {len(events.t)} events make no {T} frames")
    if np.any(np.diff(events.t) < 0):
        raise ImageError(f"{name}: its events are not in the order of time")
    height, width = binning.sensor
    _require_inside(events, height, width, name)
    if T * 2 * height * width > _MOST:
        raise ImageError(f"{name}: {T} frames of {height}x{width} are too many pixels to hold")
    if binning.by == "time":
        duration = int(events.t[-1] - events.t[0]) // T
        if duration == 0:
            raise ImageError(f"{name}: too short for {T} frames by time; --bin-by count takes it")
        which = np.minimum((events.t - events.t[0]) // duration, T - 1)
    else:
        which = np.minimum(np.arange(len(events.t)) // (len(events.t) // T), T - 1)
    place = ((which * 2 + events.p) * height + events.y) * width + events.x
    counts = np.bincount(place, minlength=T * 2 * height * width)
    if (most := int(counts.max())) > 255:
        raise ImageError(f"{name}: {most} events in one pixel of a frame; at most 255 fit: more T")
    return counts.astype(np.uint8).reshape(T, 2, height, width)


def _require_inside(events: Events, height: int, width: int, name: str) -> None:
    """Check that every event is one of a pixel of the sensor, and of polarity 0 or 1."""
    sides = (("x", events.x, width), ("y", events.y, height), ("p", events.p, 2))
    for axis, values, size in sides:
        if (wrong := values[(values < 0) | (values >= size)]).size:
            where = "polarities are 0 and 1" if axis == "p" else f"--sensor is {height}x{width}"
            raise ImageError(f"{name}: an event has {axis} = {wrong[0]}, and {where}")
