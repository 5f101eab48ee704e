"""Which machine ran a shard, and what is installed there."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone

import numpy as np

from lapilli.deploy.validation.layers import Row
from lapilli.ir.version import __version__


def machine() -> Row:
    """Return name, processor and versions; none of them decides a result."""
    return {
        "ended": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": platform.node(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "process": os.getpid(),
        "lapilli": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
