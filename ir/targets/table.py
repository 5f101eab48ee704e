"""Every target."""

from __future__ import annotations

from lapilli.ir.targets.float32 import FLOAT32
from lapilli.ir.targets.lava import LAVA
from lapilli.ir.targets.loihi1 import LOIHI1
from lapilli.ir.targets.loihi2 import LOIHI2
from lapilli.ir.targets.stock import STOCK
from lapilli.ir.targets.target import Target
from lapilli.ir.targets.wide import WIDE

TARGETS = (LAVA, STOCK, LOIHI1, LOIHI2, FLOAT32, WIDE)  # the default first
NAMES = tuple(target.name for target in TARGETS)


def named(name: str) -> Target:
    """Return the target of this name.

    Raises:
        KeyError: there is none.
    """
    return {target.name: target for target in TARGETS}[name]
