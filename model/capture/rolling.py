"""A Python loop over time, exported unrolled, becomes one step with a time axis.

The T calls of each neuron are its T steps. What feeds a neuron at step t must be the same
graph as what feeds it at step 0, with step t of every other neuron where step 0 stood: an
isomorphism, checked node by node. Then the first step says everything, and what gathers the
steps, a sum or a stack, becomes an operator over T.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from lapilli.ir.errors import CaptureError
from lapilli.model.capture.opaque_step import NEURON_STEP
from lapilli.model.capture.program import ancestors

aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Gathered:
    """A node that gathers all steps of a value: a sum, a stack, a concatenation; or the last."""

    first: Any  # the value at step 0
    how: Literal["sum", "stack", "cat", "last"]
    axis: int = 0


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop that was understood.

    Attributes:
        T: its steps.
        gathered: nodes over all steps.
        step: nodes of the first step; tail: nodes after the loop.
    """

    T: int
    gathered: Mapping[Any, Gathered]
    step: frozenset[Any]
    tail: frozenset[Any]


def roll(
    graph: Any, outputs: Sequence[Any], names: Mapping[str, str], is_zero: Callable[[Any], bool]
) -> Loop | None:
    """Find the loop behind `outputs`; None if no neuron runs step by step.

    Args:
        graph: of the exported program.
        outputs: the nodes of the answers.
        names: of the module's parameters, by node.
        is_zero: whether a node is a constant that is zero: a membrane at rest.

    Raises:
        CaptureError: the steps differ, or one of them is used alone; names the module.
    """
    calls: dict[str, list[Any]] = {}
    for node in graph.nodes:
        if node.target is NEURON_STEP:
            calls.setdefault(node.args[2], []).append(node)
    if not calls:
        return None
    lengths = {path: len(nodes) for path, nodes in calls.items()}
    T = max(lengths.values())
    for nodes in calls.values():
        _take_apart(graph, nodes[0])
    if short := [path for path, n in lengths.items() if n != T]:
        raise CaptureError(short[0], f"runs {lengths[short[0]]} steps where other neurons run {T}")
    matching = _Matching(calls, T, names)
    for node in matching.number:
        _check_not_recurrent(node, matching.number)
    for path, nodes in calls.items():
        for t, node in enumerate(nodes):
            _check_state(path, nodes, t, is_zero)
            matching.require(nodes[0].args[0], node.args[0], t)
    return _Tail(matching).loop(outputs)


def _check_state(path: str, nodes: list[Any], t: int, is_zero: Callable[[Any], bool]) -> None:
    """The membrane that a step is given is the one that the step before returned."""
    tokens = nodes[t].args[1]
    if not tokens or (t == 0 and all(map(is_zero, tokens))):
        return
    if t == 0:
        raise CaptureError(path, "begins with a membrane that is not zero")
    returned = [(nodes[t - 1], i) for i in range(1, nodes[t - 1].args[3])]
    if [token.target is operator.getitem and token.args for token in tokens] != returned:
        raise CaptureError(
            path, f"is given another membrane at step {t} than it returned at step {t - 1}"
        )


def _check_not_recurrent(node: Any, number: Mapping[Any, tuple[str, int]]) -> None:
    """No neuron hears what one fired at an earlier step; stacked steps are read step by step."""
    path, t = number[node]
    gathers = (aten.stack.default, aten.cat.default, aten.select_scatter.default)

    def before(n: Any) -> list[Any]:
        return [] if n in number or n.target in gathers else _inputs(n)

    heard = [number[n] for n in ancestors([node.args[0]], before) if n in number]
    if heard and all(step < t for _, step in heard):
        other, step = max(heard, key=lambda each: each[1])
        raise CaptureError(
            path,
            f"hears at step {t} what {other!r} fired at step {step}: neurons that drive one "
            "another from step to step are recurrent, and the graph has no loops",
        )


