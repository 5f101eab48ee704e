"""Images trained on in a CPU-second: a step of our models, and of SpikingJelly's Spikformer.

`python benchmarks/training.py`: CIFAR layout, T = 4, random images of 32 x 32; forward, backward
and AdamW, one thread, medians of interleaved rounds. The peer is SpikingJelly's own `Spikformer`
of the same width and depth, with its torch backend.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import typer
from spikingjelly.activation_based import functional as peer_functional
from spikingjelly.activation_based import neuron
from spikingjelly.activation_based.model.spikformer import Spikformer as PeerSpikformer
from torch import Tensor, nn
from torch.nn import functional

from lapilli.model.families.lif import LIF
from lapilli.model.families.spike_driven import SpikeDrivenConfig, SpikeDrivenTransformer
from lapilli.model.families.spikformer import Spikformer, SpikformerConfig
from lapilli.model.fit import lay_out

Step = Callable[[], None]
T = 4


def main(batch: int = 32, rounds: int = 5, width: int = 128, depth: int = 2) -> None:
    """Time a step of each, in turn, and print ratios."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images, labels = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))
    heads = width // 16

    def ours(pooling: str) -> nn.Module:
        return Spikformer(
            SpikformerConfig(embed_dim=width, heads=heads, depth=depth, T=T, pooling=pooling)
        )

    driven = SpikeDrivenTransformer(
        SpikeDrivenConfig(embed_dim=width, heads=heads, depth=depth, T=T, pooling="1010")
    )
    steps = {
        "SpikingJelly": _peer_step(width, heads, depth, images, labels),
        "ours, loops over T, channels first": _step(
            _looped(ours("0011")), images, labels, plain=True
        ),
        "ours": _step(ours("0011"), images, labels),
        "ours, bfloat16": _step(ours("0011"), images, labels, bfloat16=True),
        "ours, bfloat16, pooling 1010": _step(ours("1010"), images, labels, bfloat16=True),
        "Spike-driven, bfloat16, pooling 1010": _step(driven, images, labels, bfloat16=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):  # the first warms up
        for name, step in steps.items():
            start = time.process_time()
            step()
            seconds[name].append(time.process_time() - start)
    rates = {name: batch / statistics.median(times[1:]) for name, times in seconds.items()}
    for name, rate in rates.items():
        print(f"{name:38} {rate:7.1f} images a CPU-second, {rate / rates['SpikingJelly']:5.2f} x")


def _looped(model: nn.Module) -> nn.Module:
    """The same model, whose neurons take one step after the other: as they were before."""
    for module in model.modules():
        if type(module) is LIF:
            module.forward = lambda x, own=module: own.trace(x)[0]  # type: ignore[method-assign]
    return model


def _step(
    model: nn.Module, images: Tensor, labels: Tensor, *, plain: bool = False, bfloat16: bool = False
) -> Step:
    if not plain:
        lay_out(model, torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    return _trained(model.train(), lambda: model(images), labels, bfloat16=bfloat16)


def _peer_step(width: int, heads: int, depth: int, images: Tensor, labels: Tensor) -> Step:
    model = PeerSpikformer(
        T=T,
        img_size_h=32,
        img_size_w=32,
        patch_size=4,
        num_classes=10,
        embed_dims=width,
        num_heads=heads,
        depths=depth,
    ).train()
    for module in model.modules():
        if isinstance(module, neuron.BaseNode):
            module.backend = "torch"

    def logits() -> Tensor:
        peer_functional.reset_net(model)
        answers: Tensor = model(images).mean(0)
        return answers

    return _trained(model, logits, labels)


def _trained(
    model: nn.Module, logits: Callable[[], Tensor], labels: Tensor, *, bfloat16: bool = False
) -> Step:
    optimiser = torch.optim.AdamW(model.parameters())

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            answers = logits()
        optimiser.zero_grad()
        functional.cross_entropy(answers.float(), labels).backward()
        optimiser.step()

    return step


if __name__ == "__main__":
    typer.run(main)
