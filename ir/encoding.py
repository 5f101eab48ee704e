"""Encodings: what the host makes of an image for each time step, exactly and the same everywhere.

A pixel p of 0 to 255 is x = p / 255. The definitions of `rate`, `phase` and `ttfs` are BrainCog's,
which STEP uses; `population` is Bohte's (2002) over 0 to 1.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.ir.errors import InputError

SPIKES = ("rate", "phase", "ttfs", "population")
SEQUENCES = ("rows", "columns", "pixels")
MOST_STEPS = 1 << 16
_MOST_NEURONS = 256
_LETTERS = {"T": "steps", "seed": "seed", "m": "neurons"}
_TEXT = re.compile(r"([a-z]+)(?::((?:[A-Za-z]+=[0-9]{1,9})(?:,[A-Za-z]+=[0-9]{1,9})*))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """One encoding of images of one size.

    rate: a spike at each step where u < x; u are 32 bits of SHAKE-128 of the seed and the image's
    bytes, so that an image has the same spikes in whatever batch it is.
    phase: bit 7 - (t mod 8) of floor(256 x), worth 2**-(t mod 8). A white pixel has none of them.
    ttfs: one spike, at step T - ceil(x T), worth 1 / (t + 1); none of a black pixel.
    population: m neurons a pixel, with centres (2 i - 3) / (2 (m - 2)), i = 1..m, and a width of
    1 / (1.5 (m - 2)); one that responds by g fires once, at step floor(T (1 - g)), if there is one.
    rows, columns, pixels: a row, a column or a pixel for each step, all channels of it.

    Attributes:
        kind: one of these.
        image: (C, H, W).
        steps: T.
        seed: of rate.
        neurons: of population, for each pixel.

    Raises:
        InputError: a kind that is none, or numbers that do not go with it.
    """

    kind: str
    image: tuple[int, ...]
    steps: int
    seed: int = 0
    neurons: int = 0

    def __post_init__(self) -> None:
        if self.kind not in (*SPIKES, *SEQUENCES):
            known = ", ".join((*SPIKES, *SEQUENCES))
            raise InputError(f"encoding {self.kind!r} is none of {known}")
        if len(self.image) != 3 or min(self.image) < 1:
            raise InputError(f"encoding {self.kind} takes images (C, H, W), not {self.image}")
        if not 1 < self.steps <= MOST_STEPS:
            raise InputError(f"encoding {self.kind} needs 2 to {MOST_STEPS} steps: T=...")
        if (self.kind == "population") != (2 < self.neurons <= _MOST_NEURONS):
            raise InputError(
                f"population, and nothing else, takes 3 to {_MOST_NEURONS} neurons: m=..."
            )
        if self.kind != "rate" and self.seed:
            raise InputError(f"encoding {self.kind} draws nothing: leave the seed out")
        if self.moves and self.steps != _length(self.kind, self.image):
            raise InputError(
                f"{self.kind} of {self.image} are {_length(self.kind, self.image)} steps"
            )

    @classmethod
    def of(cls, text: str, image: tuple[int, ...]) -> Encoding:
        """Read an encoding as the command line gives it: rate:T=4,seed=7; rows.

        Raises:
            InputError: it is none.
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise InputError(f"encoding {text!r} is not like rate:T=4,seed=0 or rows")
        said = dict(part.split("=") for part in (found[2] or "").split(",") if part)
        if odd := sorted(said.keys() - _LETTERS.keys()):
            raise InputError(f"encoding {text!r}: {odd[0]} is none of {', '.join(_LETTERS)}")
        numbers = {_LETTERS[letter]: int(number) for letter, number in said.items()}
        if found[1] in SEQUENCES and len(image) == 3:
            numbers.setdefault("steps", _length(found[1], image))
        return cls(kind=found[1], image=image, **{"steps": 0, **numbers})

    def __str__(self) -> str:
        """Say it as on a command line."""
        if self.moves:
            return self.kind
        seed = f",seed={self.seed}" if self.kind == "rate" else ""
        neurons = f",m={self.neurons}" if self.neurons else ""
        return f"{self.kind}:T={self.steps}{seed}{neurons}"

    @property
    def moves(self) -> bool:
        """Whether pixels are only told one after the other, and stay what they are."""
        return self.kind in SEQUENCES

    @property
    def fires(self) -> bool:
        """Whether what it makes are spikes of 0 and 1."""
        return self.kind in ("rate", "population")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one step of one sample."""
        channels, height, width = self.image
        if self.moves:
            return {
                "rows": (channels * width,),
                "columns": (channels * height,),
                "pixels": (channels,),
            }[self.kind]
        return (channels * max(1, self.neurons), height, width)

    def check(self, images: npt.NDArray[Any]) -> None:
        """Refuse what are no images of its size.

        Raises:
            InputError: other shapes, or no bytes.
        """
        if images.dtype != np.uint8 or images.shape[1:] != self.image:
            raise InputError(
                f"encoding {self.kind} takes uint8 images (B, {', '.join(map(str, self.image))}), "
                f"got {images.dtype} {images.shape}"
            )

    def moved(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Bring values (B, C, H, W) of any type into the order of steps (B, T, F).

        Raises:
            InputError: it is no sequence.
        """
        count = len(values)
        match self.kind:
            case "rows":
                ordered = values.transpose(0, 2, 1, 3)
            case "columns":
                ordered = values.transpose(0, 3, 1, 2)
            case "pixels":
                ordered = values.transpose(0, 2, 3, 1)
            case _:
                raise InputError(f"encoding {self.kind} is no sequence")
        return np.ascontiguousarray(ordered.reshape(count, self.steps, -1))

    def values(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Bytes (B, C, H, W) to what each step shows, (B, T, ...).

        Raises:
            InputError: no such images, or a sequence, which has no values of its own.
        """
        self.check(images)
        match self.kind:
            case "rate":
                made = np.stack([self._drawn(image) for image in images])
            case "phase":
                made = _phases(self.steps)[:, images]
            case "ttfs":
                made = _first_spikes(self.steps)[:, images]
            case "population":
                channels, height, width = self.image
                table = _populations(self.steps, self.neurons)[:, images]  # T B C H W m
                made = np.moveaxis(table, 5, 3).reshape(
                    self.steps, len(images), channels * self.neurons, height, width
                )
            case _:
                raise InputError(f"encoding {self.kind} has no values of its own")
        return np.ascontiguousarray(made if self.kind == "rate" else np.moveaxis(made, 1, 0))

    def _drawn(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        shake = hashlib.shake_128(f"{self.seed}\n".encode() + np.ascontiguousarray(image).tobytes())
        words = np.frombuffer(shake.digest(4 * self.steps * image.size), "<u4").astype(np.uint64)
        below = words.reshape(self.steps, *image.shape) * np.uint64(255)
        fires: npt.NDArray[np.bool_] = below < image.astype(np.uint64) << np.uint64(32)
        return fires.astype(np.float64)


def _length(kind: str, image: tuple[int, ...]) -> int:
    _, height, width = image
    return {"rows": height, "columns": width, "pixels": height * width}[kind]


def _phases(steps: int) -> npt.NDArray[np.float64]:
    """What each of 256 pixels shows at each step."""
    bits = np.arange(256) * 256 // 255
    which = np.arange(steps)[:, None] % 8
    return (bits >> (7 - which) & 1) * 0.5**which


def _first_spikes(steps: int) -> npt.NDArray[np.float64]:
    table = np.zeros((steps, 256))
    for p in range(1, 256):
        t = steps - -(-p * steps // 255)
        table[t, p] = 1 / (t + 1)
    return table


def _populations(steps: int, neurons: int) -> npt.NDArray[np.float64]:
    """Of each of 256 pixels the spikes of `neurons` neurons; in decimals, which round alike."""
    table = np.zeros((steps, 256, neurons))
    with localcontext() as context:
        context.prec = 40
        gap = Decimal(neurons - 2)
        for p in range(256):
            for i in range(neurons):
                away = (Decimal(p) / 255 - (2 * (i + 1) - 3) / (2 * gap)) * gap * Decimal("1.5")
                response = (-away * away / 2).exp()
                t = math.floor(steps * (1 - response))
                if t < steps:
                    table[t, p, i] = 1
    return table