def _take_apart(graph: Any, node: Any) -> None:
    """Make sure that each value of a neuron's first step has a node, used there or not."""
    known = {user.args[1] for user in node.users if user.target is operator.getitem}
    for index in range(node.args[3]):
        if index not in known:
            with graph.inserting_after(node):
                piece = graph.call_function(operator.getitem, (node, index))
            piece.meta.update({**node.meta, "val": node.meta["val"][index]})


class _Matching:
    """Whether two nodes are one computation, in two steps."""

    def __init__(self, calls: Mapping[str, list[Any]], T: int, names: Mapping[str, str]) -> None:
        self.T, self.names = T, names
        self.number = {n: (path, t) for path, nodes in calls.items() for t, n in enumerate(nodes)}
        self.first = {path: nodes[0] for path, nodes in calls.items()}
        self.known: set[tuple[Any, Any]] = set()

    def require(self, a: Any, b: Any, t: int) -> None:
        """Nothing, if b is at step t what a is at step 0.

        Raises:
            CaptureError: says where they part.
        """
        open_ = [(a, b, b)]
        while open_:
            a, b, user = open_.pop()
            if (a, b) in self.known:
                continue
            self.known.add((a, b))
            if a in self.number or b in self.number:
                self._same_neuron(a, b, t, path_of(user))
            elif not _is_frame(a, b, t):
                pairs = self._operands(a, b, t, path_of(user if b.op == "placeholder" else b))
                open_ += [(x, y, b) for x, y in pairs]

    def holds(self, a: Any, b: Any, t: int) -> bool:
        """Whether `require` is content."""
        try:
            self.require(a, b, t)
        except CaptureError:
            self.known.clear()
            return False
        return True

    def _same_neuron(self, a: Any, b: Any, t: int, user: str) -> None:
        path, first = self.number.get(a, ("", -1))
        other, step = self.number.get(b, ("", -1))
        if path != other or first != 0 or step != t:
            raise CaptureError(
                user,
                f"step {t} of the loop reads step {step} of {other or 'no neuron'!r} where step 0 "
                f"reads step {first} of {path or 'no neuron'!r}; from step to step only a neuron's "
                "own state may go",
            )

    def _operands(self, a: Any, b: Any, t: int, path: str) -> list[tuple[Any, Any]]:
        if a is b and a.op == "placeholder":
            return []
        if a.op != b.op or a.target != b.target or a.op == "placeholder":
            raise CaptureError(
                path,
                f"step {t} of the loop has {self._named(b)} where step 0 has {self._named(a)}; "
                "all steps "
                "must be the same",
            )
        left, right = _flat((a.args, a.kwargs)), _flat((b.args, b.kwargs))
        pairs = list(zip(left, right, strict=False))
        nodes = [(x, y) for x, y in pairs if _is_node(x) and _is_node(y)]
        rest = [(x, y) for x, y in pairs if not (_is_node(x) and _is_node(y))]
        if len(left) != len(right) or any(type(x) is not type(y) or x != y for x, y in rest):
            raise CaptureError(
                path, f"step {t} of the loop calls {self._named(b)} with other numbers than step 0"
            )
        return nodes

    def _named(self, node: Any) -> str:
        if node.op != "placeholder":
            return str(node.target)
        return self.names.get(node.name, node.name)


def _is_frame(a: Any, b: Any, t: int) -> bool:
    """Whether they are element 0 and element t of one value: the frames of an image."""
    takes = (aten.select.int, operator.getitem)
    if a.target not in takes or a.target is not b.target or a.args[0] is not b.args[0]:
        return False
    if a.target is operator.getitem and a.args[0].target is not aten.unbind.int:
        return False
    return bool(a.args[1:-1] == b.args[1:-1] and (a.args[-1], b.args[-1]) == (0, t))


