"""The model that a network was made from, quantized again and in float, for comparison."""

from __future__ import annotations

from dataclasses import replace

from lapilli.deploy.cli.flow import Model, module_of, normalised_as, preparation, takes_numbers
from lapilli.deploy.comparison.compare import Preprocessed
from lapilli.ir.network import Network
from lapilli.quantize.image_scale import exact
from lapilli.quantize.pytorch.float_module import FloatModule
from lapilli.quantize.pytorch.reference import PyTorchReference
from lapilli.quantize.replay import reference_of


def quantized_side(
    network: Network, model: Model, *, other_parameters: bool
) -> tuple[PyTorchReference, Preprocessed | None]:
    """Return what simulators are compared with, and what it knows of images on its own.

    Raises:
        RecipeError, CaptureError, QuantizeError: see `reference_of`.
    """
    reference = reference_of(network, model.module, other_parameters=other_parameters)
    return reference, known_of_images(network, model)


def known_of_images(network: Network, model: Model) -> Preprocessed | None:
    """Return what a model knows on its own of how images are prepared; None if nothing."""
    if model.preprocessing is None or takes_numbers(network):
        return None
    own = model.preprocessing
    source = replace(network.input, mean=exact(own.mean), std=exact(own.std))
    return Preprocessed(source, own.classes)


def float_side(network: Network, model: Model, reference: PyTorchReference) -> FloatModule:
    """Return the model itself, whose neurons are recorded under the names of the reference."""
    prepare = preparation(normalised_as(model, network), network)
    return FloatModule.beside(reference, module_of(model, network), prepare)
