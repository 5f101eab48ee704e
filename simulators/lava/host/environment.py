"""Where Lava lives: a Python 3.10 environment, named by the user or built with uv."""

from __future__ import annotations

from pathlib import Path

from lapilli.simulators.environments import Environment
from lapilli.simulators.lava.shared.job import LAVA_VERSION

LAVA = Environment(
    what="Lava",
    package="lava-nc",
    version=LAVA_VERSION,
    variable="LAPILLI_LAVA_PYTHON",
    requirements=Path(__file__).with_name("requirements.txt"),
    imports="lava.proc.lif.models, safetensors, typing_extensions",
)
