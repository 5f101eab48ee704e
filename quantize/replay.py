"""Make the PyTorch side of a network again, from its recipe: nothing is calibrated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from torch import nn

from lapilli.ir import ops
from lapilli.ir.errors import RecipeError
from lapilli.ir.graph import Graph
from lapilli.ir.network import Network
from lapilli.ir.recipe import NEAREST, Recipe, Rounding, SynapseRecord
from lapilli.ir.targets.table import NAMES, named
from lapilli.model.capture import program
from lapilli.model.capture.named_inputs import with_named_inputs
from lapilli.model.capture.program import neuron_of
from lapilli.model.neurons.adapters import Description, described_classes
from lapilli.model.neurons.described import parse_rule, rule_text
from lapilli.quantize.image_scale import image_scale
from lapilli.quantize.lower import Lowered, lower, unspread
from lapilli.quantize.neurons import StateFormat
from lapilli.quantize.options import QuantizeOptions, layout_of
from lapilli.quantize.preparation import Prepared, prepare
from lapilli.quantize.pytorch.assembly import assemble
from lapilli.quantize.pytorch.reference import PyTorchReference
from lapilli.quantize.pytorch.runnable import reasons
from lapilli.quantize.recipe import parameter_digest, uses_of
from lapilli.quantize.reconstruction.thresholds import with_thresholds
from lapilli.quantize.weights import (
    Folded,
    IntegerUnit,
    distances,
    fold,
    neuron_factors,
    round_unit,
)


def reference_of(
    network: Network,
    model: nn.Module,
    *,
    neurons: Mapping[str, Description] | None = None,
    other_parameters: bool = False,
) -> PyTorchReference:
    """Put the integers of a network into the model that it was made from.

    Weights are rounded anew, by the scales that the recipe holds: a file whose weights were
    changed is found by comparing. Integers of a method that looks at more than one weight at a
    time are taken from the file, and each is checked against the method's bound. Thresholds that
    were moved are the recipe's.

    Args:
        network: with its recipe.
        model: in evaluation mode, with its trained parameters; captured untouched.
        neurons: as for `quantize`; needed again only where modules of one described class have
            rules that differ.
        other_parameters: go on with a model whose parameters are not those of the recipe.

    Raises:
        RecipeError: the network has no recipe, or the model is not the one it was made from.
        CaptureError, QuantizeError: see `quantize`.
    """
    made = require_recipe(network, model, other_parameters=other_parameters)
    if network.parts:
        model = with_named_inputs(model, network.parts)
    options = _options(made, model, neurons)
    image = network.graph.types[network.graph.inputs[0]]
    with_time = "T" in layout_of(options)
    sample = (network.graph.T, *image.shape) if with_time else image.shape
    prepared = prepare(model, sample, image_scale(network.input), options)
    signature = prepared.captured.signature
    if signature.results != made.returned:
        raise RecipeError("was made from a model that answers otherwise than this one")
    _check_rules(made, prepared, other_parameters=other_parameters)
    units = _units(made, network.graph, prepared)
    prepared = replace(prepared, merged=with_thresholds(prepared.merged, _moved(made)))
    factors, bits = neuron_factors(prepared.plan, units), named(made.target or NAMES[0]).state_bits
    lowered = lower(prepared.merged, units, image, _formats(made), factors, state_bits=bits)
    _check_names(made, lowered)
    why = reasons(prepared.merged, prepared.plan, units)
    prepared = prepared.without_weights() if why else prepared
    return assemble(prepared, units, lowered, network.graph, network.input, program=bool(why))


def require_recipe(network: Network, model: nn.Module, *, other_parameters: bool = False) -> Recipe:
    """Return the recipe of a network, if `model` has the parameters that it names.

    Raises:
        RecipeError: it has none, or the parameters are others, and were not to be.
    """
    if network.recipe is None or len(network.graph.inputs) != 1:
        raise RecipeError(
            "holds no recipe of how it was made (an older file, or an imported one): "
            "quantize the model again"
        )
    if not other_parameters and parameter_digest(model) != network.recipe.parameters:
        raise RecipeError(
            "was made from other parameters than this model's: give the checkpoint of those"
        )
    return network.recipe


def _options(
    made: Recipe, model: nn.Module, neurons: Mapping[str, Description] | None
) -> QuantizeOptions:
    options = QuantizeOptions(layout=str(made.options.get("layout", "BCHW")))
    options["per_sample"] = made.options.get("per_sample") is True
    ids = made.options.get("ids")
    options["ids"] = ids if isinstance(ids, int) else None
    result, over_time = made.options.get("result"), made.options.get("over_time")
    if isinstance(result, int | str):
        options["result"] = result
    elif isinstance(result, list):
        options["result"] = [key for key in result if isinstance(key, int | str)]
    if isinstance(over_time, str):
        options["over_time"] = over_time
    elif isinstance(over_time, dict):
        options["over_time"] = {name: str(said) for name, said in over_time.items()}
    named = made.options.get("neurons")
    if neurons:
        options["neurons"] = neurons
    elif isinstance(named, dict) and named:
        options["neurons"] = {
            name: parse_rule(text) if isinstance(text, str) else _described(made, model, name)
            for name, text in named.items()
        }
    return options


def _described(made: Recipe, model: nn.Module, name: str) -> Description:
    """The one rule that all modules of a described class had."""
    kinds = described_classes(model, [name])
    paths = {path for path, module in model.named_modules() if type(module) in kinds}
    rules = [record.rule for record in made.neurons if record.path in paths]
    if not rules or any(rule != rules[0] for rule in rules):
        raise RecipeError(f"describes {name} by more than one rule; give `neurons` again")
    return parse_rule(rules[0])


def _check_rules(made: Recipe, prepared: Prepared, *, other_parameters: bool) -> None:
    found = {
        (fire.module, fire.call): fire
        for call in prepared.merged.calls.values()
        if isinstance(call.op, program.Neuron | program.Membrane)
        for fire in (neuron_of(call),)
    }
    for record in made.neurons:
        fire = found.get((record.path, record.use))
        if fire is None:
            raise RecipeError(f"was made from a model with a neuron {record.path!r}; this has none")
        if not other_parameters and rule_text(fire.rule) != record.rule:
            raise RecipeError(
                f"was made from a model whose neuron {record.path!r} has other constants"
            )


def _formats(made: Recipe) -> dict[tuple[str, int], StateFormat]:
    """The states that had to be coarser."""
    return {
        (r.path, r.use): StateFormat(
            r.fraction_bits, loihi_threshold=r.loihi_threshold is not False
        )
        for r in made.neurons
        if r.fraction_bits is not None
    }


def _moved(made: Recipe) -> dict[tuple[str, int], Fraction]:
    """Thresholds that stand in for trained ones."""
    return {(r.path, r.use): r.moved for r in made.neurons if r.moved is not None}


def _units(made: Recipe, graph: Graph, prepared: Prepared) -> dict[str, IntegerUnit]:
    records = {(record.path, record.use): record for record in made.synapses}
    uses, units = uses_of(prepared.plan), {}
    for name, unit in prepared.plan.units.items():
        record = records.pop((unit.path, uses[name]), None)
        if record is None:
            raise RecipeError(f"was made from a model without the linear map {unit.path!r}")
        folded = fold(prepared.merged, unit)
        scales = record.weight_scale, record.output_scale
        if record.factors and len(record.factors) != len(folded.bias):
            raise RecipeError(f"holds {len(record.factors)} scales of channels of {unit.path!r}")
        nearest = round_unit(unit, folded, *scales, record.exponent, record.bits, record.factors)
        if made.rounding.method == NEAREST:
            units[name] = nearest
        else:
            op = prepared.merged.calls[name].op
            units[name] = _from_file(graph, record, op, nearest, folded, made.rounding)
    if records:
        path, _ = next(iter(records))
        raise RecipeError(f"was made from a model with a linear map {path!r}; this has none")
    return units


def _from_file(
    graph: Graph,
    record: SynapseRecord,
    op: program.Operator,
    nearest: IntegerUnit,
    folded: Folded,
    rounding: Rounding,
) -> IntegerUnit:
    """The integers of a synapse as the file has them, each within its bound of value / scale."""
    held = graph.by_name[record.node].op if record.node in graph.by_name else None
    if not isinstance(held, ops.Weighted) or not isinstance(op, program.Synapse):
        raise RecipeError(f"holds no synapse {record.node!r}, which its recipe names")
    weight = unspread(held.weight, op, nearest.weight.shape)
    unit = replace(nearest, weight=weight, bias=held.bias)
    for what, far, bound in zip(
        ("weight", "bias"), distances(folded, unit), (rounding.bound, rounding.bias_bound),
        strict=True,
    ):  # fmt: skip
        if far > bound:
            raise RecipeError(
                f"holds an integer of {record.node!r} that lies {float(far):.3g} from {what} / "
                f"scale; its method allows {float(bound):g}"
            )
    return unit


def _check_names(made: Recipe, lowered: Lowered) -> None:
    """The nodes of the recipe are those that this model makes."""
    mine = {*lowered.synapses, *lowered.neurons}
    named = [r.node for r in made.synapses] + [r.node for r in made.neurons]
    if odd := [node for node in named if node not in mine]:
        raise RecipeError(f"was made from a model that names node {odd[0]!r} otherwise")
