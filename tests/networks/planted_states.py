"""Modules that remember something from call to call, each in another place."""

from __future__ import annotations

import functools
import itertools
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_STEP = 0.25
_SEEN: list[int] = []


class Remembering(nn.Module):
    """Adds to its input what earlier calls left."""

    def __init__(self) -> None:
        super().__init__()
        self.prepare()

    def prepare(self) -> None:
        """Make the place where the state is kept."""

    def remembered(self, x: Tensor) -> Any:
        """What is added; moves the state on."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.remembered(x)
        return y


class InNumber(Remembering):
    def prepare(self) -> None:
        self.n = 0.0

    def remembered(self, x: Tensor) -> Any:
        self.n += _STEP
        return self.n


class InMembrane(Remembering):
    def prepare(self) -> None:
        self.v: Any = 0.0

    def remembered(self, x: Tensor) -> Any:
        self.v = self.v / 2 + x
        return self.v


class InDict(Remembering):
    def prepare(self) -> None:
        self.d = {"n": 0.0}

    def remembered(self, x: Tensor) -> Any:
        self.d["n"] += _STEP
        return self.d["n"]


class InList(Remembering):
    def prepare(self) -> None:
        self.kept: list[Tensor] = []

    def remembered(self, x: Tensor) -> Any:
        self.kept.append(x)
        return sum(self.kept[:-1])


class InDeque(Remembering):
    def prepare(self) -> None:
        self.delayed = deque([0.0])

    def remembered(self, x: Tensor) -> Any:
        self.delayed.append(x.mean())  # type: ignore[arg-type]
        return self.delayed.popleft()


class _Box:
    n = 0.0


class InObject(Remembering):
    def prepare(self) -> None:
        self.box = _Box()

    def remembered(self, x: Tensor) -> Any:
        self.box.n += _STEP
        return self.box.n


class _Slotted:
    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0.0


class InSlot(Remembering):
    def prepare(self) -> None:
        self.slotted = _Slotted()

    def remembered(self, x: Tensor) -> Any:
        self.slotted.n += _STEP
        return self.slotted.n


class InClosure(Remembering):
    def prepare(self) -> None:
        n = [0.0]

        def closed() -> float:
            n[0] += _STEP
            return n[0]

        self.closed = closed

    def remembered(self, x: Tensor) -> Any:
        return self.closed()


class InGlobal(Remembering):
    def remembered(self, x: Tensor) -> Any:
        _SEEN.append(0)
        return _STEP * len(_SEEN)


class InBuffer(Remembering):
    n: Tensor

    def prepare(self) -> None:
        self.register_buffer("n", torch.zeros(()))

    def remembered(self, x: Tensor) -> Any:
        self.n += _STEP
        return self.n.clone()


class InParameter(Remembering):
    def prepare(self) -> None:
        self.p = nn.Parameter(torch.zeros(()))

    def remembered(self, x: Tensor) -> Any:
        self.p.data += _STEP
        return self.p.detach().clone()


class InCache(Remembering):
    """The first images of a call are the answer for ever."""

    def prepare(self) -> None:
        self.first = functools.cache(lambda shape: self.latest.clone())

    def remembered(self, x: Tensor) -> Any:
        self.latest = x.mean()
        return self.first(x.shape)


class InGenerator(Remembering):
    def prepare(self) -> None:
        def count() -> Iterator[float]:
            n = 0.0
            while True:
                yield n
                n += _STEP

        self.numbers = count()

    def remembered(self, x: Tensor) -> Any:
        return next(self.numbers)


class InCounter(Remembering):
    def prepare(self) -> None:
        self.numbers = itertools.count()

    def remembered(self, x: Tensor) -> Any:
        return _STEP * next(self.numbers)


class InClass(Remembering):
    total = 0.0

    def remembered(self, x: Tensor) -> Any:
        InClass.total += _STEP
        return InClass.total


class InDefault(Remembering):
    def remembered(self, x: Tensor, seen: list[int] = []) -> Any:  # noqa: B006 (the fault)
        seen.append(0)
        return _STEP * len(seen)


class InRandomNumbers(Remembering):
    """Seeded by its author, so that no seed of ours reaches it."""

    def prepare(self) -> None:
        self.drawn = torch.Generator().manual_seed(1)

    def remembered(self, x: Tensor) -> Any:
        return torch.rand((), generator=self.drawn)


class InPythonRandom(Remembering):
    def prepare(self) -> None:
        self.random = random.Random(1)

    def remembered(self, x: Tensor) -> Any:
        return self.random.random()


class InFunction(Remembering):
    def remembered(self, x: Tensor) -> Any:
        _counted.calls = getattr(_counted, "calls", 0) + 1  # type: ignore[attr-defined]
        return _STEP * _counted.calls  # type: ignore[attr-defined]


def _counted() -> None:
    """A function with an attribute."""


class FromThirdCall(Remembering):
    def prepare(self) -> None:
        self.calls = 0

    def remembered(self, x: Tensor) -> Any:
        self.calls += 1
        return _STEP if self.calls == 3 else 0.0


class EveryThirdCall(Remembering):
    def prepare(self) -> None:
        self.calls = itertools.cycle([0.0, 0.0, _STEP])

    def remembered(self, x: Tensor) -> Any:
        return next(self.calls)


class FirstImages(Remembering):
    """Normalises by what it saw first: the same images give the same until the order changes."""

    def prepare(self) -> None:
        self.mean: Any = None

    def remembered(self, x: Tensor) -> Any:
        if self.mean is None:
            self.mean = x.mean()
        return self.mean


class Largest(Remembering):
    def prepare(self) -> None:
        self.largest = torch.tensor(0.0)

    def remembered(self, x: Tensor) -> Any:
        self.largest = torch.maximum(self.largest, x.max())
        return self.largest


class BelowThreshold(Remembering):
    """Too little to change a spike: currents are compared, too."""

    def prepare(self) -> None:
        self.n = 0

    def remembered(self, x: Tensor) -> Any:
        self.n += 1
        return self.n * 2.0**-20


# Each with what the message names.
PLANTED: Mapping[Callable[[], Remembering], str] = {
    InNumber: "self.n",
    InMembrane: "self.v",
    InDict: "self.d",
    InList: "self.kept",
    InDeque: "self.delayed",
    InObject: "self.box",
    InSlot: "self.slotted",
    InClosure: "self.closed",
    InGlobal: "remembered's global _SEEN",
    InBuffer: "self.n",
    InParameter: "self.p",
    InCache: "self.first, self.latest",
    InGenerator: "self.numbers",
    InCounter: "self.numbers",
    InClass: "InClass.total",
    InDefault: "remembered's default 0",
    InRandomNumbers: "self.drawn",
    InPythonRandom: "self.random",
    InFunction: "nothing that it holds itself",
    FromThirdCall: "self.calls",
    EveryThirdCall: "self.calls",
    FirstImages: "self.mean",
    Largest: "self.largest",
    BelowThreshold: "self.n",
}


class AfterManyCalls(Remembering):
    """Not seen: nobody calls it as often."""

    def prepare(self) -> None:
        self.calls = 0

    def remembered(self, x: Tensor) -> Any:
        self.calls += 1
        return _STEP if self.calls > 20 else 0.0


class OfRareImages(Remembering):
    """Not seen: no image that is tried sets it."""

    def prepare(self) -> None:
        self.alarm = False

    def remembered(self, x: Tensor) -> Any:
        self.alarm = self.alarm or bool((x > 1e6).any())
        return _STEP if self.alarm else 0.0


UNSEEN: tuple[Callable[[], Remembering], ...] = (AfterManyCalls, OfRareImages)
