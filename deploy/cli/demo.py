"""`lapilli demo`: both digits networks, from checkpoint to Lava and back to PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from lapilli.deploy.cli.demo_report import write_demo_report
from lapilli.deploy.cli.flow import checkpoint_model, float_right, open_checkpoint, quantize_model
from lapilli.deploy.cli.image_set import Images
from lapilli.deploy.cli.images import held_out_images, training_images
from lapilli.deploy.cli.options import DIGITS
from lapilli.deploy.cli.progress import Narrator
from lapilli.deploy.comparison.compare import Comparison, compare_all
from lapilli.deploy.comparison.targets import target
from lapilli.export.native import save_network
from lapilli.export.nir.write.writer import save_nir
from lapilli.export.onnx.writer import save_onnx
from lapilli.ir.errors import UnsupportedError
from lapilli.ir.network import Network
from lapilli.ir.recipe import Note
from lapilli.simulators.lava.host.environment import LAVA
from lapilli.simulators.reference import Reference

CHECKPOINTS = Path(__file__).resolve().parents[2] / "model" / "checkpoints"
MODELS = ("spikformer", "spike_driven")


@dataclass(slots=True)
class Result:
    """What the demo found about one model.

    Attributes:
        float_right, int_right: images answered right, of `images`.
        comparisons: each against PyTorch.
        seconds: stage -> wall-clock time.
        notes: what quantization changed besides the weights.
        report: the page of all this.
    """

    model: str
    images: int
    float_right: int = 0
    int_right: int = 0
    comparisons: list[Comparison] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    notes: tuple[Note, ...] = ()
    report: Path | None = None

    @property
    def exact(self) -> bool:
        """Whether every comparison is, and there is one."""
        return bool(self.comparisons) and all(c.exact for c in self.comparisons)


def demo(
    out: Path, narrator: Narrator, *, lava_images: int = 64, lava: bool = True
) -> Iterator[Result]:
    """Run the whole flow for each model and yield its result.

    Args:
        out: folder for the `.lapilli`, `.onnx`, `.nir` and picture files, and reports; made if it
            is not there.
        narrator: is told of progress.
        lava_images: how many test images go through Lava.
        lava: whether Lava takes part.

    Raises:
        SimulatorUnavailableError: no environment for Lava.
    """
    if lava:
        LAVA.find()  # now, not after a minute of other work
    out.mkdir(parents=True, exist_ok=True)
    training, test = training_images(DIGITS), held_out_images(DIGITS)
    picture = out / "digit.png"
    Image.fromarray(test.pixels[0, 0]).save(picture)
    for name in MODELS:
        yield _one(name, out, narrator, training, test, lava_images if lava else 0)


def _one(
    name: str, out: Path, narrator: Narrator, training: Images, test: Images, lava_images: int
) -> Result:
    result = Result(name, len(test.pixels))
    model = checkpoint_model(open_checkpoint(CHECKPOINTS / f"digits_{name}.safetensors"))
    with _timed(result, "quantize", narrator, None):
        quantized = quantize_model(model, training)
        network = quantized.network
        result.notes = quantized.notes
    with _timed(result, "float", narrator, None):
        result.float_right = int(float_right(model, test, network) or 0)
    with _timed(result, "export", narrator, None):
        result.files += _export(network, out / f"digits_{name}")
    with _timed(result, "simulate", narrator, len(test.pixels)):
        others = [target(name) for name in ("event-driven", "onnx")]
        runs = {s.name: s.compile(network.graph) for s in (Reference(), *others)}
        result.comparisons += compare_all(
            network, quantized.reference, runs, test.pixels, progress=narrator.advance
        )
    if test.labels is not None:
        result.int_right = int((np.array(result.comparisons[0].answers) == test.labels).sum())
    if lava_images:
        with _timed(result, "lava", narrator, None):
            images = test.first(lava_images)
            lava = target("lava", _lava_progress(narrator)).compile(network.graph)
            result.comparisons += compare_all(
                network, quantized.reference, {"lava": lava}, images.pixels, batch=lava_images
            )
    with _timed(result, "report", narrator, None):
        result.report = write_demo_report(
            result.files[0], quantized, model, test, result.comparisons
        )
    return result


def _export(network: Network, stem: Path) -> list[Path]:
    """The graph in our own format, in ONNX, and in NIR where NIR can say it."""
    ours, onnx, nir = (stem.with_suffix(kind) for kind in (".lapilli", ".onnx", ".nir"))
    save_network(network, ours)
    save_onnx(network, onnx)
    try:
        save_nir(network, nir)
    except UnsupportedError:
        return [ours, onnx]
    return [ours, onnx, nir]


def _lava_progress(narrator: Narrator) -> Callable[[str, int, int], None]:
    def progress(_: str, done: int, total: int) -> None:
        narrator.advance(done, total)

    return progress


@contextmanager
def _timed(result: Result, stage: str, narrator: Narrator, total: int | None) -> Iterator[None]:
    narrator.stage(f"{result.model}: {stage}", total)
    start = time.perf_counter()
    yield
    result.seconds[stage] = time.perf_counter() - start
