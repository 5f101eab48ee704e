"""Where nengo-loihi lives: old packages in an environment of their own, built with uv."""

from __future__ import annotations

from pathlib import Path

from lapilli.simulators.environments import Environment

NENGO_LOIHI = Environment(
    what="nengo-loihi",
    package="nengo-loihi",
    version="1.1.0",
    variable="LAPILLI_NENGO_LOIHI_PYTHON",
    requirements=Path(__file__).with_name("requirements.txt"),
    imports="nengo_loihi.emulator",
)
LICENCES = "nengo 3.2.0 is free for non-commercial use, nengo-loihi 1.1.0 is Apache 2.0"
VERSIONS = {"nengo-loihi": "1.1.0", "nengo": "3.2.0", "numpy": "1.23.5"}
