"""The time axis of a program that was read from the first step of a loop."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace

from lapilli.ir.errors import CaptureError
from lapilli.model.capture import axes, program
from lapilli.model.capture.axes import Factor
from lapilli.model.capture.program import Call
from lapilli.model.capture.rolling import Gathered


def gather(name: str, x: Call, gathered: Gathered, T: int) -> Call:
    """Make the operator over T that takes all steps of `x` together.

    Raises:
        CaptureError: the steps are joined along an axis that has elements of its own.
    """
    if gathered.how == "sum":
        op: program.Operator = program.Sum(axes=(), keepdims=False, mean=False, time=True)
        dims = x.dims
    elif gathered.how == "last":
        op, dims = program.Last(), x.dims
    else:
        rank = len(x.dims) + (gathered.how == "stack")
        at = gathered.axis % rank
        if gathered.how == "cat" and x.dims[at]:
            raise CaptureError("", f"joins the steps along {axes.show(x.dims)}; stack them")
        op = program.Reshape()
        dims = (*x.dims[:at], (Factor("T", T),), *x.dims[at + (gathered.how == "cat") :])
    return Call(name, op, (x.name,), "", dims)


def with_steps(calls: Mapping[str, Call], in_loop: AbstractSet[str], T: int) -> dict[str, Call]:
    """Make T the first axis of what was translated for the first step: it is every step's."""
    time = (Factor("T", T),)
    (image,) = (c for c in calls.values() if isinstance(c.op, program.Input))
    shown = f"{image.name}.steps"
    timed = axes.has(image.dims, "T")
    result = dict(calls)
    for name, call in calls.items():
        if name not in in_loop or call is image:
            continue
        inputs = call.inputs
        if not timed:
            inputs = tuple(shown if i == image.name else i for i in inputs)
        dims = call.dims if axes.has(call.dims, "T") else (time, *call.dims)
        result[name] = replace(call, inputs=inputs, dims=dims)
    if timed:
        return result
    repeated = Call(shown, program.Expand(), (image.name,), "", (time, *image.dims))
    return {image.name: image, shown: repeated, **result}


def steps_of(calls: Mapping[str, Call]) -> int:
    """Return T; 1 if neurons saw an axis of length 1 in its place.

    Raises:
        CaptureError: no neuron was called, or there is no one length of a time axis.
    """
    sizes = {f.size for c in calls.values() for d in c.dims for f in d if f.name == "T"}
    fires = [c for c in calls.values() if isinstance(c.op, program.Neuron | program.Membrane)]
    if not fires:
        raise CaptureError("", "has no time axis: no neuron that lapilli knows was called")
    if len(sizes) > 1:
        raise CaptureError("", f"has time axes of different lengths: {sorted(sizes)}")
    for call in fires:
        if sizes and not axes.has(call.dims, "T"):
            raise CaptureError(
                call.path, f"the neuron sees one time step, other values have {min(sizes)}"
            )
    return min(sizes, default=1)
