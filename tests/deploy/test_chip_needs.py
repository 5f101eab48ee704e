"""`lapilli inspect MODEL --for CHIP`: what a model needs, and what a chip cannot hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from lapilli.deploy.cli.app import app  # noqa: E402
from lapilli.deploy.cli.chip_needs import as_facts, needs_of, network_of  # noqa: E402
from lapilli.deploy.cli.models import ModelOptions  # noqa: E402
from lapilli.export.native import save_network  # noqa: E402
from lapilli.ir.errors import LapilliError  # noqa: E402
from lapilli.ir.network import Network  # noqa: E402

pytestmark = pytest.mark.torch

_SOURCE = """
from lapilli.model.families.table import make
from lapilli.model.trial import SMALL


def net(which="spikformer cifar"):
    return make(SMALL[which][0])
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of the user's, with a model that nobody trained."""
    path = tmp_path_factory.mktemp("own") / "mine.py"
    path.write_text(_SOURCE)
    return f"{path}:net"


def _told(*words: str) -> str:
    result = CliRunner().invoke(app, ["inspect", *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def _facts(*words: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(_told(*words, "--json"))
    return facts


_IMAGE = ("--shape", "3x16x16")


@pytest.fixture(scope="module")
def network(source: str) -> Network:
    """The model of that file, as integers."""
    return network_of(source, "loihi2", "3x16x16", ModelOptions(no_normalisation=True), [])


def _needed(network: Network, chip: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(json.dumps(as_facts(needs_of(network, chip))))
    return facts


def test_loihi2_is_a_range(source: str, network: Network) -> None:
    facts = _needed(network, "loihi2")
    assert facts["holds"] is True
    assert facts["cannot"] == []
    assert facts["unknown"] == [
        "input of one step", "threshold", "bias", "input axons", "output axons", "bits of synapses",
    ]  # fmt: skip
    assert facts["ops"][:3] == ["5 convolutions", "7 linear maps", "2 products of matrices"]
    assert facts["chips"] == "1 to unknown"
    assert " or more; " in facts["cores"]
    text = " ".join(_told(source, "--for", "loihi2", *_IMAGE).split())
    assert "nothing that is known of loihi2 stands against it; of input of one step, " in text
    assert "random inputs: training may change bits" in text


def test_loihi1_says_what_it_takes(network: Network) -> None:
    facts = _needed(network, "loihi1")
    assert facts["holds"]
    assert facts["system"] == "Kapoho Bay"
    lowest, cut = (int(n.replace(",", "")) for n in facts["cores"].split(" to "))
    assert 0 < lowest <= cut
    assert any(line.startswith("state: ") and "patch_embed" in line for line in facts["bits"])


def test_what_a_chip_lacks_is_named_by_module(network: Network, tmp_path: Path) -> None:
    """Of a chip whose cores hear ten: each layer that hears more by one neuron."""
    told = {"source": "me", "grade": "its own code"}
    own = tmp_path / "mine.json"
    figures = {"cores": 2, "neurons": 64, "input axons": 40, "output axons": 4096,
               "bits of synapses": 1 << 20}  # fmt: skip
    described = {key: {"value": n, **told} for key, n in figures.items()}
    own.write_text(json.dumps({"name": "mine", "systems": {"rack": 8}, **described}))
    facts = _needed(network, str(own))
    assert not facts["holds"]
    reasons = {one["module"]: one["reason"] for one in facts["cannot"]}
    assert reasons["patch_embed.proj_lif2"] == "one neuron takes 72 input axons of 40"  # 8 * 3 * 3
    assert "patch_embed.proj_lif1" not in reasons  # 4 * 3 * 3
    assert reasons["all of it"].endswith("chips; the largest system has 8")
    assert needs_of(network, str(own)).verdict.startswith("mine cannot hold it: ")


def test_speck_names_products(network: Network) -> None:
    facts = _needed(network, "speck")
    assert not facts["holds"]
    reasons = {one["module"]: one["reason"] for one in facts["cannot"]}
    assert (
        reasons["block.0.attn.matmul"]
        == "a product of two values; a core convolves, fires and pools by sums"
    )
    assert reasons["head"] == "no neurons follow it, which a core has"


def test_frames_of_events(source: str) -> None:
    facts = _facts(
        source, "--for", "loihi2", "--shape", "10x2x32x32", "--arg", "which=spikformer dvs"
    )
    assert facts["input"] == [2, 32, 32]
    assert facts["T"] == 10


def test_a_network_that_is_there(net_chain: Callable[..., Network], tmp_path: Path) -> None:
    file = tmp_path / "net.lapilli"
    save_network(net_chain(encoder=True), file)
    facts = _facts(str(file), "--for", "loihi1")
    assert facts["cannot"] == [
        {"module": "head", "reason": "needs 9 bits for its weights; there are 8"}
    ]
    assert "random inputs" not in _told(str(file), "--for", "loihi1")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--for", "moon", *_IMAGE), "chip 'moon' is none of loihi1, loihi2, speck"),
        (("--for", "loihi2"), "does not say how large its input is: give --shape 3x32x32"),
        (("--for", "loihi2", "--shape", "3x"), "is no shape as 3x32x32"),
        (("--for", "loihi2", "--shape", "32x32"), "is no shape as 3x32x32"),
        (("--for", "no.json", *_IMAGE), "no.json: cannot be read"),
        (("--for", "loihi2", "--shape", "2x16x16"), "channels"),
    ],
)
def test_refusals_are_a_sentence(source: str, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(LapilliError) as caught:
        _told(source, *words)
    assert said in str(caught.value)


def test_options_of_a_model_need_a_chip(source: str) -> None:
    result = CliRunner().invoke(app, ["inspect", source, *_IMAGE])
    assert result.exit_code == 2
    assert "--for CHIP" in " ".join(result.output.split())
