"""What a report is made from, in memory."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lapilli.ir.network import Network

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a folder of `validate` says.

    Attributes:
        name: of the folder.
        summary: its summary.json.
        runs: of each shard, seconds, machine and versions.
    """

    name: str
    summary: Facts
    runs: Sequence[Facts] = ()

    @property
    def simulator(self) -> str:
        """Which ran the graph."""
        return str(self.summary["options"].get("simulator", "unknown"))

    @property
    def layers(self) -> Mapping[str, Facts]:
        """What is known of each node, in the order of the graph."""
        layers: Mapping[str, Facts] = self.summary["layers"]
        return layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What a report is made from; what is empty or None is told to be missing.

    Attributes:
        network: that it is about.
        file: name of its file, without folders.
        results: of `validate`, a simulator each; the first says accuracy and firing rates.
        comparisons: of `compare`, a simulator each, as its JSON holds them.
        answers: labelled, float_right and integer_right of `compare`, where results say nothing.
        cost: what `cost` says, as JSON.
        cores: of each chip what `cost --chip` says as JSON, or why it cannot be said.
        quantization: what `quantize --report` says, as JSON.
        data: what was given as --data, to be named in commands; empty if nothing was.
    """

    network: Network
    file: str
    results: Sequence[Results] = ()
    comparisons: Sequence[Facts] = ()
    answers: Facts = field(default_factory=dict)
    cost: Facts | None = None
    cores: Mapping[str, Facts | str] = field(default_factory=dict)
    quantization: Facts | None = None
    data: str = ""

    def command(self, words: str) -> str:
        """Write a command of lapilli about this network.

        {net}, {data}, {source} (the model, as quantize is told it) and {model} (as others are)
        are put in.
        """
        told = {} if self.network.recipe is None else self.network.recipe.model
        source = model = "CHECKPOINT"
        if told.get("kind") == "class":
            own = shlex.quote(str(told.get("source")))
            source, model = f"{own} --checkpoint CHECKPOINT", f"CHECKPOINT --module {own}"
        names = {
            "net": shlex.quote(self.file),
            "data": shlex.quote(self.data) if self.data else "DATA",
        }
        return f"lapilli {words}".format(**names, source=source, model=f"--checkpoint {model}")
