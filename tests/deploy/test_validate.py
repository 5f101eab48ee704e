"""`validate`: shards, resumption, locks, and a planted fault."""

from __future__ import annotations

import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from lapilli.deploy.comparison.compare import Pixels
from lapilli.deploy.validation.plan import Plan, slice_of
from lapilli.deploy.validation.run import validate
from lapilli.deploy.validation.shard import Logits, Sides, Witness
from lapilli.deploy.validation.store import Store
from lapilli.ir import ops
from lapilli.ir.errors import InputError
from lapilli.ir.graph import Graph
from lapilli.ir.tensor import IntTensor
from lapilli.model.digits import Split
from lapilli.quantize import Quantized
from lapilli.simulators.reference import Reference

PLAN = Plan(images=20, shard=8, share=Fraction(1, 2))


def _sides(made: Quantized, graph: Graph) -> Sides:
    def logits(pixels: Pixels) -> Logits:
        return np.zeros((len(pixels), 10))

    witness = Witness(reference=made.reference, logits=logits, preprocessing=None)
    return Sides(network=made.network, executable=Reference().compile(graph), witness=witness)


def _files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def test_resumed_results_are_the_same_bytes(
    spikformer: Quantized, test_split: Split, tmp_path: Path
) -> None:
    sides = _sides(spikformer, spikformer.network.graph)
    images, labels = test_split.images[:20], test_split.labels[:20]
    whole = Store(tmp_path / "whole", {"a": 1})
    facts = validate(whole, sides, PLAN, range(3), images, labels, batch=8)
    assert facts is not None
    assert facts["verdict"] == "exact"
    assert facts["images_compared"] == 10
    parts = Store(tmp_path / "parts", {"a": 1})
    for k in (2, 1, 3):
        found = validate(parts, sides, PLAN, slice_of(f"{k}/3", 3), images, labels, batch=8)
        assert (found is not None) == (k == 3)
    assert _files(tmp_path / "parts") == _files(tmp_path / "whole")
    (tmp_path / "parts/samples/000001.parquet").unlink()  # killed between the two files
    (tmp_path / "parts/samples/000001.part").write_bytes(b"half")
    with parts.locked(1):
        assert validate(parts, sides, PLAN, range(3), images, labels, batch=8) is None
    validate(parts, sides, PLAN, range(3), images, labels, batch=8)
    assert _files(tmp_path / "parts") == _files(tmp_path / "whole")
    with pytest.raises(InputError, match="other options"):
        Store(tmp_path / "parts", {"a": 2})
    shutil.rmtree(tmp_path / "parts")


def test_a_planted_weight_is_named(
    spikformer: Quantized, test_split: Split, tmp_path: Path
) -> None:
    graph = spikformer.network.graph
    nodes = [
        replace(n, op=replace(n.op, weight=IntTensor(-n.op.weight.array)))
        if n.name == "patch_embed.proj_conv" and isinstance(n.op, ops.Conv2d)
        else n
        for n in graph.nodes
    ]
    broken = Graph(tuple(nodes), graph.outputs, graph.T)
    plan = Plan(images=2, shard=1, share=Fraction(1))
    facts = validate(
        Store(tmp_path / "r", {}),
        _sides(spikformer, broken),
        plan,
        range(2),
        test_split.images[:2],
        test_split.labels[:2],
        batch=1,
    )
    assert facts is not None
    assert facts["verdict"] == "differs"
    assert facts["first"]["sample"] == 0
