"""What a checkpoint is, what is missing, and the command to run next."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lapilli.model.families import presets
from lapilli.model.families import table as families
from lapilli.model.loading.checkpoint import Checkpoint, load_checkpoint
from lapilli.model.loading.foreign import Foreign, foreign

_NORMALISATION = "normalisation (--mean, --std)"


def checkpoint_facts(file: Path) -> dict[str, Any]:
    """The facts that `lapilli inspect` prints.

    Raises:
        CheckpointError: it cannot be read.
    """
    checkpoint = load_checkpoint(file)
    own = None if checkpoint.family else foreign(checkpoint.state)
    return {
        "kind": "checkpoint",
        "family": checkpoint.family or (own.name if own else "unknown"),
        "parameters": sum(v.numel() for v in checkpoint.state.values()),
        "entries": len(checkpoint.state),
        "unused": len(families.unused(checkpoint.state)),
        "config": asdict(checkpoint.config) if checkpoint.config else "not in the file",
        **(_elsewhere(file, own) if own else _here(file, checkpoint)),
    }


def _here(file: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """Of our families, or of nobody's that we know."""
    fits = () if checkpoint.config else presets.fitting(checkpoint.state)
    missing, options = [], ""
    if checkpoint.config is None:
        missing.append("heads, T, time constants, thresholds, pooling (--preset or --config)")
        options = f" --preset {fits[0]}" if fits else " --config '{...}'"
    if checkpoint.preprocessing is None and not (fits and presets.normalisation(fits[0])):
        missing.append(_NORMALISATION)
        options += " --mean ... --std ..."
    facts: dict[str, Any] = {"missing": missing}
    if constants := families.learned_tau(checkpoint.state):
        shown = f"{min(constants):.3g} to {max(constants):.3g}"
        facts["learned tau"] = f"{len(constants)} neurons, {shown}"
    if fits:
        notes = {name: presets.assumed(name) for name in fits}
        facts["layout"] = list(presets.layouts(fits))
        facts["presets"] = [f"{n} (assumes {a})" if a else n for n, a in notes.items()]
    return {**facts, "next": f"lapilli quantize {file}{options} -o {file.stem}.lapilli"}


def _elsewhere(file: Path, own: Foreign) -> dict[str, Any]:
    """Of another package, whose own class runs."""
    told = [f"--arg {shlex.quote(f'{k}={v}')}" for k, v in own.arguments.items()]
    asked = [f"--arg {name}=..." for name in own.unknown]
    options = " ".join([*told, *asked, f"--checkpoint {file}", "--mean ... --std ..."])
    return {
        "missing": [f"{', '.join(own.unknown)} (--arg)", _NORMALISATION],
        "next": f"lapilli quantize {own.source} {options} -o {file.stem}.lapilli",
    }
