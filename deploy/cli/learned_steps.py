"""Learned steps of weights in the file that `lapilli finetune` writes."""

from __future__ import annotations

from lapilli.ir.errors import CheckpointError
from lapilli.model.loading.checkpoint import Checkpoint

WEIGHT_STEPS = "weight_steps"  # their name there: lists of numbers as text, by linear map


def weight_steps_of(checkpoint: Checkpoint) -> dict[str, tuple[float, ...]]:
    """Read the steps that a run of fine-tuning has learned; none if it has not.

    Raises:
        CheckpointError: they are no numbers.
    """
    told = (checkpoint.finetuning or {}).get(WEIGHT_STEPS, {})
    try:
        if not isinstance(told, dict):
            raise TypeError("no names")
        return {name: tuple(map(float, _texts(each))) for name, each in told.items()}
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            checkpoint.path, f"its {WEIGHT_STEPS} cannot be read ({error})"
        ) from error


def _texts(each: object) -> list[str]:
    if not isinstance(each, list) or not all(isinstance(text, str) for text in each):
        raise TypeError("no numbers as text")
    return each
