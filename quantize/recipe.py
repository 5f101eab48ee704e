"""Write down how integers were made."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping

from torch import nn

from lapilli.ir.recipe import NeuronRecord, Note, Recipe, Result, Rounding, SynapseRecord
from lapilli.model.capture.program import Captured, neuron_of
from lapilli.model.neurons.described import rule_text
from lapilli.quantize.lower import Lowered
from lapilli.quantize.options import QuantizeOptions, as_json
from lapilli.quantize.plan import Plan
from lapilli.quantize.weights import IntegerUnit

_NO_PARAMETER = "num_batches_tracked"  # batch norm counts there, and nothing reads it


def recipe(
    captured: Captured,
    plan: Plan,
    units: Mapping[str, IntegerUnit],
    lowered: Lowered,
    options: QuantizeOptions,
    notes: tuple[Note, ...],
    rounding: Rounding | None = None,
) -> Recipe:
    """Write down what decided the integers of a network; `model` is the caller's to fill."""
    uses = uses_of(plan)
    synapses = tuple(
        SynapseRecord(
            node=node,
            path=plan.units[name].path,
            use=uses[name],
            weight_scale=units[name].weight_scale,
            output_scale=units[name].output_scale,
            exponent=units[name].exponent,
            bits=units[name].bits,
            factors=units[name].factors,
        )
        for node, name in lowered.synapses.items()
    )
    neurons = tuple(
        NeuronRecord(
            node=node,
            path=(fire := neuron_of(call)).module,
            use=fire.call,
            rule=rule_text(fire.rule),
            fraction_bits=neuron.format.fraction_bits if neuron.format else None,
            loihi_threshold=neuron.format.loihi_threshold if neuron.format else None,
            exact=neuron.exact,
            v_threshold=neuron.v_threshold,
            scale=neuron.scale,
            moved=fire.moved,
        )
        for node, (call, neuron) in lowered.neurons.items()
    )
    return Recipe(
        model={},
        options=as_json(options),
        parameters=parameter_digest(captured.module),
        rounding=rounding or Rounding(),
        synapses=synapses,
        neurons=neurons,
        leaf=captured.signature.leaf,
        per_step=captured.signature.per_step,
        notes=notes,
        results=() if _is_plain(captured.signature.results) else captured.signature.results,
    )


def _is_plain(results: tuple[Result, ...]) -> bool:
    return len(results) == 1 and results[0].is_plain


def uses_of(plan: Plan) -> dict[str, int]:
    """Unit -> which use of its module it is, from 0: a name that no trace of torch decides."""
    seen: Counter[str] = Counter()
    uses = {}
    for name, unit in plan.units.items():
        uses[name] = seen[unit.path]
        seen[unit.path] += 1
    return uses


def parameter_digest(module: nn.Module) -> str:
    """SHA-256 of every parameter and buffer by name, as float64: the same in any precision."""
    state = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if name.rpartition(".")[2] != _NO_PARAMETER:
            array = tensor.detach().cpu().double().contiguous().numpy()
            state.update(f"{name}\0{array.shape}\0".encode() + array.tobytes())
    return state.hexdigest()
