"""Our own `.onnx` file, on onnxruntime: shows that the file means the graph.

The models run as they are written; only outputs are added, for what a recording wants.
Everything in them is an integer, and what comes back is one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lapilli.ir.errors import MismatchError, RangeError, SimulatorUnavailableError
from lapilli.ir.graph import Graph
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray

if TYPE_CHECKING:
    from onnx import ModelProto

_QUIET = 3  # onnxruntime's log: errors only


@dataclass(frozen=True, slots=True)
class Onnx:
    """The graph as an `.onnx` model, on onnxruntime's CPU.

    Attributes:
        step: the model of one step, in a loop here, instead of the `Scan` over all.
        inlined: the model of plain operators, instead of the one that calls our functions.
    """

    name: str = "onnx"
    step: bool = False
    inlined: bool = False

    def compile(self, graph: Graph) -> _OnnxExecutable:
        """Export, check with onnx's own checker, load.

        Raises:
            UnsupportedError: lists every node that ONNX's integers cannot compute exactly.
            SimulatorUnavailableError: onnx or onnxruntime is missing, or too old.
        """
        try:
            import onnx
            import onnxruntime  # noqa: F401
        except ImportError as error:
            raise SimulatorUnavailableError(
                f"the onnx simulator needs {error.name}: pip install 'lapilli[onnx]'"
            ) from error
        from lapilli.export.onnx.writer import to_onnx  # needs onnx

        model = to_onnx(graph, step=self.step, inlined=self.inlined)
        onnx.checker.check_model(model, full_check=True)
        return load(model, graph)


def load(model: ModelProto, graph: Graph) -> _OnnxExecutable:
    """Make a model that `lapilli.export.onnx.writer` has written ready to run; it gains outputs.

    Args:
        model: either of the two, inlined or not.
        graph: what it was written from: says which values to record.

    Raises:
        MismatchError: it was written from another graph.
        SimulatorUnavailableError: this onnxruntime lacks an operator, an opset, or can not
            run the model for another reason, which is given.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as failures

    from lapilli.export.onnx.models import show_all

    facts = {p.key.removeprefix("lapilli."): p.value for p in model.metadata_props}
    if facts["digest"] != graph.digest:
        raise MismatchError("the ONNX model was written from another graph: the digests differ")
    values = json.loads(facts["values"])
    shown = show_all(model, [name for value in values.values() for name in value.values()])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except (failures.Fail, failures.InvalidGraph, failures.NotImplemented,
            failures.InvalidArgument) as error:  # fmt: skip
        opsets = ", ".join(f"{o.domain or 'ai.onnx'} {o.version}" for o in model.opset_import)
        raise SimulatorUnavailableError(
            f"onnxruntime {onnxruntime.__version__} cannot run the model (IR {model.ir_version}, "
            f"opsets {opsets}): {' '.join(str(error).split())}; a newer one may: "
            "pip install --upgrade 'lapilli[onnx]'"
        ) from error
    return _OnnxExecutable(graph, session, shown, facts)


@dataclass(frozen=True, slots=True)
class _OnnxExecutable:
    """A session; `shown` says which of its outputs is which value inside the step."""

    graph: Graph
    session: Any
    shown: Mapping[str, str]
    facts: Mapping[str, str]

    def run(self, inputs: Mapping[str, IntArray]) -> Recording:
        types = {i.name: _dtype(i.type) for i in self.session.get_inputs()}
        given = {n: self._checked(n, inputs[n]).astype(types[n]) for n in self.graph.inputs}
        start = time.perf_counter()
        looped = self.facts["model"] == "step"
        seen = self._loop(given, types) if looped else self._once(given)
        seconds = time.perf_counter() - start

        values, membranes, currents = {}, {}, {}
        for node, parts in json.loads(self.facts["values"]).items():
            values[node] = _integers(seen[self.shown[parts["value"]]])
            if "membrane" in parts:
                membranes[node] = _integers(seen[self.shown[parts["membrane"]]])
            if "current" not in parts:
                continue  # a membrane that is read
            if parts["current"] in self.shown:  # else it is what was given
                currents[node] = _integers(seen[self.shown[parts["current"]]])
            else:
                currents[node] = inputs[self.graph[node].inputs[0]]
        for node, output in json.loads(self.facts["outputs"]).items():
            values[node] = _integers(seen[output])
        return Recording(values, membranes, currents, seconds=seconds)

    def _once(self, given: Mapping[str, _Array]) -> dict[str, _Array]:
        """Feed the session."""
        names = [o.name for o in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, given), strict=True))

    def _loop(self, given: Mapping[str, _Array], types: Mapping[str, Any]) -> dict[str, _Array]:
        """Feed the session step by step, its state from output to input."""
        following = json.loads(self.facts["states"])
        batch = next(iter(given.values())).shape[1]
        shapes = {i.name: (batch, *i.shape[1:]) for i in self.session.get_inputs()}
        state: dict[str, _Array] = {name: np.zeros(shapes[name], types[name]) for name in following}
        steps = []
        for t in range(self.graph.T):
            step = self._once({**{name: x[t] for name, x in given.items()}, **state})
            state = {name: step.pop(after) for name, after in following.items()}
            steps.append(step)
        return {name: np.stack([step[name] for step in steps]) for name in steps[0]}

    def _checked(self, name: str, given: IntArray) -> IntArray:
        """What the input's type can carry; a cast would wrap silently."""
        proven = self.graph.types[name].range
        if given.size and (int(given.min()) not in proven or int(given.max()) not in proven):
            raise RangeError(
                name, f"given [{given.min()}, {given.max()}], takes [{proven.lo}, {proven.hi}]"
            )
        return given


_Array = npt.NDArray[np.integer[Any]]


def _dtype(kind: str) -> Any:
    """NumPy's type of onnxruntime's `tensor(int8)`."""
    return np.dtype(kind.removeprefix("tensor(").removesuffix(")"))


def _integers(array: _Array) -> IntArray:
    """As recordings keep them; a float, which no model of ours gives, is refused."""
    if array.dtype.kind not in "iu":
        raise MismatchError(f"onnxruntime answers in {array.dtype}, not in integers")
    return array.astype(np.int64)
