"""`validate` in one process: shards, resumption, what is found, and a planted fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("torch")

from lapilli.deploy.cli.images import held_out_data
from lapilli.deploy.cli.remaining import Remaining
from lapilli.deploy.data.reading import How
from lapilli.deploy.validation.images import ImageSet
from lapilli.deploy.validation.plan import Plan, slice_of
from lapilli.deploy.validation.run import Round, finish, run_here
from lapilli.deploy.validation.shard import Result, validate_shard
from lapilli.deploy.validation.sides import Sides, Witness
from lapilli.deploy.validation.store import Store
from lapilli.deploy.validation.summary import About
from lapilli.ir import ops
from lapilli.ir.errors import InputError
from lapilli.ir.graph import Graph
from lapilli.ir.tensor import IntTensor
from lapilli.model.digits import PREPROCESSING, Split, trained
from lapilli.quantize.pytorch.float_module import FloatModule
from lapilli.simulators.reference import Reference

if TYPE_CHECKING:
    from lapilli.quantize import Quantized

ABOUT = About(classes=10, with_model=True)
FILES = ("samples/*.parquet", "layers/*.parquet", "*.json")


def _images(count: int) -> ImageSet:
    data = held_out_data("digits", How())
    labels = None if data.labels is None else data.labels[:count]
    return ImageSet(
        data=data, count=count, labels=labels, skip_unreadable=False, require_fit=lambda _: None
    )


def _work(made: Quantized, graph: Graph, plan: Plan) -> Callable[[int], Result]:
    in_float = FloatModule.beside(made.reference, trained("spikformer"), PREPROCESSING.normalise)
    witness = Witness(reference=made.reference, in_float=in_float.run, preprocessing=None)
    sides = Sides(network=made.network, executable=Reference().compile(graph), witness=witness)
    images = _images(plan.images)
    return lambda shard: validate_shard(sides, images, plan, shard, batch=8)


def _files(folder: Path) -> dict[str, bytes]:
    found = [path for pattern in FILES for path in folder.glob(pattern)]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_resumed_results_are_the_same_bytes(spikformer: Quantized, tmp_path: Path) -> None:
    plan = Plan(images=20, shard=8, share=Fraction(1, 2))
    work = _work(spikformer, spikformer.network.graph, plan)
    whole = Store(tmp_path / "whole", {"a": 1})
    assert run_here(whole, range(3), work) == Round()
    facts = finish(whole, plan, ABOUT)
    assert facts is not None
    assert facts["verdict"] == "exact"
    assert (facts["images"], facts["images_compared"], facts["mismatches"]) == (20, 10, 0)
    parts = Store(tmp_path / "parts", {"a": 1})
    for k in (2, 1, 3):
        assert finish(parts, plan, ABOUT) is None
        run_here(parts, slice_of(f"{k}/3", 3), work)
    assert finish(parts, plan, ABOUT) == facts
    expected = _files(tmp_path / "whole")
    assert len(expected) == 2 * 3 + 2
    assert _files(tmp_path / "parts") == expected
    (tmp_path / "parts/samples/000001.parquet").unlink()  # killed between the two files
    (tmp_path / "parts/samples/000001.parquet.part").write_bytes(b"half")
    with parts.locked(1):
        assert run_here(parts, range(3), work).held == [1]
    run_here(parts, range(3), work)
    assert _files(tmp_path / "parts") == expected
    assert not list((tmp_path / "parts").rglob("*.part"))
    renamed = finish(parts, plan, replace(ABOUT, renamed=(("one", "two"),)))
    assert renamed is not None
    assert (renamed["verdict"], renamed["mismatches"]) == ("differs", 0)
    with pytest.raises(InputError, match=r"other options \(a: 1, asked 2\)"):
        Store(tmp_path / "parts", {"a": 2})


def test_every_value_of_every_image_is_counted(
    spikformer: Quantized, test_split: Split, tmp_path: Path
) -> None:
    plan = Plan(images=6, shard=4, share=Fraction(1))
    graph = spikformer.network.graph
    store = Store(tmp_path / "r", {})
    run_here(store, range(2), _work(spikformer, graph, plan))
    facts = finish(store, plan, ABOUT)
    assert facts is not None
    given = spikformer.network.encode(test_split.images[:6])
    want, got = spikformer.reference.run(given), Reference().compile(graph).run(given)
    values = sum(want.values[n].size for n in graph.firing) + 10 * 6
    assert facts["compared"] == values + sum(
        array.size for kept in (want.currents, want.membranes) for array in kept.values()
    )
    kinds = {kind: found for kind, (found, _) in facts["kinds"].items()}
    assert kinds["spikes"] == sum(want.values[n].size for n in graph.firing)
    assert kinds["membrane"] == sum(array.size for array in want.membranes.values())
    assert sum(kinds.values()) == facts["compared"]
    labels = test_split.labels[:6]
    for side, logits in (("integer", got), ("pytorch", want)):
        answers = logits.values[graph.outputs[0]][-1].argmax(-1)
        confusion = np.zeros((10, 10), int)
        np.add.at(confusion, (labels, answers), 1)
        assert facts["accuracy"][side]["top1"] == int((answers == labels).sum())
        assert facts["accuracy"][side]["confusion"] == confusion.tolist()
    in_float = FloatModule.beside(
        spikformer.reference, trained("spikformer"), PREPROCESSING.normalise
    ).run(test_split.images[:6])
    assert set(in_float.spikes) == set(graph.firing)
    differ = 0
    for name in graph.firing:
        mine, row = got.values[name], facts["layers"][name]
        assert row["rate"] == np.abs(mine).sum() / (mine.size * graph.types[name].range.magnitude)
        assert row["float_mismatch"] == (mine != in_float.spikes[name]).sum() / mine.size
        steps = np.abs(mine).reshape(len(mine), -1).mean(1) / graph.types[name].range.magnitude
        assert row["rate_by_step"] == pytest.approx(steps.tolist(), rel=1e-12)
        assert 0 < row["rate_in_float"] < 1
        differ += row["float_mismatch"] > 0
    assert differ  # int8 is not float: a float side that is the integers would show nothing
    for name, state in got.membranes.items():
        assert facts["layers"][name]["largest_state"] == int(np.abs(state).max())
        assert facts["layers"][name]["lowest_state"] == int(state.min())
        assert facts["layers"][name]["highest_state"] == int(state.max())
        assert 0 < facts["layers"][name]["headroom"] < 1


def test_float_spikes_of_equal_weights_are_equal(spikformer: Quantized, test_split: Split) -> None:
    """The quantized module, run as if it were the float one, sends what the reference records."""
    reference, images = spikformer.reference, test_split.images[:3]
    given = spikformer.network.encode(images)
    (name,) = given

    def prepare(_: Any) -> Any:
        import torch

        return torch.from_numpy(given[name][0].astype(np.float64)) * float(reference.image_scale)

    run = FloatModule.beside(reference, reference.module, prepare).run(images)
    want = reference.run(given)
    assert len(run.spikes) > 5
    for node, spikes in run.spikes.items():
        assert np.array_equal(spikes, want.values[node]), node


@pytest.mark.parametrize("stop", [False, True])
def test_a_planted_weight_is_named(spikformer: Quantized, tmp_path: Path, stop: bool) -> None:
    graph = spikformer.network.graph
    nodes = [
        replace(n, op=replace(n.op, weight=IntTensor(-n.op.weight.array)))
        if n.name == "patch_embed.proj_conv" and isinstance(n.op, ops.Conv2d)
        else n
        for n in graph.nodes
    ]
    broken = Graph(tuple(nodes), graph.outputs, graph.T)
    plan, store = Plan(images=2, shard=1, share=Fraction(1)), Store(tmp_path / "r", {})
    done = run_here(store, range(2), _work(spikformer, broken, plan), stop=stop)
    facts = finish(store, plan, ABOUT)
    if stop:
        assert facts is None
        assert done.first is not None
        first = done.first
        again = run_here(store, range(2), _work(spikformer, broken, plan), stop=True)
        assert again.first == done.first  # of a shard that is done
    else:
        assert facts is not None
        assert facts["verdict"] == "differs"
        assert facts["images_that_differ"] == [0, 1]
        first = facts["first"]
    assert first["sample"] == 0
    assert "patch_embed.proj_conv" in first["suspects"]
    around = first["around"]
    assert around["neurons"][around["row"]] == first["index"]
    assert len(around["expected"]) == len(around["got"]) == len(around["neurons"])


def test_memory_does_not_grow_with_the_set(spikformer: Quantized, tmp_path: Path) -> None:
    """Images are asked for a batch at a time, each once."""
    asked: list[list[int]] = []
    images = _images(20)

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(images.data, name)

        def read(self, numbers: Any) -> Any:
            asked.append(list(numbers))
            return images.data.read(numbers)

    watched = replace(images, data=Watched())  # type: ignore[arg-type]
    sides = Sides(
        network=spikformer.network,
        executable=Reference().compile(spikformer.network.graph),
        witness=None,
    )
    plan = Plan(images=20, shard=10, share=Fraction(1))
    for shard in range(2):
        validate_shard(sides, watched, plan, shard, batch=4)
    assert [len(numbers) for numbers in asked] == [4, 4, 2, 4, 4, 2]
    assert [number for numbers in asked for number in numbers] == list(range(20))


def test_pixels_that_the_network_does_not_take_are_refused_where_they_are_read() -> None:
    """Counts of events beyond those of the calibration show only in the image that has them."""

    def require_fit(pixels: Any) -> None:
        if int(pixels.max()) > 200:
            raise InputError("counts of up to")

    images = replace(_images(20), require_fit=require_fit)
    with pytest.raises(InputError, match="counts of up to"):
        images.read(range(20))


def test_time_left_is_that_of_what_was_not_done_before() -> None:
    class Quiet:
        shown = True

        def advance(self, _: int) -> None:
            """Show nothing."""

    now = [100.0]
    left = Remaining(1000, Quiet(), quiet=False, clock=lambda: now[0])  # type: ignore[arg-type]
    left.skip(400)
    assert left.seconds() is None
    now[0] = 110.0
    left.advance(100)
    assert left.seconds() == 50.0
    assert str(left) == "500 of 1,000 images, about 50 s left"


def test_a_share_is_spread_evenly() -> None:
    plan = Plan(images=100, shard=10, share=Fraction(1, 10))
    assert [sum(map(plan.is_compared, plan.samples(shard))) for shard in range(10)] == [1] * 10
    for share in (Fraction(0), Fraction(3, 2)):
        with pytest.raises(InputError, match="0 < share <= 1"):
            Plan(images=1, shard=1, share=share)
    for text in ("0/3", "4/3", "3", "a/b", "1/"):
        with pytest.raises(InputError, match="K from 1 to N"):
            slice_of(text, 3)
    assert list(slice_of("1/3", 6)) == [0, 3]


def test_other_options_are_told_to_the_innermost_name(tmp_path: Path) -> None:
    Store(tmp_path / "r", {"data": {"count": 10, "sha256": "a" * 64}, "network": "n"})
    Store(tmp_path / "r", {"data": {"count": 10, "sha256": "a" * 64}, "network": "n"})
    with pytest.raises(InputError, match=r"options \(data\.count: 10, asked 20\): repeat"):
        Store(tmp_path / "r", {"data": {"count": 20, "sha256": "a" * 64}, "network": "n"})
    with pytest.raises(InputError, match=r"data\.sha256: 'a{39}\.\.\., asked 'b{39}\.\.\.\)"):
        Store(tmp_path / "r", {"data": {"count": 10, "sha256": "b" * 64}, "network": "n"})
    with pytest.raises(InputError, match=r"data: \{'count': 10.*, asked None"):
        Store(tmp_path / "r", {"network": "n"})
