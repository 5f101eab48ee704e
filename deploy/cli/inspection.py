"""What a checkpoint is, what is missing, and the command to run next."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lapilli.deploy.cli.taken import taken_from
from lapilli.model.families import presets
from lapilli.model.families import table as families
from lapilli.model.loading.checkpoint import Checkpoint, load_checkpoint
from lapilli.model.loading.foreign import Foreign, foreign
from lapilli.model.loading.shapes import SPELLINGS, told_by_shapes

_NORMALISATION = (
    "normalisation (--mean, --std; --counts for numbers of events; --layout for what is no image)"
)
_IMAGES = "images that the model knows (--calibration: a folder or a file, docs/data.md)"


def checkpoint_facts(file: Path, key: str | None = None) -> dict[str, Any]:
    """The facts that `lapilli inspect` prints.

    Args:
        file: a checkpoint, or the index or folder of one in several files.
        key: which of several sets of parameters.

    Raises:
        CheckpointError: it cannot be read.
    """
    checkpoint = load_checkpoint(file, key)
    own = None if checkpoint.family else foreign(checkpoint.state)
    return {
        "kind": "checkpoint",
        **taken_from(checkpoint),
        "family": checkpoint.family or (own.name if own else "unknown"),
        "parameters": sum(v.numel() for v in checkpoint.state.values()),
        "entries": len(checkpoint.state),
        "unused": len(families.unused(checkpoint.state)),
        "config": asdict(checkpoint.config) if checkpoint.config else "not in the file",
        **_continued(file, checkpoint, own, "" if key is None else f" --key {shlex.quote(key)}"),
    }


def _continued(file: Path, checkpoint: Checkpoint, own: Foreign | None, key: str) -> dict[str, Any]:
    if own is not None:
        return _elsewhere(file, own, key)
    if checkpoint.family is not None or checkpoint.config is not None:
        return _here(file, checkpoint, key)
    known = checkpoint.preprocessing is not None  # `lapilli train` wrote it
    return {
        "why": families.undecided(checkpoint.state),
        **_told(checkpoint),
        "missing": ["the class of the model", *([] if known else [_NORMALISATION]), _IMAGES],
        "next": f"lapilli quantize FILE.py:CLASS --checkpoint {shlex.quote(str(file))}{key} "
        f"{'' if known else '--mean ... --std ... '}--calibration IMAGES -o {_output(file)}",
        "note": "FILE.py:CLASS, or PACKAGE.MODULE:CLASS, is imported and called: it runs code",
    }


def _told(checkpoint: Checkpoint) -> dict[str, Any]:
    """Arguments of the class that shapes tell, where it calls them so: `quantize` fills them in."""
    told = told_by_shapes(checkpoint.state)
    return {"shapes tell": [f"{n}={told[n]}" for n in SPELLINGS if n in told]} if told else {}


def _output(file: Path) -> str:
    return shlex.quote(f"{file.stem}.lapilli")


def _here(file: Path, checkpoint: Checkpoint, key: str) -> dict[str, Any]:
    """Of our families."""
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
    name = shlex.quote(str(file))
    facts["next"] = f"lapilli quantize {name}{key}{options} -o {_output(file)}"
    if checkpoint.config is None and not fits:  # its keys fit; its class may still be another
        facts["or"] = (
            f"lapilli quantize FILE.py:CLASS --checkpoint {name}{key} --mean ... --std ... "
            f"--calibration IMAGES -o {_output(file)}, where the class is your own"
        )
    return facts


def _elsewhere(file: Path, own: Foreign, key: str) -> dict[str, Any]:
    """Of another package, whose own class runs."""
    told = [f"--arg {shlex.quote(f'{k}={v}')}" for k, v in own.arguments.items()]
    asked = [f"--arg {name}=..." for name in own.unknown]
    checkpoint = f"--checkpoint {shlex.quote(str(file))}{key}"
    options = " ".join([*told, *asked, checkpoint, "--mean ... --std ..."])
    return {
        "missing": [f"{', '.join(own.unknown)} (--arg)", _NORMALISATION, _IMAGES],
        "next": f"lapilli quantize {own.source} {options} --calibration IMAGES -o {_output(file)}",
    }
