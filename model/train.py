"""Train one of our models on the digits: `python -m lapilli.model.train spikformer OUT`.

Deterministic for a given machine and thread count; a run takes a few minutes on two cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional

from lapilli.model.digits import PREPROCESSING, Split, load_digits
from lapilli.model.families.spike_driven import SpikeDrivenConfig, SpikeDrivenTransformer
from lapilli.model.families.spikformer import Spikformer, SpikformerConfig
from lapilli.model.loading.checkpoint import save_checkpoint

# One pool, on spikes, in the third stem stage: 8 x 8 pixels become 4 x 4 tokens.
SPIKFORMER = SpikformerConfig(in_channels=1, embed_dim=40, heads=5, depth=2, pooling="0010")
SPIKE_DRIVEN = SpikeDrivenConfig(in_channels=1, embed_dim=40, heads=5, depth=2, pooling="0010")


def _shift(images: Tensor) -> Tensor:
    """Move each image by -1, 0 or 1 pixel on both axes, filling with background."""
    padded = functional.pad(
        images, (1, 1, 1, 1), value=float(PREPROCESSING.normalise(np.zeros((1, 1, 1, 1), np.uint8)))
    )
    dy, dx = torch.randint(0, 3, (2, len(images)))
    rows = (dy[:, None] + torch.arange(8))[:, None, :, None]
    columns = (dx[:, None] + torch.arange(8))[:, None, None, :]
    return padded[torch.arange(len(images))[:, None, None, None], torch.tensor(0), rows, columns]


def train(model: nn.Module, split: Split, epochs: int, seed: int) -> None:
    """Fit `model` in place: AdamW, one-cycle schedule, label smoothing, shifts of one pixel."""
    generator = torch.Generator().manual_seed(seed)
    x, y = PREPROCESSING.normalise(split.images), torch.from_numpy(split.labels)
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.02)
    steps = epochs * -(-len(x) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps)
    model.train()
    for _ in track(range(epochs), description="training"):
        for batch in torch.randperm(len(x), generator=generator).split(64):
            loss = functional.cross_entropy(model(_shift(x[batch])), y[batch], label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def main() -> None:
    """Train, report the accuracy on the test split and write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=("spikformer", "spike-driven"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.use_deterministic_algorithms(True)
    config = SPIKFORMER if args.model == "spikformer" else SPIKE_DRIVEN
    model = (
        Spikformer(config)
        if isinstance(config, SpikformerConfig)
        else SpikeDrivenTransformer(config)
    )
    train_split, test_split = load_digits()
    train(model, train_split, args.epochs, args.seed)
    right = PREPROCESSING.right(model, test_split.images, test_split.labels)
    print(f"{args.model}: {right} of {len(test_split.labels)} test images right")  # noqa: T201
    save_checkpoint(args.out, model, config, PREPROCESSING)


if __name__ == "__main__":
    main()
