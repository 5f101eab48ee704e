"""A run configuration of the user's: it chooses every model, or is refused in one sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lapilli.ir.errors import InputError
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray
from lapilli.simulators.conformance import attention_block
from lapilli.simulators.lava.host.adapter import Lava
from lapilli.simulators.lava.host.stock import StockLava
from lapilli.simulators.lava.shared.run_config import located
from lapilli.simulators.protocol import ReadsMembranes
from lapilli.simulators.reference import Reference

pytestmark = pytest.mark.lava

GRAPH = attention_block()
INPUTS = {"x": (np.random.default_rng(3).random((8, 3, 4, 6)) < 0.5).astype(np.int64)}

OWN = """
from pathlib import Path

from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.lif.models import PyLifResetModelBitAcc
from lava.proc.lif.process import LIFReset


class Noting(Loihi2SimCfg):
    '''Loihi 2's simulator; notes whom it was asked about.'''

    def select(self, process, models):
        with Path(__file__).with_suffix(".txt").open("a") as notes:
            print(type(process).__name__, file=notes)
        return super().select(process, models)


class Endless(PyLifResetModelBitAcc):
    '''Keeps its membrane when it fires.'''

    def reset_voltage(self, spike_vector):
        pass


def endless(select_tag):
    return Loihi2SimCfg(select_tag=select_tag, exception_proc_model_map={LIFReset: Endless})


def nothing(select_tag):
    return {}


answer = 42
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A file of the user's."""
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return file


BOTH = (Lava(batch=1), StockLava())


def run(name: str, lava: Lava | StockLava = BOTH[0]) -> Recording:
    return replace(lava, run_config=name).compile(GRAPH).run(INPUTS)


def wrong(values: dict[str, IntArray]) -> list[str]:
    want = Reference().compile(GRAPH).run(INPUTS).values
    assert values.keys() == set(GRAPH.recorded)
    assert all(0.02 < want[n].mean() < 0.98 for n in GRAPH.neurons)
    return [name for name, value in values.items() if not np.array_equal(value, want[name])]


@pytest.mark.parametrize("lava", BOTH, ids=lambda lava: lava.name)
def test_a_configuration_of_ones_own_is_asked(own: Path, lava: Lava | StockLava) -> None:
    got = run(f"{own}:Noting", lava)
    assert wrong(dict(got.values)) == []
    asked = own.with_suffix(".txt").read_text().split()
    some = {
        "lava": {"LIFReset", "Product", "Source"},
        "lava-stock": {"LIFReset", "Sparse", "Probe"},
    }
    assert some[lava.name] < set(asked)


@pytest.mark.parametrize("lava", BOTH, ids=lambda lava: lava.name)
def test_the_model_that_it_chooses_runs(own: Path, lava: Lava | StockLava) -> None:
    assert wrong(dict(run(f"{own}:endless", lava).values))


@pytest.mark.parametrize("lava", BOTH, ids=lambda lava: lava.name)
def test_hardware_is_not_simulated(lava: Lava | StockLava) -> None:
    """Lava's own configuration for Loihi 2, where Intel's compiler is not installed."""
    with pytest.raises(InputError, match="Loihi2HwCfg' is for hardware"):
        run("lava.magma.core.run_configs:Loihi2HwCfg", lava)


def test_membranes_are_read_under_it_too(own: Path) -> None:
    lava = Lava(batch=1, run_config=f"{own}:Noting").compile(GRAPH)
    assert isinstance(lava, ReadsMembranes)
    want = Reference().compile(GRAPH).run(INPUTS).membranes["q"]
    assert np.array_equal(lava.membrane(INPUTS, "q", 2, 1), want[2, 1])
    assert own.with_suffix(".txt").exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("lava.absent:Cfg", "making it raised ModuleNotFoundError"),
        ("lava.magma.core.run_configs:Loihi3Cfg", "has no attribute 'Loihi3Cfg'"),
        ("FILE:answer", "'int' object is not callable"),
        ("FILE:nothing", "made a dict, no RunConfig"),
    ],
)
def test_what_is_no_configuration(own: Path, name: str, sentence: str) -> None:
    with pytest.raises(InputError, match=f"^run configuration '.*{sentence}[^\n]*$"):
        run(name.replace("FILE", str(own)))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Loihi2HwCfg", "is not PACKAGE.MODULE:NAME or FILE.py:NAME"),
        ("a/b:Cfg", "is not PACKAGE.MODULE:NAME or FILE.py:NAME"),
        ("a.py:", "is not PACKAGE.MODULE:NAME or FILE.py:NAME"),
        ("absent.py:Cfg", "no such file"),
    ],
)
def test_names_are_looked_at_before_anything_starts(name: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Lava(run_config=name).compile(GRAPH)


def test_a_file_is_found_from_anywhere(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own.parent)
    assert located("own.py:Noting") == f"{own.resolve()}:Noting"
    assert located("a.b:Cfg") == "a.b:Cfg"