class _Tail:
    """What comes after the loop, back to what gathers its steps."""

    def __init__(self, matching: _Matching) -> None:
        self.matching = matching
        self.gathered: dict[Any, Gathered] = {}
        self.tail: set[Any] = set()

    def loop(self, outputs: Sequence[Any]) -> Loop:
        """Walk back from the answers.

        Raises:
            CaptureError: a single step is used.
        """
        open_ = list(outputs)
        while open_:
            node = open_.pop()
            if node in self.tail or node in self.gathered or not self._stepped(node):
                continue
            if found := self._gathers(node):
                self.gathered[node] = found
                continue
            if found := self._last(node):
                self.gathered[node] = found
                continue
            self.tail.add(node)
            open_ += node.all_input_nodes
        first = ancestors([g.first for g in self.gathered.values()], _inputs)
        return Loop(self.matching.T, self.gathered, first, frozenset(self.tail))

    def _last(self, node: Any) -> Gathered | None:
        """What a neuron gives at the last step.

        Raises:
            CaptureError: at another step.
        """
        if node.target is not operator.getitem or node.args[0] not in self.matching.number:
            return None
        path, step = self.matching.number[node.args[0]]
        if step != self.matching.T - 1:
            raise CaptureError(
                path,
                f"step {step} is used alone after the loop; take the last one, add up all steps, "
                "or stack them",
            )
        users = self.matching.first[path].users
        same = (u for u in users if u.target is operator.getitem and u.args[1] == node.args[1])
        return Gathered(next(same), "last")

    def _stepped(self, node: Any) -> bool:
        return any(n in self.matching.number for n in ancestors([node], _inputs))

    def _gathers(self, node: Any) -> Gathered | None:
        if node.target in (aten.stack.default, aten.cat.default):
            axis = node.args[1] if len(node.args) > 1 else 0
            how: Literal["stack", "cat"] = "stack" if node.target is aten.stack.default else "cat"
            return self._all_steps(list(node.args[0]), how, axis)
        if node.target is aten.select_scatter.default:
            written = self._written(node)
            return self._all_steps([written[t] for t in sorted(written)], "stack", node.args[2])
        terms: list[Any] = []
        while node.target is aten.add.Tensor and len(terms) < self.matching.T:
            before, term = node.args
            if not _is_node(term) or not self._stepped(term):
                node = before if _is_node(before) else node
                break
            terms.insert(0, term)
            node = before
            if not _is_node(node):
                break
        if len(terms) == self.matching.T - 1 and _is_node(node) and self._stepped(node):
            terms.insert(0, _without_zero(node))
        return self._all_steps(terms, "sum", 0)

    def _written(self, node: Any) -> dict[int, Any]:
        """What `y[t] = ...` put where, along one axis of a tensor of all steps."""
        axis, found = node.args[2], dict[int, Any]()
        while node.target is aten.select_scatter.default and node.args[2] == axis:
            node, value, index = node.args[0], node.args[1], node.args[3]
            found.setdefault(index, value.args[1] if value.target is aten.copy.default else value)
        return found

    def _all_steps(
        self, terms: list[Any], how: Literal["sum", "stack", "cat"], axis: int
    ) -> Gathered | None:
        if len(terms) != self.matching.T:
            return None
        if all(self.matching.holds(terms[0], term, t) for t, term in enumerate(terms)):
            return Gathered(terms[0], how, axis)
        return None


def _without_zero(node: Any) -> Any:
    """`0 + x`, with which `sum` begins, is x."""
    if node.target is aten.add.Tensor and node.args[1] == 0:
        return node.args[0]
    return node


def path_of(node: Any) -> str:
    """The module that asked for a node."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else ""


def _inputs(node: Any) -> list[Any]:
    inputs: list[Any] = node.all_input_nodes
    return inputs


def _is_node(value: Any) -> bool:
    return isinstance(value, torch.fx.Node)


def _flat(value: Any) -> list[Any]:
    """Leaves of nested arguments, in order; names of keyword arguments among them."""
    if isinstance(value, dict):
        return [leaf for k in sorted(value) for leaf in (k, *_flat(value[k]))]
    if isinstance(value, list | tuple):
        return [leaf for v in value for leaf in _flat(v)]
    return [value]
