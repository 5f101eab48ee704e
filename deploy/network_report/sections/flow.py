"""The flow of a network: its blocks, and inside each of them its nodes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lapilli.deploy.network_report.section import Card, Figure, Section, counted, percent
from lapilli.deploy.network_report.sections.activity import rates_of
from lapilli.deploy.network_report.sources import Sources
from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.pictures.flow import Box, flow

_MOST_OF_A_BLOCK, _MOST = 250, 2_000  # nodes that are drawn
_MOVED = ops.Wiring | ops.Delay
_PAINTS = (
    (ops.Weighted, "one"),
    (ops.Firing, "two"),
    (ops.SpikeMatmul | ops.Gate | ops.ShiftSum, "four"),
)


@dataclass(frozen=True, slots=True)
class _Block:
    """Nodes that belong together: of one module, or without one and in a row."""

    title: str
    nodes: tuple[Node, ...]


def section(sources: Sources) -> Section:
    """Draw the blocks of a network, and what leads from one to another."""
    graph = sources.network.graph
    blocks, through = _blocks(graph), _through(graph)
    home = {node.name: k for k, block in enumerate(blocks) for node in block.nodes}
    computed = [n for n in graph.nodes if not isinstance(n.op, _MOVED)]
    found = {(home[through[i]], home[n.name]) for n in computed for i in n.inputs}
    edges = sorted((a, b) for a, b in found if a != b)
    between = [(a, b) for a, b in edges if a < b]
    back = [(a, b) for a, b in edges if a > b]
    told = f"{counted(len(blocks), 'block')}, {counted(len(between), 'arrow')} between them."
    if back:
        told += f" {counted(len(back), 'arrow')} back to a block before are left out."
    boxes = [
        Box(str(k), (b.title, *_lines(graph, b)), link=f"block-{k}", told=b.title)
        for k, b in enumerate(blocks)
    ]
    names = [(str(a), str(b)) for a, b in between]
    data = {
        "blocks": [{"title": b.title, "nodes": [n.name for n in b.nodes]} for b in blocks],
        "edges": [list(edge) for edge in edges],
    }
    overview = Figure(
        name="blocks",
        title="Blocks",
        told=told,
        svg=flow(boxes, names, title="Blocks of the network", told=told),
        data=data,
    )
    cards, left = [], _MOST
    for k, block in enumerate(blocks):
        drawn = [n for n in block.nodes if not isinstance(n.op, _MOVED)]
        card = _card(sources, k, block, drawn=len(drawn) <= min(_MOST_OF_A_BLOCK, left))
        left -= len(drawn) if card.figures else 0
        cards.append(card)
    return Section(
        name="flow",
        title="Flow",
        told=(
            "From top to bottom. Each block leads to its nodes, which open below. Blue: weights; "
            "orange: neurons; violet: products of spikes; green: all others.",
        ),
        figures=(overview,),
        cards=tuple(cards),
        facts={"nodes": [_facts(graph, node) for node in graph.nodes]},
    )


def _blocks(graph: Graph) -> list[_Block]:
    """Group nodes: by the module that a number names, or the first part of their name."""
    groups: dict[str, list[Node]] = {}
    key = ""
    for node in graph.nodes:
        parts = node.name.split(".")[:-1]
        numbered = [k for k, part in enumerate(parts) if part.isdecimal()]
        if parts:
            key = ".".join(parts[: numbered[-1] + 1] if numbered else parts[:1])
        elif not key.startswith(" "):  # nodes without a module in a row are a block
            key = f" {len(groups)}"
        groups.setdefault(key, []).append(node)
    return [
        _Block(_title(key, nodes), tuple(nodes))
        for key, nodes in groups.items()
        if not all(isinstance(n.op, _MOVED) for n in nodes)
    ]


def _title(key: str, nodes: Sequence[Node]) -> str:
    if not key.startswith(" "):
        return key
    shown = [n.name for n in nodes if not isinstance(n.op, _MOVED)]
    return ", ".join(shown[:3]) + (", …" if len(shown) > 3 else "")


def _lines(graph: Graph, block: _Block) -> tuple[str, ...]:
    """What is in a block: neurons and weights."""
    layers = [n for n in block.nodes if isinstance(n.op, ops.Firing)]
    neurons = sum(math.prod(graph.types[n.name].shape) for n in layers)
    weights = sum(n.op.weight.array.size for n in block.nodes if isinstance(n.op, ops.Weighted))
    lines = []
    if layers:
        lines.append(f"{neurons:,} neurons in {counted(len(layers), 'layer')}")
    if weights:
        lines.append(f"{weights:,} weights")
    return tuple(lines)


def _card(sources: Sources, number: int, block: _Block, *, drawn: bool) -> Card:
    graph = sources.network.graph
    told = ", ".join((counted(len(block.nodes), "node"), *_lines(graph, block)))
    name = f"block-{number}"
    if drawn:
        figure = _inside(sources, name, block)
        return Card(name=name, title=block.title, told=told, figures=(figure,))
    note = "Too many nodes to be drawn: report.json and `lapilli show` list them."
    return Card(name=name, title=block.title, told=told, note=note)


def _inside(sources: Sources, name: str, block: _Block) -> Figure:
    """Draw the nodes of a block; what moves values elsewhere is part of the arrows."""
    graph, rates = sources.network.graph, rates_of(sources)
    through = _through(graph)
    inside = [n for n in block.nodes if not isinstance(n.op, _MOVED)]
    own = {n.name for n in inside}
    edges = list(dict.fromkeys((through[i], n.name) for n in inside for i in n.inputs))
    before = list(dict.fromkeys(a for a, _ in edges if a not in own))
    after: dict[str, list[str]] = defaultdict(list)
    for node in graph.nodes:
        if node.name not in own and not isinstance(node.op, _MOVED):
            for source in dict.fromkeys(through[i] for i in node.inputs):
                if source in own:
                    after[source].append(node.name)
    moved = len(block.nodes) - len(inside)
    told = f"{counted(len(inside), 'node')}, {counted(len(edges), 'arrow')}."
    if moved:
        told += f" {moved} that only move values (reshape, permute, slice) are part of arrows."
    boxes = [Box(a, (f"from {a}",), paint="") for a in before]
    boxes += [_box(graph, n, block.title, rates.get(n.name)) for n in inside]
    ways = edges + [(a, f"to\n{a}") for a in after]
    boxes += [Box(f"to\n{a}", (f"to {_several(names)}",), paint="") for a, names in after.items()]
    title = f"Nodes of {block.title}"
    return Figure(
        name=name,
        title=title,
        told=told,
        svg=flow(boxes, ways, title=title, told=told),
        data={
            "nodes": [n.name for n in inside],
            "from": before,
            "to": dict(after),
            "edges": [list(edge) for edge in edges],
        },
    )


def _several(names: Sequence[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _through(graph: Graph) -> Mapping[str, str]:
    """Of each node the one that computed its value, behind what only moves it."""
    found: dict[str, str] = {}
    for node in graph.nodes:
        moved = isinstance(node.op, _MOVED)
        found[node.name] = found[node.inputs[0]] if moved else node.name
    return found


def _box(graph: Graph, node: Node, block: str, rate: float | None) -> Box:
    shape = " x ".join(map(str, graph.types[node.name].shape)) or "1"
    name = node.name.removeprefix(f"{block}.")
    what = f"{type(node.op).__name__} {shape}"
    weights = (
        f"; {node.op.weight.array.size:,} weights" if isinstance(node.op, ops.Weighted) else ""
    )
    told = f"{node.name}: {what}, {graph.types[node.name].kind.value}{weights}"
    paint = next((p for group, p in _PAINTS if isinstance(node.op, group)), "three")
    fires = () if rate is None else (f"fires {percent(rate)}",)
    return Box(node.name, (name, what, *fires), paint=paint, told=told)


def _facts(graph: Graph, node: Node) -> dict[str, Any]:
    kind = graph.types[node.name]
    return {
        "node": node.name,
        "op": type(node.op).__name__,
        "inputs": list(node.inputs),
        "shape": list(kind.shape),
        "kind": kind.kind.value,
        "range": [kind.range.lo, kind.range.hi],
        "weights": node.op.weight.array.size if isinstance(node.op, ops.Weighted) else 0,
    }
