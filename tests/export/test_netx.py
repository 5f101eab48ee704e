"""lava-dl's own netx beside us: what it loads and runs, and what its wheel ships as right.

Needs the environment of `make lava-dl` (which `make test-long` builds), or one named by
LAPILLI_LAVA_DL_PYTHON.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lapilli.ir.graph import Graph
from lapilli.ir.network import Network
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray
from lapilli.ir.text import dumps
from lapilli.simulators.reference import Reference

h5py = pytest.importorskip("h5py")

from networks import inhibited  # noqa: E402

from lapilli.export.net.importer import network_from_net  # noqa: E402
from lapilli.export.net.writer import NetFacts, save_net  # noqa: E402  (needs h5py)

pytestmark = pytest.mark.slow

PYTHON = Path(
    os.environ.get("LAPILLI_LAVA_DL_PYTHON", Path(sys.prefix) / "lava-dl" / "bin" / "python")
)
SHIPPED = PYTHON.parents[1] / "lib/python3.10/site-packages/tests/lava/lib/dl/netx"
WORKER = Path(__file__).with_name("run_netx.py")
Answer = Mapping[str, npt.NDArray[Any]]


def run_netx(file: Path, x: IntArray, **options: int) -> Answer:
    """Spikes of each layer and the last membrane, of (steps, ...) in netx's own process."""
    job, out = file.with_suffix(".job.npz"), file.with_suffix(".out.npz")
    given: dict[str, Any] = {"x": x, **options}
    np.savez(job, **given)
    command = [PYTHON, WORKER, file, job, out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(np.load(out))


def mismatches(ours: Recording, theirs: Answer, facts: NetFacts) -> list[int]:
    """Values that differ, by layer, of samples that netx was given one behind the other."""
    found = []
    for index, name in enumerate(facts.layers):
        want = ours.values[name].swapaxes(0, 1)
        want = want.reshape(-1, *want.shape[2:])
        last = index == len(facts.layers) - 1 and facts.reads == "membrane"
        got = theirs["membrane"] if last else theirs[str(index)]
        got = got[index + facts.reset_offset :][: len(want)]
        found.append(int(np.sum(got.reshape(want.shape) != (64 * want if last else want))))
    return found


@pytest.mark.parametrize("fine", [0, 3])
def test_netx_runs_an_exported_chain_spike_for_spike(
    net_chain: Callable[..., Network],
    net_drive: Callable[[Graph], IntArray],
    fine: int,
    tmp_path: Path,
) -> None:
    network, path = net_chain(encoder=False, fine=fine), tmp_path / "chain.net"
    facts = save_net(network, path)
    x = net_drive(network.graph)
    ours = Reference().compile(network.graph).run({"x": x})
    assert all(0.03 < ours.values[name].mean() < 0.97 for name in network.graph.neurons)
    assert len(np.unique(ours.values["logits"])) > 10
    options = {
        "reset_interval": facts.reset_interval,
        "reset_offset": facts.reset_offset,
        "input_message_bits": facts.input_message_bits,
    }
    given = x.swapaxes(0, 1).reshape(-1, *x.shape[2:])
    assert mismatches(ours, run_netx(path, given, **options), facts) == [0, 0, 0, 0]

    with h5py.File(path, "r+") as file:  # a planted error: one weight with the other sign
        file["layer/1/weight"][0, 0, 1, 1] *= -1
    assert mismatches(ours, run_netx(path, given, **options), facts)[0] > 0


@pytest.mark.parametrize(("T", "fine"), [(16, 0), (6, 3)])
def test_netx_runs_an_exported_chain_with_an_input_layer(
    net_chain: Callable[..., Network], T: int, fine: int, tmp_path: Path
) -> None:
    network, path = net_chain(encoder=True, T=T, fine=fine), tmp_path / "chain.net"
    facts = save_net(network, path)
    image = np.random.default_rng(3).integers(-4, 9, (2, 7, 6))
    x = np.broadcast_to(image, (T, 1, 2, 7, 6))
    ours = Reference().compile(network.graph).run({"x": x})
    assert all(0.03 < ours.values[name].mean() < 0.97 for name in network.graph.neurons)
    theirs = run_netx(path, x[:, 0], reset_interval=T, reset_offset=facts.reset_offset)
    assert mismatches(ours, theirs, facts) == [0] * 5


def test_netx_runs_what_quantize_makes_of_six_bits(tmp_path: Path) -> None:
    """A leak of a half over four steps takes 9 fraction bits: weights of 8 bits leave no room."""
    torch = pytest.importorskip("torch")
    from lapilli.ir.errors import UnsupportedError
    from lapilli.model.families.lif import LIF
    from lapilli.quantize import quantize

    T, path = 4, tmp_path / "six.net"

    class Chain(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = torch.nn.Conv2d(3, 8, 3, 2, 1)
            self.conv2 = torch.nn.Conv2d(8, 16, 3, 2, 1)
            self.lif1, self.lif2 = LIF(), LIF()
            self.head = torch.nn.Linear(256, 10)

        def forward(self, x: Any) -> Any:
            x = x.unsqueeze(0).repeat(T, 1, 1, 1, 1)
            x = self.lif1(self.conv1(x.flatten(0, 1)).reshape(T, -1, 8, 8, 8))
            x = self.lif2(self.conv2(x.flatten(0, 1)).reshape(T, -1, 16, 4, 4))
            return self.head(x.flatten(2)).mean(0)

    torch.manual_seed(0)
    model, images = Chain().eval(), 4 * torch.randn(8, 3, 16, 16)
    with torch.no_grad():
        model.conv2.weight *= 4
    with pytest.raises(UnsupportedError, match="weights of 6 bits would fit"):
        save_net(quantize(model, images).network, path)
    network = quantize(model, images, weight_bits=6).network
    facts = save_net(network, path)
    assert "fraction_bits=9" in dumps(network.graph)
    q = np.rint(images[:3].numpy() * 2.0**network.input.exponent).astype(np.int64)
    q = q.clip(network.input.lo, network.input.hi)
    x = np.broadcast_to(q, (T, *q.shape))
    ours = Reference().compile(network.graph).run({network.graph.inputs[0]: x})
    assert all(0.03 < ours.values[name].mean() < 0.97 for name in network.graph.neurons)
    theirs = run_netx(
        path,
        x.swapaxes(0, 1).reshape(-1, 3, 16, 16),
        reset_interval=T,
        reset_offset=facts.reset_offset,
        input_message_bits=facts.input_message_bits,
    )
    assert mismatches(ours, theirs, facts) == [0, 0, 0]


def test_netx_and_we_feed_spikes_to_a_first_layer_that_is_dense(
    net_chain: Callable[..., Network], tmp_path: Path
) -> None:
    path, T = tmp_path / "dense.net", 12
    save_net(net_chain(encoder=True, T=T), path)
    with h5py.File(path, "r+") as file:
        for index in "0123":
            del file[f"layer/{index}"]
        for index in "45":
            file["layer"].move(index, str(int(index) - 4))
        for index in "01":  # nothing moves before the sample
            file[f"layer/{index}/bias"][...] = 0
    spikes = np.random.default_rng(8).integers(0, 2, (T, 72))
    network = network_from_net(path)
    ours = Reference().compile(network.graph).run({"input": spikes.reshape(T, 1, 1, 1, 72)})
    facts = NetFacts(("layer.0", "layer.1"), T, 1, 0, "membrane")
    assert 0.03 < ours.values["layer.0"].mean() < 0.97
    assert len(np.unique(ours.values["layer.1"])) > 10
    assert mismatches(ours, run_netx(path, spikes), facts) == [0, 0]

    with h5py.File(path, "r+") as file:  # a planted error
        file["layer/0/weight"][0] *= -1
    assert mismatches(ours, run_netx(path, spikes), facts)[0] > 0


def test_netx_and_we_keep_membranes_at_the_end_of_their_register(
    net_chain: Callable[..., Network], tmp_path: Path
) -> None:
    path, T = tmp_path / "low.net", inhibited.T
    inhibited.inhibited(net_chain, path)
    network, x = network_from_net(path, T), inhibited.spikes()
    ours = Reference().compile(network.graph).run({"input": x.reshape(T, 1, 1, 1, -1)})
    facts = NetFacts(("layer.0", "layer.1"), T, 1, 0, "membrane")
    assert int(ours.membranes["layer.0"].min()) == inhibited.LOWEST
    assert 0 < ours.values["layer.0"].mean() < 1
    assert mismatches(ours, run_netx(path, x), facts) == [0, 0]


def test_netx_and_we_read_the_mnist_net_that_lava_dl_ships(tmp_path: Path) -> None:
    network, path = network_from_net(SHIPPED / "mnist.net"), tmp_path / "mnist.net"
    path.write_bytes((SHIPPED / "mnist.net").read_bytes())
    image = np.random.default_rng(4).integers(64, 140, 784)
    T = network.graph.T
    ours = (
        Reference().compile(network.graph).run({"input": np.broadcast_to(image, (T, 1, 1, 1, 784))})
    )
    facts = NetFacts((*network.graph.neurons, *network.graph.outputs), T, 0, 0, "membrane")
    assert all(0.001 < ours.values[name].mean() < 0.999 for name in network.graph.neurons)
    theirs = run_netx(path, np.broadcast_to(image, (T, 784)), reset_interval=T)
    assert mismatches(ours, theirs, facts) == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("net", "folder", "image", "T", "layers"),
    [
        ("tiny.net", "tinynet", "input_bias", 15, {0: "input", 1: "layer1", 2: "output"}),
        (
            "gts/pilotnet_lif/network.net",
            "pilotnet_lif",
            "image",
            16,
            {0: "input-s", **{i: f"conv-{i - 1}" for i in range(1, 6)},
             **{i: f"fc-{i - 7}" for i in range(7, 10)}},
        ),
    ],
)  # fmt: skip
def test_the_ground_truth_that_lava_dl_ships(
    net: str, folder: str, image: str, T: int, layers: Mapping[int, str]
) -> None:
    """Spikes of every layer at every step of a sample; of PilotNet, as Loihi computed them."""
    network = network_from_net(SHIPPED / net, T)
    truth = SHIPPED / "gts" / folder
    pixels = np.load(truth / f"{image}.npy").astype(np.int64).T
    ours = (
        Reference()
        .compile(network.graph)
        .run({"input": np.broadcast_to(pixels, (T, 1, *pixels.shape))})
    )
    for stage, (index, file) in enumerate(layers.items()):
        late = stage if folder == "pilotnet_lif" else 1
        want = np.load(truth / f"{file}.npy")
        want = np.moveaxis(want[0], -1, 0) if folder == "tinynet" else want.T
        want = want[late : late + T].astype(np.int64)
        got = ours.values[f"layer.{index}"][:, 0]
        assert np.array_equal(got, want), file
        assert 0.01 < want.mean() < 0.95, file
        if folder == "pilotnet_lif" and stage:  # current and membrane as well
            u, v = (np.load(truth / f"{file}-{s}.npy").T[late : late + T] for s in "uv")
            assert np.array_equal(64 * ours.currents[f"layer.{index}"][:, 0], u), file
            membrane = ours.membranes[f"layer.{index}"][:, 0]
            fired = 128  # what Loihi's register holds of a neuron that has just fired
            assert np.array_equal(np.where(got, fired, membrane), v), file


@pytest.mark.parametrize("spread", ["one", "outputs", "inputs", "weights"])
def test_netx_and_we_delay_the_same_synapses(
    net_chain: Callable[..., Network], spread: str, tmp_path: Path
) -> None:
    """A number for all, for each output, for each input, for each weight."""
    path, T, rng = tmp_path / "late.net", 16, np.random.default_rng(6)
    facts = save_net(net_chain(encoder=True, T=T), path)
    with h5py.File(path, "r+") as file:
        outputs, inputs = file["layer/4/weight"].shape
        shape = {
            "one": (),
            "outputs": (outputs,),
            "inputs": (inputs,),
            "weights": (outputs, inputs),
        }
        file["layer/4/delay"] = rng.integers(1, 20, shape[spread])
        file["layer/5/delay"] = 2
        for index in (1, 2, 4):  # nothing fires before the sample, to arrive in it
            file[f"layer/{index}/bias"][...] = 0
    facts = replace(facts, layers=tuple(f"layer.{i}" for i in (0, 1, 2, 4, 5)))
    network = network_from_net(path)
    x = np.broadcast_to(rng.integers(-4, 9, (2, 7, 6)), (T, 1, 2, 7, 6))
    ours = Reference().compile(network.graph).run({"input": x})
    assert 0.03 < ours.values["layer.4"].mean() < 0.97
    assert len(np.unique(ours.values["layer.5"])) > 10
    assert mismatches(ours, run_netx(path, x[:, 0], reset_interval=T), facts) == [0] * 5

    with h5py.File(path, "r+") as file:  # a planted error: one step earlier
        earlier = file["layer/4/delay"][()] - 1
        del file["layer/4/delay"]
        file["layer/4/delay"] = earlier
    assert mismatches(ours, run_netx(path, x[:, 0], reset_interval=T), facts)[3] > 0


def test_the_delays_of_a_network_that_lava_dl_ships(tmp_path: Path) -> None:
    """NTIDIGITS up to the average that netx does not run, on its own input.

    Its weights could take u beyond 24 bits, so that we refuse it; here they are a sixteenth.
    """
    from lapilli.ir.errors import FormatError

    path, T = tmp_path / "ntidigits.net", 240
    path.write_bytes((SHIPPED / "gts/ntidigits/ntidigits.net").read_bytes())
    with h5py.File(path, "r+") as file:
        del file["layer/5"]
    with pytest.raises(FormatError, match=r"layer\.2.*24"):
        network_from_net(path, T)
    with h5py.File(path, "r+") as file:
        for index in (2, 3, 4):
            file[f"layer/{index}/weight"][...] = np.fix(file[f"layer/{index}/weight"][...] / 16)
            file[f"layer/{index}/neuron/vThMant"][...] = 5
    x = np.load(SHIPPED / "gts/ntidigits/input.npy").T.astype(np.int64)[200 : 200 + T]
    network = network_from_net(path, T)
    ours = Reference().compile(network.graph).run({"input": x.reshape(T, 1, 1, 1, 64)})
    facts = NetFacts(("layer.2", "layer.3", "layer.4"), T, 1, 0, "spikes")
    assert all(0.001 < ours.values[name].mean() < 0.5 for name in facts.layers)
    assert mismatches(ours, run_netx(path, x), facts) == [0, 0, 0]


def test_shipped_networks_that_are_not_chains_of_cuba_layers_are_refused() -> None:
    from lapilli.ir.errors import FormatError

    shipped = [("pilotnet_sdnn/network.net", "SDNN"), ("ntidigits/ntidigits.net", "'average'")]
    for net, says in shipped:
        with pytest.raises(FormatError, match=says):
            network_from_net(SHIPPED / "gts" / net)
