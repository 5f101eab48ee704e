"""What `import lapilli` offers: the flow in a dozen calls, the same words as on the command line.

Each call imports what it needs when it is called; the others stay unloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Unpack

from lapilli.deploy.comparison.compare import Comparison, compare_all
from lapilli.deploy.comparison.targets import target
from lapilli.export.native import load_network, save_network
from lapilli.export.nir.write.flavour import Flavour
from lapilli.ir.errors import InputError, MismatchError
from lapilli.ir.network import Network
from lapilli.ir.parts import Given, as_rows
from lapilli.ir.recording import Recording
from lapilli.simulators.protocol import Executable, Simulator

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lapilli.costs.report import CostReport
    from lapilli.deploy.report.layers import QuantizationReport
    from lapilli.export.c.writer import Written
    from lapilli.export.nir.check.check import Finding
    from lapilli.model.fit import Options, Split
    from lapilli.quantize.finetuning import FineTuned, TunedEpoch
    from lapilli.quantize.options import QuantizeOptions
    from lapilli.quantize.pipeline import Quantized

Pixels = npt.NDArray[Any]  # bytes of images; or real numbers, of what a layout says is none
On = str | Simulator  # a simulator's name, FILE.py:NAME, PACKAGE.MODULE:NAME, or one of your own


def quantize_model(
    model: nn.Module, images: Tensor | Mapping[str, Tensor], **options: Unpack[QuantizeOptions]
) -> Quantized:
    """Turn a trained spiking transformer into integers.

    Args:
        model: in evaluation mode; captured untouched, never changed.
        images: normalised *training* images (count, C, H, W), or (count, T, C, H, W); what a
            `layout` says, of several inputs by name.
        options: `mean`, `std`, `weight_bits` and the others of `QuantizeOptions`.

    Returns:
        The network, and the PyTorch reference that it must equal.

    Raises:
        CaptureError, QuantizeError, RangeError: the model cannot be captured, or has no integers.
    """
    from lapilli.quantize import quantize

    return quantize(model, images, **options)


def finetune(
    model: nn.Module,
    images: Pixels,
    labels: npt.NDArray[np.int64],
    *,
    training: Options | None = None,
    held_out: Split | None = None,
    calibration: int | None = None,
    resumed: nn.Module | None = None,
    done: int = 0,
    after: Callable[[nn.Module, TunedEpoch], None] | None = None,
    **options: Unpack[QuantizeOptions],
) -> FineTuned:
    """Train a module further in the integers that it will become.

    Args:
        model: trained in float, in evaluation mode; never changed.
        images: training images, bytes (count, C, H, W), or (count, T, C, H, W); of another layout
            floats, of token ids whole numbers, samples first, then time.
        labels: (count,) numbers of classes.
        training: `lapilli.model.fit.Options`; 10 epochs by default.
        held_out: `lapilli.model.fit.Split`, on which right answers of the integers are counted.
        calibration: how many of the first images calibrate; all by default.
        resumed: what an earlier run on this `model` has come to.
        done: the epochs that it has done.
        after: called after each epoch with the module as it is, in which to save it.
        options: of `quantize_model`; `mean` and `std` normalise the images. With
            `weight_scale="learned"` scales of weights learn too; a run that goes on takes the
            `weight_steps` of its latest epoch.

    Returns:
        The module with its trained parameters, and what `quantize_model` makes of it.

    Raises:
        InputError: images and labels that do not fit each other or the model.
        CaptureError, QuantizeError, RangeError: the model has no integers, or cannot learn so.
    """
    from lapilli.quantize.finetuning import finetune as tune

    return tune(
        model,
        images,
        labels,
        training=training,
        held_out=held_out,
        calibration=calibration,
        resumed=resumed,
        done=done,
        after=after,
        **options,
    )


def save(network: Network, path: str | Path) -> None:
    """Write a `.lapilli` file, whole or not at all.

    Raises:
        OutputError: it cannot be written there.
    """
    save_network(network, Path(path))


def load(path: str | Path) -> Network:
    """Read a `.lapilli` file; needs no PyTorch, runs no code.

    Raises:
        FormatError: it is none, or damaged.
    """
    return load_network(Path(path))


def export_nir(
    network: Network,
    path: str | Path,
    *,
    flavour: str = "canonical",
    memory_limit: int | None = None,
) -> None:
    """Write a NIR file.

    Args:
        network: to be written.
        path: of the `.nir` file.
        flavour: canonical (integers as they are), portable (for other people's importers) or
            fused (chains of layers).
        memory_limit: bytes that its numbers may take, eight for each; 1 GiB by default.

    Raises:
        UnsupportedError: nodes that have no such form, or more numbers than that.
        InputError: no such flavour.
    """
    from lapilli.export.nir.write.writer import save_nir

    known = [f.value for f in Flavour]
    if flavour not in known:
        raise InputError(f"flavour {flavour!r} is none of {', '.join(known)}")
    save_nir(network, Path(path), flavour=Flavour(flavour), memory_limit=memory_limit)


def export_onnx(
    network: Network, path: str | Path, *, step: bool = False, inlined: bool = False
) -> None:
    """Write an ONNX model in integers alone.

    Args:
        network: to be written.
        path: of the `.onnx` file.
        step: one time step, with states as inputs and outputs, instead of a Scan over all.
        inlined: neurons as plain operators, not as functions.

    Raises:
        UnsupportedError: nodes that have no such form.
    """
    from lapilli.export.onnx.writer import save_onnx

    save_onnx(network, Path(path), step=step, inlined=inlined)


def export_net(network: Network, path: str | Path) -> None:
    """Write a chain of layers as lava-dl's `.net` file.

    Raises:
        UnsupportedError: it is no such chain.
    """
    from lapilli.export.net.writer import save_net

    save_net(network, Path(path))


def export_c(
    network: Network,
    folder: str | Path,
    *,
    name: str = "network",
    golden: str | Path | None = None,
    flash: int | None = None,
    ram: int | None = None,
    step_ram: int | None = None,
) -> Written:
    """Write a folder of portable C99, with golden vectors and a program that compares them.

    Args:
        network: to be written.
        folder: a new one, or one without files.
        name: with which its files and functions begin.
        golden: the `golden.npz` to compare with; None for two random samples.
        flash: most bytes of constants.
        ram: most bytes of RAM of a whole sample.
        step_ram: most bytes of RAM of one step per call.

    Returns:
        The files, bytes of memory, and how many values the program compares.

    Raises:
        InputError: a name that C does not take.
        UnsupportedError: it needs more memory than that, and where; or numbers beyond 32 bits.
        FormatError: no golden file of this network.
        OutputError: the folder cannot be written, or has files in it.
    """
    from lapilli.deploy.comparison.vectors import vectors_of
    from lapilli.export.c.sources import sources
    from lapilli.export.c.writer import Limits, check_limits, save_c

    limits = Limits(flash=flash, sample=ram, step=step_ram)
    check_limits(sources(network.graph, name), limits)  # before minutes on the reference
    vectors = vectors_of(network, None if golden is None else Path(golden))
    return save_c(network, Path(folder), vectors, name=name, limits=limits)


def import_nir(path: str | Path, **stated: Any) -> Network:
    """Read a NIR file whose meaning is certain, or is stated.

    Args:
        path: of the `.nir` file.
        stated: what the file does not say: the fields of `export.nir.read.metadata.Stated`.

    Raises:
        FormatError: it cannot be read, or its meaning is not certain.
    """
    from lapilli.export.nir.read.importer import network_from_nir
    from lapilli.export.nir.read.metadata import Stated

    return network_from_nir(Path(path), Stated(**stated))


def check_nir(path: str | Path, framework: str) -> list[Finding]:
    """Say what a framework's importer makes of each node of a `.nir` file.

    Raises:
        FormatError: it cannot be read.
        InputError: a framework that nobody knows.
    """
    from lapilli.export.nir.check.check import check_file

    return check_file(Path(path), framework)


def run(network: Network, images: Given, *, on: On = "reference") -> Recording:
    """Run images (B, C, H, W) of bytes, or (B, T, C, H, W), and record every neuron.

    A network that takes no images gets numbers (B, ...), or (B, T, ...). `network.read` gives the
    answers of what is returned, by name.

    Raises:
        InputError: the images do not fit.
        UnsupportedError, SimulatorUnavailableError: the simulator cannot take the network.
    """
    return _simulator(on).compile(network.graph).run(network.encode(images))


@dataclass(frozen=True, slots=True)
class Report:
    """Comparisons with one expected run, a simulator each."""

    comparisons: tuple[Comparison, ...]

    @property
    def exact(self) -> bool:
        """Whether every value of every comparison agrees, and every layer was alive.

        Of no comparison nothing is shown.
        """
        return bool(self.comparisons) and all(c.exact for c in self.comparisons)

    def require(self) -> None:
        """Do nothing if exact.

        Raises:
            MismatchError: with the first divergence, or the layers that never fired; or nothing
                was compared.
        """
        if not self.comparisons:
            raise MismatchError("nothing was compared: name at least one simulator")
        for comparison in self.comparisons:
            comparison.require()

    def __str__(self) -> str:
        return "\n".join(map(str, self.comparisons))

    def _repr_html_(self) -> str:
        """Show a notebook each comparison."""
        return "".join(one._repr_html_() for one in self.comparisons) or "<p>nothing compared</p>"


def compare(
    made: Quantized | Network,
    images: Given,
    *,
    on: On | Sequence[On] = "reference",
    model: nn.Module | None = None,
    batch: int | None = None,
) -> Report:
    """Compare every neuron at every step with PyTorch's. No tolerance.

    Args:
        made: what `quantize_model` returned; or a network from a file, with `model`.
        images: (count, C, H, W) of bytes, or (count, T, C, H, W); of several inputs by name.
        on: a simulator, or several.
        model: that the network was made from, with its trained parameters.
        batch: images per run; by default as many as 3 GiB, or a quarter of the free memory, take.

    Raises:
        RecipeError: `model` is not what the network was made from.
        InputError: a network without its model; images that do not fit.
    """
    network, expected = _sides(made, model)
    several = on if isinstance(on, Sequence) and not isinstance(on, str) else [on]
    simulators = [_simulator(one) for one in several]
    others = {s.name: s.compile(network.graph) for s in simulators}
    given = as_rows(images) if isinstance(images, Mapping) else images
    return Report(tuple(compare_all(network, expected, others, given, batch=batch)))


def quantization_report(
    made: Quantized, model: nn.Module, images: Pixels, *, on: On = "reference"
) -> QuantizationReport:
    """Measure what integers did to each layer: bits, histograms, rates, spikes unlike float's.

    Args:
        made: what `quantize_model` returned.
        model: that it was made from.
        images: (count, C, H, W) of bytes, or (count, T, C, H, W).
        on: the simulator that runs the graph beside PyTorch.

    Returns:
        Data; `deploy.report.pages.page` makes HTML, Markdown or JSON of it.

    Raises:
        InputError: images that do not fit, or none.
    """
    from lapilli.deploy.report.measure import report_on
    from lapilli.model.loading.preprocess import Preprocessing
    from lapilli.quantize.shown import preparation

    network = made.network
    if network.parts:
        raise InputError("a report takes networks of one input")
    mean, std = (tuple(map(float, v)) for v in (network.input.mean, network.input.std))
    known = Preprocessing(mean=mean, std=std, classes=network.classes)
    prepare = preparation(network, lambda: known)
    return report_on(made, model, images, prepare=prepare, on=_simulator(on))


def cost(
    network: Network,
    images: Pixels | None = None,
    *,
    on: On | None = None,
    prices: Sequence[str | Path] = (),
    batch: int | None = None,
) -> CostReport:
    """Count what a network does on images, exactly, and price it by several models.

    Args:
        network: to be counted.
        images: (count, C, H, W) of bytes, or (count, T, C, H, W); None for bounds without a run.
        on: the simulator that runs the graph; `fast` by default, where it is installed.
        prices: files of your own tables (docs/cost.md).
        batch: images per run; by default as many as memory takes.

    Returns:
        Data; `lapilli.costs.pages` makes text, JSON, CSV or LaTeX of it.

    Raises:
        InputError: images that do not fit, or on which no neuron fires; prices without a run.
        FormatError: a file that holds no prices.
    """
    from lapilli.costs.prices import read_tables
    from lapilli.costs.report import bounded, measure
    from lapilli.costs.values import watched
    from lapilli.deploy.comparison.compare import affordable_batch
    from lapilli.deploy.comparison.targets import usual

    if images is None:
        if prices:
            raise InputError("prices are for a run: give images")
        return bounded(network.graph)
    size = batch or affordable_batch(watched(network.graph))
    parts = (images[start : start + size] for start in range(0, len(images), size))
    own = [table for file in prices for table in read_tables(Path(file))]
    return measure(
        network.graph,
        (network.encode(part) for part in parts),
        _simulator(usual() if on is None else on),
        own_tables=own,
    )


def inspect(path: str | Path) -> Mapping[str, Any]:
    """Say what a file is: a checkpoint, a `.lapilli`, `.onnx`, `.nir` file, ...

    Raises:
        LapilliError: it cannot be read.
    """
    from lapilli.deploy.cli.files import file_facts

    return file_facts(Path(path))


def _sides(made: Quantized | Network, model: nn.Module | None) -> tuple[Network, Executable]:
    if not isinstance(made, Network):
        return made.network, made.reference
    if model is None:
        raise InputError("a network alone is compared with its model: compare(net, ..., model=...)")
    from lapilli.quantize.replay import reference_of

    return made, reference_of(made, model)


def _simulator(on: On) -> Simulator:
    return target(on) if isinstance(on, str) else on
