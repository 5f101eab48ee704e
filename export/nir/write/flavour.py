"""For whom a `.nir` file is written; a module of its own, so that naming it imports nothing."""

from __future__ import annotations

import enum


class Flavour(enum.Enum):
    """For whom a file is written."""

    CANONICAL = "canonical"  # integers, NIR's own neurons, a threshold for each neuron
    PORTABLE = "portable"  # what other people's importers run exactly
    FUSED = "fused"  # the same without branches: for importers that read chains
