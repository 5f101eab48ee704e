"""Put integers into the PyTorch side, and prove that it still computes the author's forward."""

from __future__ import annotations

from collections.abc import Mapping

from lapilli.ir.graph import Graph
from lapilli.ir.network import InputQuantizer
from lapilli.quantize.image_scale import image_scale
from lapilli.quantize.kept_memory import give_back
from lapilli.quantize.lower import Lowered
from lapilli.quantize.preparation import Prepared
from lapilli.quantize.pytorch.agreement import check_agreement
from lapilli.quantize.pytorch.exact_map import Form
from lapilli.quantize.pytorch.narrow import narrow
from lapilli.quantize.pytorch.reference import PyTorchReference, Shown
from lapilli.quantize.pytorch.runnable import Runnable, author_runnable, program_runnable
from lapilli.quantize.shiftmax import set_shiftmaxes
from lapilli.quantize.weights import IntegerUnit


def quantized_runnable(
    prepared: Prepared,
    units: Mapping[str, IntegerUnit],
    lowered: Lowered,
    *,
    program: bool,
    checked: set[Form] | None = None,
) -> Runnable:
    """Put integers into the author's module, or into the program where that cannot hold them.

    `checked`: see `program_runnable`.
    """
    merged, plan = prepared.merged, prepared.plan
    if program:
        runs = program_runnable(merged, plan, units, lowered.neurons, checked)
    else:
        runs = author_runnable(merged, plan, units, lowered.neurons)
    set_shiftmaxes(runs.module, lowered.shiftmaxes)
    if not program:
        narrow(runs.module, merged, plan, units, lowered)
    return runs


def assemble(
    prepared: Prepared,
    units: Mapping[str, IntegerUnit],
    lowered: Lowered,
    graph: Graph,
    source: InputQuantizer,
    *,
    program: bool,
) -> PyTorchReference:
    """Make the reference, of the captured program where `reasons` names any.

    Raises:
        MismatchError: the captured program is not the author's forward.
    """
    checked: set[Form] = set()
    if program:
        check_agreement(prepared.captured, checked)  # before there are weights anew: memory
        give_back()
    runs = quantized_runnable(prepared, units, lowered, program=program, checked=checked)
    return PyTorchReference(
        module=runs.module,
        image_scale=image_scale(source),
        neurons=lowered.neurons,
        answers=tuple(
            Shown(*parts)
            for parts in zip(graph.outputs, lowered.units, lowered.answers, strict=True)
        ),
        image=graph.inputs[0],
        signature=runs.signature,
        authors=prepared.captured.signature,
    )
