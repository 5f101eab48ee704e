"""Stock neurons of Lava, and portable NIR: the widths of the simulator, fewer forms of a state."""

from __future__ import annotations

from dataclasses import replace

from lapilli.ir.targets.lava import LAVA

STOCK = replace(
    LAVA,
    name="stock",
    about="only states that stock neurons and portable NIR have, as long as floats follow them",
    stock=True,
)
