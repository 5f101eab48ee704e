"""Images that run at once, on every side, and what differs between them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.deploy.comparison.compare import Pixels
from lapilli.deploy.comparison.divergence import facts, first_divergence, first_input
from lapilli.deploy.validation.layers import Layers, Row
from lapilli.deploy.validation.plan import Plan
from lapilli.deploy.validation.sides import Sides, Witness
from lapilli.ir.errors import MismatchError
from lapilli.ir.network import Network
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Images that run at once.

    Attributes:
        sides: what runs them; plan: which of them are compared.
        layers: where layers are counted.
        numbers: of the images; pixels: of each, as bytes.
    """

    sides: Sides
    plan: Plan
    layers: Layers
    numbers: list[int]
    pixels: Pixels

    def rows(self) -> list[Row]:
        """Run them, and return a row for each."""
        network, witness = self.sides.network, self.sides.witness
        given = network.encode(self.pixels)
        got = self.sides.executable.run(given)
        rows: list[Row] = [
            {"sample": n, "integer": best, "compared": 0, "mismatches": 0}
            for n, best in zip(self.numbers, _best(_first(network, got)), strict=True)
        ]
        self.layers.add(got)
        if witness is None:
            return rows
        real = witness.in_float(self.pixels)
        for row, best in zip(rows, _best(real.logits), strict=True):
            row["float"], row["float_mismatches"] = best, 0
        for node, spikes in real.spikes.items():
            differs = _by_sample(spikes, got.values[node])
            self.layers.add_float(node, spikes, int(differs.sum()))
            for row, count in zip(rows, differs.tolist(), strict=True):
                row["float_mismatches"] += count
        chosen = [i for i, n in enumerate(self.numbers) if self.plan.is_compared(n)]
        if chosen:
            self._compare(witness, given, got, np.array(chosen, np.intp), rows)
        return rows

    def _compare(
        self,
        witness: Witness,
        given: dict[str, IntArray],
        got: Recording,
        chosen: npt.NDArray[np.intp],
        rows: list[Row],
    ) -> None:
        """Compare the chosen images with the quantized module, and add what differs to rows."""
        network, graph = self.sides.network, self.sides.network.graph
        own = network
        if witness.preprocessing is not None:
            own = replace(network, input=witness.preprocessing.input)
        mine = own.encode(self.pixels[chosen])
        want, have = witness.reference.run(mine), _chosen(got, chosen)
        for i, best in zip(chosen, _best(_first(network, want)), strict=True):
            rows[i]["pytorch"] = best

        def count(node: str, kind: str, one: IntArray, other: IntArray) -> None:
            if one.shape != other.shape:
                raise MismatchError(f"{node!r}: shape {other.shape}, expected {one.shape}")
            differs = _by_sample(one, other)
            for i, found in zip(chosen, differs.tolist(), strict=True):
                rows[i]["compared"] += one.size // len(chosen)
                rows[i]["mismatches"] += found
            self.layers.add_compared(node, kind, one.size, int(differs.sum()))

        for fact in facts(graph, want, have):
            count(fact.node, fact.kind, fact.expected, fact.got)
        differ = any(rows[i]["mismatches"] for i in chosen)
        first = first_divergence(graph, want, have) if differ else None
        if witness.preprocessing is not None:
            shown = {name: array[:, chosen] for name, array in given.items()}
            for name, array in shown.items():
                count(name, "input", mine[name], array)
            first = first_input(mine, shown) or first
        if first is not None:
            at = int(chosen[first.sample])
            told = replace(first, sample=rows[at]["sample"])
            rows[at]["divergence"] = json.dumps({**asdict(told), "text": str(told)}, sort_keys=True)


def _first(network: Network, recording: Recording) -> IntArray:
    return next(iter(network.read(recording).values()))


def _best(logits: npt.NDArray[Any]) -> list[Any]:
    """Return the classes of the five largest logits; of equal ones the first class first."""
    best: list[Any] = np.argsort(-logits, axis=-1, kind="stable")[:, :5].tolist()
    return best


def _by_sample(one: IntArray, other: IntArray) -> npt.NDArray[np.int64]:
    """Count what differs between arrays (T, B, ...), for each sample."""
    if np.array_equal(one, other):  # nearly always, and nothing is copied for it
        return np.zeros(one.shape[1], np.int64)
    samples = range(one.shape[1])
    return np.array([np.count_nonzero(one[:, b] != other[:, b]) for b in samples], np.int64)


def _chosen(got: Recording, chosen: npt.NDArray[np.intp]) -> Recording:
    """Return what was recorded of some samples of a batch, in ascending order."""
    if len(chosen) == next(iter(got.values.values())).shape[1]:
        return got
    values, membranes, currents, digests = (
        {name: array[:, chosen] for name, array in kept.items()}
        for kept in (got.values, got.membranes, got.currents, got.current_digests)
    )
    return Recording(values, membranes, currents, digests)
