"""Walk the exported graph once: fold constants, name axes, translate operator by operator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx.node import map_arg
from torch.utils import _pytree as pytree

from lapilli.ir.errors import CaptureError
from lapilli.ir.recipe import HOST, Note, NoteKind
from lapilli.model.capture import axes, program
from lapilli.model.capture.axes import MixError
from lapilli.model.capture.host import Tail, host_map, tail_of
from lapilli.model.capture.host_map import HostMap
from lapilli.model.capture.opaque import NEURON
from lapilli.model.capture.opaque_step import NEURON_STEP
from lapilli.model.capture.output import Asked, check_read, chosen, laid_out, living, pooled
from lapilli.model.capture.program import Call, Captured, FloatArray, ancestors
from lapilli.model.capture.rolling import Loop, roll
from lapilli.model.capture.rules.einsum import EINSUM
from lapilli.model.capture.rules.elementwise import ELEMENTWISE
from lapilli.model.capture.rules.enlarging import ENLARGING
from lapilli.model.capture.rules.linear import LINEAR
from lapilli.model.capture.rules.pooling import POOLING
from lapilli.model.capture.rules.slicing import SLICING, if_a_neuron
from lapilli.model.capture.rules.wiring import WIRING
from lapilli.model.capture.signature import Signature
from lapilli.model.capture.steps import gather, steps_of, with_steps
from lapilli.model.capture.translation import OperatorRule, Translation

aten = torch.ops.aten
_OF_NEURONS = ("zeros", "zeros_like", "empty_like", "floor", "round", "ceil", "sign")
_ZEROS = (aten.zeros.default, aten.zeros_like.default, aten.new_zeros.default)
_KEEPS_ZERO = (aten.clone.default, aten.detach.default, aten.to.dtype, aten.to.device,
               aten.expand.default, aten._to_copy.default)  # noqa: SLF001  # fmt: skip
RULES: Mapping[Any, OperatorRule] = {
    **ELEMENTWISE, **LINEAR, **EINSUM, **POOLING, **ENLARGING, **WIRING, **SLICING,
}  # fmt: skip


class Reader:
    """One exported graph; implements `translation.Context`."""

    def __init__(
        self,
        model: nn.Module,
        exported: torch.export.ExportedProgram,
        batch: int,
        image_shape: tuple[int, ...],
        signature: Signature,
    ) -> None:
        self.model = model
        self.exported = exported
        self.batch = batch
        self.image_shape = image_shape
        self.signature = signature
        self.per_sample = signature.per_sample
        self.calls: dict[str, Call] = {}
        self.constants: dict[str, FloatArray] = {}
        self.notes: list[Note] = []
        self._values: dict[str, Call] = {}  # by node
        self._known: dict[str, Any] = {}  # constant value by node
        self._fired: set[str] = set()
        self.loop: Loop | None = None
        self.looping = False
        self._in_loop: set[str] = set()
        self._hosted: dict[Any, CaptureError] = {}  # read-out that no chip computes, and why
        self._feeding: frozenset[Any] = frozenset()
        given = exported.graph_signature
        self._parameters = {**given.inputs_to_parameters, **given.inputs_to_buffers}
        self._lifted = dict(given.inputs_to_lifted_tensor_constants)
        self._neuron_calls = _numbered(exported)

    def read(self, asked: Asked, notes: Sequence[Note] = ()) -> Captured:
        """Translate what the answers depend on.

        Raises:
            CaptureError: see `capture`.
        """
        self.notes += notes
        found = chosen(self.exported, self.batch, asked, self.notes)
        asked.check_names([result.name for result, _ in found])
        nodes = [node for _, node in found if isinstance(node, torch.fx.Node)]
        self.loop = roll(self.exported.graph, nodes, self._parameters, self._is_zero)
        needed = ancestors(nodes, lambda n: n.all_input_nodes)
        fires = [n for n in self.exported.graph.nodes if n.target in (NEURON, NEURON_STEP)]
        self._feeding = ancestors(fires, lambda n: n.all_input_nodes)
        if self.loop is not None:
            needed = frozenset({*self.loop.step, *self.loop.tail, *self.loop.gathered})
        for each in self.exported.graph.nodes:
            if each.op == "placeholder" and each.name not in {*self._parameters, *self._lifted}:
                dims = self.signature.dims(self.image_shape, self.batch)
                self._values[each.name] = image = Call(each.name, program.Input(), (), "", dims)
                self.add(image)
            elif self.loop is not None and each in self.loop.gathered:
                self.looping = False
                gathered = self.loop.gathered[each]
                first = self._values[gathered.first.name]
                self._values[each.name] = call = gather(each.name, first, gathered, self.loop.T)
                self.add(call)
            elif each.op == "call_function" and each in needed:
                self.looping = self.loop is not None and each in self.loop.step
                self._visit(each)
        results, outputs = [], []
        hosts: list[HostMap | None] = []
        for result, node in found:
            value = self._values.get(getattr(node, "name", ""))
            if node in self._hosted:
                tail, host = self._host_map(node)
                batch_axis = tail.batch_axis() or 0
                results.append(replace(result, batch=batch_axis, over_time=HOST))
                outputs.append(tail.value.name)
                hosts.append(host)
                continue
            hosts.append(None)
            if value is None:
                name = f"{result.name!r} " if len(found) > 1 else ""
                raise CaptureError("", f"returns {name}a constant")
            found_at = laid_out(result, value, asked, self.notes, per_sample=self.per_sample)
            results.append(found_at)
            outputs.append(value.name)
        if self.loop is not None:
            self.calls = with_steps(self.calls, self._in_loop, self.loop.T)
        calls = living(self.calls, outputs)
        check_read(calls)
        T = steps_of(calls)
        for i, result in enumerate(results):
            if (last := pooled(result, calls[outputs[i]], T)) is not None:
                calls[last.name], outputs[i] = last, last.name
        signature = Signature(
            layout=self.signature.layout,
            results=tuple(results),
            per_sample=self.per_sample,
            ids=self.signature.ids,
        )
        return Captured(
            self.model,
            calls,
            tuple(outputs),
            T,
            self.constants,
            signature,
            tuple(self.notes),
            tuple(hosts) if any(hosts) else (),
        )

    @property
    def ambiguous(self) -> bool:
        """Whether the batch size divides a dimension, and so could be taken for it."""
        factors = {f for c in self.calls.values() for d in c.dims for f in d if f.name != "B"}
        return any(f.size % self.batch == 0 for f in factors)

    # ---- what rules ask (translation.Context) ----

    def value(self, node: str) -> Call | None:
        """The call that computes this node, if it is not a constant."""
        return self._values.get(node)

    def constant(self, name: str) -> Any:
        """The value of a parameter or of what was computed from parameters, or None."""
        if name in self._known:
            return self._known[name]
        if name in self._parameters:
            return _copied(self.parameter(self._parameters[name]))
        if name in self._lifted:
            return _copied(cast(Tensor, self.exported.constants[self._lifted[name]]))
        return None

    def is_constant(self, name: str) -> bool:
        """Whether it is a parameter, or was computed from parameters alone."""
        if name in self._known:
            return self._known[name] is not None
        return name in self._parameters or name in self._lifted

    def parameter_name(self, name: str) -> str | None:
        """Under which name the module holds a parameter, if it is one."""
        return self._parameters.get(name)

    def parameter(self, name: str) -> Tensor:
        """The parameter that the module holds under a name: itself, no copy."""
        parent, _, leaf = name.rpartition(".")
        return cast(Tensor, getattr(self.model.get_submodule(parent), leaf)).detach()

    def keep(self, name: str, value: FloatArray) -> str:
        """Make a constant part of the program; return its name."""
        self.constants[name] = np.asarray(value, np.float64)
        return name

    def add(self, call: Call) -> None:
        """Make a call part of the program."""
        self.calls[call.name] = call
        if self.looping:
            self._in_loop.add(call.name)
        if isinstance(call.op, program.Neuron | program.Membrane) or any(
            i in self._fired for i in call.inputs
        ):
            self._fired.add(call.name)

    def neuron_call(self, name: str) -> int:
        """Which call of its module this neuron node is."""
        return self._neuron_calls[name]

    def has_fired(self, call: Call) -> bool:
        """Whether this value depends on a neuron."""
        return call.name in self._fired

    def note(self, path: str, sentence: str) -> None:
        """Tell the user."""
        self.notes.append(Note(NoteKind.CAPTURE, path, sentence))

    # ---- walking ----

    def _host_map(self, answer: Any) -> tuple[Tail, HostMap]:
        """The linear map of all time steps at the end of the network.

        Raises:
            CaptureError: why its first operator could not be translated, if it is no such map.
        """
        sizes = {f.size for c in self.calls.values() for d in c.dims for f in d if f.name == "T"}
        tail = None
        if len(sizes) == 1:
            (T,) = sizes
            tail = tail_of(answer, self._hosted, self._values, self.constant, T, self.batch)
        host = None if tail is None else host_map(tail)
        if tail is None or host is None:
            raise self._hosted[answer]
        text = (
            f"ends in a linear map of all {tail.T} time steps together, which the host computes of "
            "the values of each step"
        )
        self.notes.append(Note(NoteKind.ANSWER, "", text))
        return tail, host

    def _visit(self, node: Any) -> None:
        before = [self._hosted[n] for n in node.all_input_nodes if n in self._hosted]
        if before:
            self._hosted[node] = before[0]
            return
        stack = list(node.meta.get("nn_module_stack", {}).values())
        path = stack[-1][0] if stack else ""
        if all(self.is_constant(n.name) for n in node.all_input_nodes):
            self._known[node.name] = self._folded(node, path)
            return
        translation = Translation(node, path, self)
        rule = RULES.get(node.target)
        if rule is None:
            raise CaptureError(
                path,
                f"operator {node.target} is not one that lapilli can put on spiking hardware; "
                f"accumulates, comparisons, gates and pooling are{_advice(translation)}",
            )
        try:
            made = rule(translation)
        except MixError as error:
            why = CaptureError(
                path, f"{node.target} mixes time or batch with something else: {error}"
            )
            why.__cause__ = error
            if node in self._feeding or self.looping:
                raise why from error
            self._hosted[node] = why  # perhaps a linear map of all steps
            return
        if made is not None:
            shape = getattr(node.meta["val"], "shape", None)
            if shape is not None and axes.shape(made.dims) != tuple(shape):
                raise CaptureError(path, f"lost track of the axes at {node.target}")
            self._values[node.name] = made

    def _folded(self, node: Any, path: str) -> Any:
        """Let torch compute what depends on parameters alone, in float64."""
        args, kwargs = map_arg((node.args, dict(node.kwargs)), lambda n: self.constant(n.name))
        try:
            with torch.no_grad():
                return pytree.tree_map(_exact, node.target(*args, **kwargs))
        except RuntimeError as error:
            raise CaptureError(
                path, f"cannot compute {node.target} on parameters: {error}"
            ) from error

    # ---- a loop over time ----

    def _is_zero(self, node: Any) -> bool:
        """Whether a membrane is at rest, as `zeros`, or as a parameter or buffer of zeros."""
        if node.target in _ZEROS:
            return True
        if node.target in _KEEPS_ZERO:
            return self._is_zero(node.args[0])
        value = self.constant(node.name)
        return isinstance(value, Tensor) and not value.any()


def _numbered(exported: torch.export.ExportedProgram) -> dict[str, int]:
    """Which call of its module each neuron node is, unused ones counted."""
    count: Counter[str] = Counter()
    numbers = {}
    for node in exported.graph.nodes:
        if node.target is NEURON:
            numbers[node.name] = count[node.args[1]]
            count[node.args[1]] += 1
    return numbers


def _advice(t: Translation) -> str:
    """Neurons begin with a membrane of zeros, or round; few other modules do."""
    name = str(t.node.target).split(".")[1]
    return f"; {if_a_neuron(t)}" if name in _OF_NEURONS else ""


def _copied(tensor: Tensor) -> Tensor:
    """A copy, floats in float64."""
    dtype = torch.float64 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(dtype, copy=True)


def _exact(value: Any) -> Any:
    """Floats in float64; integers and what is no tensor as they are."""
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
