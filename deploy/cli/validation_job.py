"""What one validation is, as a value that another process or machine can open again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lapilli.deploy.cli import images as image_files
from lapilli.deploy.cli.image_set import Images
from lapilli.deploy.cli.models import ModelOptions, open_again
from lapilli.deploy.comparison.compare import Pixels, affordable_batch
from lapilli.deploy.comparison.targets import target
from lapilli.deploy.data.reading import Data, How
from lapilli.deploy.validation.images import ImageSet
from lapilli.deploy.validation.plan import Plan
from lapilli.deploy.validation.shard import Result, validate_shard
from lapilli.deploy.validation.sides import Sides, Witness
from lapilli.deploy.validation.summary import About
from lapilli.export.native import load_network
from lapilli.ir.errors import InputError
from lapilli.ir.network import Network, Task

if TYPE_CHECKING:
    from lapilli.deploy.cli.flow import Model

Told = Callable[[str, int, int], None]  # by Lava, of its steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A validation as the command line asks for it; paths are absolute.

    Attributes:
        network: the `.lapilli` file.
        data: the source of images; how: they are read; count: the first of them, or all.
        labelled: whether labels are needed.
        model: a checkpoint, or code; None for none.
        asked: what else is said of the model; other_parameters: whether they may be others.
        simulator: by name; run_config: of Lava.
        shard_size: images of a shard; share: of them that are compared; batch: at a time.
    """

    network: Path
    data: str
    how: How
    count: int | None
    labelled: bool
    model: str | None
    asked: ModelOptions
    other_parameters: bool
    simulator: str
    run_config: str
    shard_size: int
    share: Fraction
    batch: int | None

    def open(self, progress: Told | None = None, *, elsewhere: bool = False) -> Opened:
        """Load the network, find the images, make the model, and check that they fit.

        Args:
            progress: told by Lava of its steps.
            elsewhere: workers run it, each of which captures the model; here it is only looked at.

        Raises:
            LapilliError: they do not.
        """
        network = load_network(self.network)
        if network.task is not Task.CLASSES:
            raise InputError(
                "validate counts images whose class is right, and this network names no class of a "
                "whole image: compare takes it"
            )
        images = self._images(network)
        plan = Plan(images=images.count, shard=self.shard_size, share=self.share)
        witness, identity, about = None, None, _about(network, None)
        if self.model is not None:
            model = open_again(self.model, self.asked, network)
            if elsewhere:
                from lapilli.quantize.replay import require_recipe

                require_recipe(network, model.module, other_parameters=self.other_parameters)
            else:
                witness = _witness(network, model, other_parameters=self.other_parameters)
            identity, about = _identity(model), _about(network, model)
        simulator = target(self.simulator, progress, self.run_config)
        executable = simulator.compile(network.graph)
        # Beside the two recordings that it counts stands what the float model showed.
        batch = self.batch or max(1, affordable_batch(network.graph) // 2)
        options = {
            "network": network.digest,
            "model": identity,
            "data": images.describe(),
            "images": plan.images,
            "skip_unreadable": images.skip_unreadable,
            "shard_size": plan.shard,
            "share": str(plan.share),
            "batch": batch,
            "simulator": self.simulator,
            "run_config": self.run_config,
        }
        return Opened(
            sides=Sides(network=network, executable=executable, witness=witness),
            images=images,
            plan=plan,
            batch=batch,
            about=about,
            options=options,
        )

    def _images(self, network: Network) -> ImageSet:
        how = image_files.how_for(network, self.how)
        data = image_files.held_out_data(self.data, how, self.count)
        count = len(data) if self.count is None else min(self.count, len(data))
        labels = None if data.labels is None or not self.labelled else data.labels[:count]
        if labels is None and self.labelled:
            raise InputError(
                f"{data.source}: holds no labels, which accuracy needs; give them (docs/data.md), "
                "or say --no-labels to count and compare spikes alone"
            )
        black = np.zeros((1, *data.shape), np.uint8)  # stands for all, which have its shape
        Images(black, labels, data.source).require_fit(network)
        return ImageSet(
            data=data,
            count=count,
            labels=labels,
            skip_unreadable=self.how.skip_unreadable,
            require_fit=_fitting(network, data),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opened:
    """A job whose files are open.

    Attributes:
        sides: what is run; without PyTorch's where workers run it.
        images, plan, batch: on what, divided how, how many at a time.
        about: what the summary says beside results.
        options: what results depend on; the folder holds them.
    """

    sides: Sides
    images: ImageSet
    plan: Plan
    batch: int
    about: About
    options: dict[str, Any]

    def run(
        self, shard: int, *, stop: bool = False, advance: Callable[[int], None] | None = None
    ) -> Result:
        """Run one shard; see `validate_shard`."""
        with ExitStack() as stack:
            if self.sides.witness is not None:  # PyTorch is there, and takes and frees the most
                from lapilli.quantize.kept_memory import memory_kept

                stack.enter_context(memory_kept())
            return validate_shard(
                self.sides, self.images, self.plan, shard,
                batch=self.batch, stop=stop, advance=advance,
            )  # fmt: skip


def _fitting(network: Network, data: Data) -> Callable[[Pixels], None]:
    return lambda pixels: Images(pixels, None, data.source).require_fit(network)


def _witness(network: Network, model: Model, *, other_parameters: bool) -> Witness:
    from lapilli.deploy.cli.sides import float_side, quantized_side

    reference, preprocessing = quantized_side(network, model, other_parameters=other_parameters)
    in_float = float_side(network, model, reference)
    return Witness(reference=reference, in_float=in_float.run, preprocessing=preprocessing)


def _identity(model: Model) -> dict[str, Any]:
    """Say which model it is: a digest of its parameters, and how it prepares images."""
    from lapilli.quantize.recipe import parameter_digest

    own = model.preprocessing
    encoding = None if own is None else {"mean": list(own.mean), "std": list(own.std)}
    return {"parameters": parameter_digest(model.module), "normalisation": encoding}


def _about(network: Network, model: Model | None) -> About:
    notes = network.recipe.notes if network.recipe else ()
    known = None
    if model is not None:
        from lapilli.deploy.cli.sides import known_of_images

        known = known_of_images(network, model)
    return About(
        classes=network.class_count,
        with_model=model is not None,
        renamed=known.renamed(network.classes) if known else (),
        warnings=tuple(str(note) for note in notes if note.is_warning),
    )
