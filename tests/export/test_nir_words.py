"""Logits that float32 cannot hold leave a portable file in words, and come back whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lapilli.export.nir.read.importer import from_nir
from lapilli.export.nir.write.dialect import Flavour
from lapilli.ir import ops
from lapilli.ir.errors import FormatError, MismatchError, UnsupportedError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance import Case, check
from lapilli.simulators.nir import nirtorch as nir_runtime
from lapilli.simulators.nir import snntorch as snntorch_runtime
from lapilli.simulators.nir import spikingjelly as spikingjelly_runtime
from lapilli.simulators.nir.playback import Imported, Playback, played
from lapilli.simulators.protocol import Simulator
from lapilli.simulators.reference import Reference

for package in ("nir", "nirtorch", "torch", "snntorch", "spikingjelly"):
    pytest.importorskip(package)

import nir  # noqa: E402

from lapilli.export.nir.read.metadata import Stated  # noqa: E402
from lapilli.export.nir.write.writer import to_nir  # noqa: E402  (needs nir)

pytestmark = pytest.mark.torch

each_simulator = pytest.mark.parametrize(
    "simulator",
    [nir_runtime.NirTorch(), snntorch_runtime.SnnTorch(), spikingjelly_runtime.SpikingJelly()],
    ids=lambda s: s.name,
)


def _case(bits: int, features: int = 6) -> Case:
    """A membrane stream of so many bits, pooled and read out by weights of eight."""
    rng = np.random.default_rng(bits)
    most = (1 << bits) // 5
    weight, bias = rng.integers(-127, 128, (3, features)), rng.integers(-(1 << 20), 1 << 20, 3)
    nodes = (
        Node("x", ops.Input(type=TensorType((features, 2, 2), IntRange(-most, most), Kind.GRADED))),
        Node("s", ops.Neuron(threshold=IntTensor.of([most << 5]), dv=2048), ("x",)),
        Node("stream", ops.Add(), ("x", "s")),
        Node("pooled", ops.Sum(axes=(1, 2)), ("stream",)),
        Node("head", ops.Linear(weight=IntTensor.of(weight), bias=IntTensor.of(bias), graded=True),
             ("pooled",)),
        Node("logits", ops.Readout(), ("head",)),
    )  # fmt: skip
    x = rng.integers(-most, most + 1, (3, 8, features, 2, 2))
    return Case("words", "too long for float32", Graph(nodes, ("logits",), 3), {"x": x})


def _units(graph: Graph) -> list[int]:
    facts = json.loads(to_nir(graph, flavour=Flavour.PORTABLE).metadata["lapilli"])
    found: list[int] = facts["output"].get("units", [1])
    return found


@each_simulator
@pytest.mark.parametrize(
    ("bits", "units"),
    [(12, [1]), (17, [1, 1 << 5, 1 << 10, 1 << 15]), (19, None), (22, None)],
)
def test_logits_come_back_whole(simulator: Simulator, bits: int, units: list[int] | None) -> None:
    tried = _case(bits)
    assert _units(tried.graph) == units or units is None
    assert check(simulator, tried) > 0
    want = Reference().compile(tried.graph).run(tried.inputs).values
    assert 0 < want["s"].mean() < 1
    assert np.abs(want["logits"]).max() > (1 << 24 if bits > 16 else 0)


def test_inputs_are_halved_where_one_digit_of_all_is_too_long() -> None:
    units = _units(_case(22).graph)
    assert len(units) > len(set(units)) == 20  # the bias has the most bits


@each_simulator
@pytest.mark.parametrize("fault", ["lowest", "highest", "bias"])
def test_a_fault_in_any_limb_is_caught(simulator: Simulator, fault: str) -> None:
    load = {
        "nirtorch": nir_runtime.load_portable,
        "snntorch": snntorch_runtime.load,
        "spikingjelly": spikingjelly_runtime.load,
    }[simulator.name]

    def change(read: Any) -> None:
        (head,) = (node for name, node in read.nodes.items() if name.endswith("_head"))
        if fault == "bias":
            head.bias[-1] += 1
        else:
            head.weight[0 if fault == "lowest" else -1] += 1

    class Tampered:
        name = "tampered"

        def compile(self, graph: Graph) -> Playback:
            def loaded(read: Any) -> Imported:
                return load(read)

            return played(graph, Flavour.PORTABLE, loaded, change)

    with pytest.raises(MismatchError, match="values differ"):
        check(Tampered(), _case(19))


def test_the_file_imported_is_the_network_again(tmp_path: Path) -> None:
    tried = _case(19)
    nir.write(tmp_path / "x.nir", to_nir(tried.graph, flavour=Flavour.PORTABLE))
    bounds = tried.graph.types["x"].range
    back = from_nir(tmp_path / "x.nir", Stated(input_range=(bounds.lo, bounds.hi)))

    want = Reference().compile(tried.graph).run(tried.inputs).values["logits"]
    got = Reference().compile(back).run({back.inputs[0]: tried.inputs["x"]}).values

    assert len(_units(tried.graph)) > 1
    assert np.array_equal(got[back.outputs[0]], want)


@pytest.mark.parametrize("units", [[1], [1, -2], [1, 2.5], "1", [1] * 99])
def test_units_that_are_none_are_refused(units: object, tmp_path: Path) -> None:
    said = to_nir(_case(17).graph, flavour=Flavour.PORTABLE)
    facts = json.loads(said.metadata["lapilli"])
    facts["output"]["units"] = units
    said.metadata["lapilli"] = json.dumps(facts)
    nir.write(tmp_path / "x.nir", said)
    with pytest.raises(FormatError, match="metadata: the output's"):
        from_nir(tmp_path / "x.nir", Stated(input_range=(-9, 9)))


def test_an_input_that_fits_no_sum_is_refused() -> None:
    whole = (1 << 24) - 1
    nodes = (
        Node("x", ops.Input(type=TensorType((1,), IntRange(0, whole), Kind.GRADED))),
        Node(
            "head",
            ops.Linear(weight=IntTensor.of([[1]]), bias=IntTensor.of([whole]), graded=True),
            ("x",),
        ),
        Node("logits", ops.Readout(), ("head",)),
    )
    with pytest.raises(UnsupportedError, match="head: one of its inputs alone leaves"):
        to_nir(Graph(nodes, ("logits",), 2), flavour=Flavour.PORTABLE)


def test_what_a_neuron_reads_is_never_in_words() -> None:
    tried = _case(19)
    fire = Node("fire", ops.Neuron(threshold=IntTensor.of([1 << 30])), ("head",))
    graph = Graph((*tried.graph.nodes[:-1], fire), ("fire",), 3)
    with pytest.raises(UnsupportedError, match=r"head: its sums can need \d+ bits"):
        to_nir(graph, flavour=Flavour.PORTABLE)
