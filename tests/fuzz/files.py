"""Honest files of each format, small, for `fuzz.py` to damage."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import nir
import numpy as np
from fuzz.data_files import PLACES, honest_data

from lapilli.export.native import save_network
from lapilli.export.net.writer import save_net
from lapilli.export.nir.write.writer import save_nir
from lapilli.export.onnx.writer import save_onnx
from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance import attention_block

NETWORKS = ("lapilli", "nir", "net", "onnx")
FORMATS = (*NETWORKS, *PLACES)
HDF5 = ("nir", "net")  # whose library may loop or die
_IMAGE = TensorType((1, 4, 4), IntRange(-8, 8), Kind.GRADED)


def honest(kind: str, folder: Path) -> list[bytes]:
    """Files of this format, written in this folder."""
    if kind in PLACES:
        return honest_data(kind, folder)
    path = folder / "honest"
    networks = [_network(attention_block(2, 4, 2)), _network(_residual())]
    files = []
    match kind:
        case "lapilli":
            for network in networks:
                save_network(network, path)
                files.append(path.read_bytes())
        case "nir":
            save_nir(networks[1], path)
            files.append(path.read_bytes())
            nir.write(path, _theirs())
            files.append(path.read_bytes())
        case "net":
            save_net(_network(_chain()), path)
            files.append(path.read_bytes())
        case _:
            for network in networks:
                for step in (False, True):
                    save_onnx(network, path, step=step, inlined=network is networks[0])
                    files.append(path.read_bytes())
    return files


def _network(graph: Graph) -> Network:
    quantizer = InputQuantizer(
        mean=(Fraction(1, 3),), std=(Fraction(7, 22),), exponent=-2, lo=-127, hi=126
    )
    return Network(
        graph=graph, input=quantizer, logit_scale=Fraction(-5, 3 << 70), classes=("a", "b", "c")
    )


def _residual() -> Graph:
    rng = np.random.default_rng(0)

    def ints(*shape: int) -> IntTensor:
        return IntTensor.of(rng.integers(-7, 8, shape))

    leaky = ops.Neuron(threshold=IntTensor.of([64 * 9]), dv=2048)
    first = ops.Conv2d(weight=ints(3, 1, 3, 3), bias=ints(3), padding=(1, 1), graded=True)
    nodes = (
        Node("image", ops.Input(type=_IMAGE)),
        Node("a", first, ("image",)),
        Node("a.lif", leaky, ("a",)),
        Node("pool", ops.MaxPool2d(kernel=(2, 2), stride=(2, 2)), ("a.lif",)),
        Node("b", ops.Conv2d(weight=ints(3, 3, 1, 1), bias=ints(3)), ("pool",)),
        Node("b.lif", ops.Neuron(threshold=IntTensor.of([64 * 3])), ("b",)),
        Node("sum", ops.Add(), ("b", "b.lif")),
        Node("c.lif", leaky, ("sum",)),
        Node("flat", ops.Reshape(shape=(12,)), ("c.lif",)),
        Node("head", ops.Linear(weight=ints(3, 12), bias=ints(3)), ("flat",)),
        Node("logits", ops.Readout(), ("head",)),
    )  # fmt: skip
    return Graph(nodes, ("logits",), 4)


def _chain() -> Graph:
    """What a `.net` file can say: the input drives neurons, then a convolution and a matrix."""
    rng = np.random.default_rng(0)

    def lif(vth: int) -> ops.Neuron:
        return ops.Neuron(threshold=IntTensor.of([64 * vth + 1]), dv=2048)

    def ints(*shape: int) -> IntTensor:
        return IntTensor.of(rng.integers(-7, 8, shape))

    nodes = (
        Node("image", ops.Input(type=_IMAGE)),
        Node("spikes", lif(5), ("image",)),
        Node("conv", ops.Conv2d(weight=ints(3, 1, 3, 3), bias=ints(3), stride=(2, 1)), ("spikes",)),
        Node("conv.lif", lif(9), ("conv",)),
        Node("flat", ops.Reshape(shape=(6,)), ("conv.lif",)),
        Node("fc", ops.Linear(weight=ints(5, 6), bias=ints(5)), ("flat",)),
        Node("fc.lif", lif(4), ("fc",)),
        Node("head", ops.Linear(weight=ints(3, 5), bias=ints(3)), ("fc.lif",)),
        Node("logits", ops.Readout(), ("head",)),
    )
    return Graph(nodes, ("logits",), 4)


def _theirs() -> nir.NIRGraph:
    """A NIR file that is not ours."""
    one = np.ones(3)
    nodes = {
        "x": nir.Input(np.array([2])),
        "fc": nir.Affine(weight=np.arange(6, dtype=np.float32).reshape(3, 2) / 8, bias=np.zeros(3)),
        "lif": nir.LIF(tau=one * 2e-4, r=one * 2, v_leak=one * 0, v_threshold=one),
        "y": nir.Output(np.array([3])),
    }
    return nir.NIRGraph(nodes, [("x", "fc"), ("fc", "lif"), ("lif", "y")])
