"""Walk the exported graph once: fold constants, name axes, translate operator by operator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lapilli.ir.errors import CaptureError
from lapilli.model import axes
from lapilli.model.axes import Factor, MixError
from lapilli.model.einsum import EINSUM
from lapilli.model.opaque import NEURON
from lapilli.model.operators import COMPUTING
from lapilli.model.pooling import POOLING
from lapilli.model.program import Call, Captured, Fire, FloatArray, Image
from lapilli.model.signature import Signature
from lapilli.model.translation import OperatorRule, Translation
from lapilli.model.wiring import WIRING

RULES: Mapping[Any, OperatorRule] = {**COMPUTING, **POOLING, **WIRING, **EINSUM}


class Reader:
    """One exported graph; implements `translation.Context`."""

    def __init__(
        self,
        model: nn.Module,
        program: torch.export.ExportedProgram,
        batch: int,
        image_shape: tuple[int, ...],
        signature: Signature,
    ) -> None:
        self.model = model
        self.program = program
        self.batch = batch
        self.image_shape = image_shape
        self.signature = signature
        self.per_sample = signature.per_sample
        self.calls: dict[str, Call] = {}
        self.constants: dict[str, FloatArray] = {}
        self.notes: list[str] = []
        self._values: dict[str, Call] = {}  # by node
        self._known: dict[str, Any] = {}  # constant value by node
        self._fired: set[str] = set()
        given = program.graph_signature
        self._parameters = {**given.inputs_to_parameters, **given.inputs_to_buffers}
        self._lifted = dict(given.inputs_to_lifted_tensor_constants)
        self._neuron_calls = _numbered(program)

    def read(self, output: int | str | None, leaf: int | None = None) -> Captured:
        """Translate what the logits depend on.

        Raises:
            CaptureError: see `capture`.
        """
        leaf, node = self._chosen(output, leaf)
        needed = _ancestors(node)
        for each in self.program.graph.nodes:
            if each.op == "placeholder" and each.name not in {*self._parameters, *self._lifted}:
                dims = self.signature.dims(self.image_shape, self.batch)
                self._values[each.name] = image = Call(each.name, Image(), (), "", dims)
                self.add(image)
            elif each.op == "call_function" and each in needed:
                self._visit(each)
        result = self._values.get(node.name)
        if result is None:
            raise CaptureError("", "returns a constant")
        per_step = self._check_answer(result)
        signature = Signature(
            layout=self.signature.layout,
            leaf=leaf,
            per_step=per_step,
            per_sample=self.per_sample,
        )
        calls = _living(self.calls, result.name)
        T = self._steps(calls)
        return Captured(
            self.model, calls, result.name, T, self.constants, signature, tuple(self.notes)
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
            parent, _, leaf = self._parameters[name].rpartition(".")
            tensor = getattr(self.model.get_submodule(parent), leaf)
        elif name in self._lifted:
            tensor = self.program.constants[self._lifted[name]]
        else:
            return None
        return _exact(tensor.detach().clone())

    def parameter_name(self, name: str) -> str | None:
        """Under which name the module holds a parameter, if it is one."""
        return self._parameters.get(name)

    def keep(self, name: str, value: FloatArray) -> str:
        """Make a constant part of the program; return its name."""
        self.constants[name] = np.asarray(value, np.float64)
        return name

    def add(self, call: Call) -> None:
        """Make a call part of the program."""
        self.calls[call.name] = call
        if isinstance(call.op, Fire) or any(i in self._fired for i in call.inputs):
            self._fired.add(call.name)

    def neuron_call(self, name: str) -> int:
        """Which call of its module this neuron node is."""
        return self._neuron_calls[name]

    def has_fired(self, call: Call) -> bool:
        """Whether this value depends on a neuron."""
        return call.name in self._fired

    def note(self, path: str, sentence: str) -> None:
        """Tell the user."""
        self.notes.append(f"{path}: {sentence}")

    # ---- walking ----

    def _visit(self, node: Any) -> None:
        stack = list(node.meta.get("nn_module_stack", {}).values())
        path = stack[-1][0] if stack else ""
        if all(self.constant(n.name) is not None for n in node.all_input_nodes):
            self._known[node.name] = self._folded(node, path)
            return
        translation = Translation(node, path, self)
        rule = RULES.get(node.target)
        if rule is None:
            raise CaptureError(
                path,
                f"operator {node.target} is not one that lapilli can put on spiking hardware; "
                "accumulates, comparisons, gates and pooling are",
            )
        try:
            made = rule(translation)
        except MixError as error:
            raise CaptureError(
                path, f"{node.target} mixes time or batch with something else: {error}"
            ) from error
        if made is not None:
            shape = getattr(node.meta["val"], "shape", None)
            if shape is not None and axes.shape(made.dims) != tuple(shape):
                raise CaptureError(path, f"lost track of the axes at {node.target}")
            self._values[node.name] = made

    def _folded(self, node: Any, path: str) -> Any:
        """Let torch compute what depends on parameters alone, in float64."""
        args, kwargs = torch.fx.node.map_arg(
            (node.args, dict(node.kwargs)), lambda n: self.constant(n.name)
        )
        try:
            with torch.no_grad():
                return pytree.tree_map(_exact, node.target(*args, **kwargs))
        except RuntimeError as error:
            raise CaptureError(
                path, f"cannot compute {node.target} on parameters: {error}"
            ) from error

    # ---- the answer ----

    def _chosen(self, output: int | str | None, leaf: int | None) -> tuple[int, Any]:
        """Which result holds the logits: its number in a tree walk, and its node."""
        (flat,) = self.program.graph.output_node().args
        if leaf is not None:
            return leaf, flat[leaf]
        tree = pytree.tree_unflatten(list(range(len(flat))), self.program.call_spec.out_spec)
        if output is not None:
            try:
                tree = tree[output]
            except (LookupError, TypeError) as error:
                raise CaptureError("", f"returns no output {output!r}") from error
        leaves = pytree.tree_leaves(tree)
        tensors = [i for i in leaves if isinstance(flat[i], torch.fx.Node)]
        shapes = {i: tuple(flat[i].meta["val"].shape) for i in tensors}
        found = [i for i in tensors if len(shapes[i]) == 2 and shapes[i][0] == self.batch]
        found += [i for i in tensors if len(shapes[i]) == 3 and shapes[i][1] == self.batch]
        found += tensors
        if not found:
            raise CaptureError("", "returns no tensor; it must return the logits [B, classes]")
        if len(flat) > 1 and output is None:
            self.notes.append(
                f"the model returns {len(flat)} values; number {found[0]} in the order written, "
                f"of shape {['B' if n == self.batch else n for n in shapes[found[0]]]}, is taken "
                "for the logits"
            )
        return found[0], flat[found[0]]

    def _check_answer(self, result: Call) -> bool:
        """True if the answer has steps, whose mean is taken."""
        dims = result.dims
        per_step = len(dims) == 3 and [f.name for f in dims[0]] == ["T"]
        left = dims[1:] if per_step else dims
        if len(left) != 2 or left[0] != (Factor("B", self.batch),) or axes.has(left[1:], "T"):
            raise CaptureError("", f"returns {axes.show(dims)}; expected [B, classes]")
        if per_step:
            self.notes.append("the model returns logits of each step; their mean over T is taken")
        return per_step

    def _steps(self, calls: Mapping[str, Call]) -> int:
        """T; 1 if neurons saw an axis of length 1 in its place."""
        sizes = {f.size for c in calls.values() for d in c.dims for f in d if f.name == "T"}
        fires = [c for c in calls.values() if isinstance(c.op, Fire)]
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


def _numbered(program: torch.export.ExportedProgram) -> dict[str, int]:
    """Which call of its module each neuron node is, unused ones counted."""
    count: Counter[str] = Counter()
    numbers = {}
    for node in program.graph.nodes:
        if node.target is NEURON:
            numbers[node.name] = count[node.args[1]]
            count[node.args[1]] += 1
    return numbers


def _ancestors(node: Any) -> set[Any]:
    """The node and everything that it depends on."""
    found, open_ = {node}, [node]
    while open_:
        for source in open_.pop().all_input_nodes:
            if source not in found:
                found.add(source)
                open_.append(source)
    return found


def _living(calls: Mapping[str, Call], output: str) -> dict[str, Call]:
    """The calls that the answer depends on; others were steps on the way."""
    needed = {output}
    for call in reversed(list(calls.values())):
        if call.name in needed:
            needed.update(call.inputs)
    return {n: c for n, c in calls.items() if n in needed or isinstance(c.op, Image)}


def _exact(value: Any) -> Any:
    """Floats in float64; integers and what is no tensor as they are."""
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
