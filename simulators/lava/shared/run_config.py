"""By name, the run configuration: what chooses a model for each process, simulated or on chip.

`PACKAGE.MODULE:NAME` is imported in the worker, from Lava's environment; `FILE.py:NAME` is read
there. NAME, a class or a function, is called with `select_tag="fixed_pt"`.
"""

from __future__ import annotations

from pathlib import Path

from lapilli.ir.errors import InputError

SIMULATED = "lava.magma.core.run_configs:Loihi2SimCfg"


def located(name: str) -> str:
    """The name as the worker can use it: the path of a file is made absolute.

    Raises:
        InputError: it is no such name, or there is no such file.
    """
    place, _, attribute = name.rpartition(":")
    path = Path(place).expanduser().resolve()
    if place.endswith(".py") and attribute.isidentifier():
        if not path.is_file():
            raise InputError(f"run configuration {name!r}: no such file")
        return f"{path}:{attribute}"
    if not attribute.isidentifier() or not all(p.isidentifier() for p in place.split(".")):
        raise InputError(f"run configuration {name!r} is not PACKAGE.MODULE:NAME or FILE.py:NAME")
    return name
