"""The simulator on portable C: random graphs, sanitizers, and how it fails."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from lapilli.deploy.cli.doctor import examine
from lapilli.deploy.surveys.c_check import SANITIZED, STRICT, BothWays
from lapilli.ir.errors import RangeError, SimulatorFailedError, SimulatorUnavailableError
from lapilli.simulators.c import PortableC, compiler
from lapilli.simulators.conformance import CASES, check
from lapilli.simulators.conformance.general_cases import GENERAL
from lapilli.simulators.conformance.random_graphs import random_case

GRAPHS = 30
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler is installed")


@needs_compiler
@pytest.mark.parametrize("seed", range(GRAPHS))
def test_random_graphs_are_exact_both_ways_without_a_warning(seed: int) -> None:
    assert check(BothWays(), random_case(seed)) > 0


@needs_compiler
@pytest.mark.parametrize("name", [name for name, *_ in GENERAL])
def test_neurons_of_many_constants_are_exact_both_ways(name: str) -> None:
    (case,) = (c for c in CASES if c.name == name)
    assert check(BothWays(options=(*STRICT, *SANITIZED)), case) > 0


@needs_compiler
def test_sanitizers_find_nothing() -> None:
    (block,) = (c for c in CASES if c.name == "attention-block")
    assert check(BothWays(options=(*STRICT, *SANITIZED)), block) > 0


@needs_compiler
def test_inputs_beyond_their_type_are_refused() -> None:
    case = random_case(0)
    (name, given) = next(iter(case.inputs.items()))
    with pytest.raises(RangeError, match=name):
        PortableC().compile(case.graph).run({**case.inputs, name: np.full_like(given, 1 << 40)})


@needs_compiler
def test_what_the_compiler_says_is_told() -> None:
    with pytest.raises(SimulatorFailedError, match="ended with status 1"):
        PortableC(options=("--no-such-option",)).compile(random_case(0).graph)


def test_without_a_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SimulatorUnavailableError, match="install gcc or clang"):
        PortableC().compile(random_case(0).graph)


def test_doctor_says_which_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "my-cc")
    monkeypatch.setattr(shutil, "which", lambda name: f"/opt/{name}")
    monkeypatch.setattr("lapilli.deploy.cli.doctor._environments", tuple)
    found = next(f for f in examine() if getattr(f, "what", "") == "C compiler")
    assert found.version == "/opt/my-cc"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = next(f for f in examine() if getattr(f, "what", "") == "C compiler")
    assert found.version is None
    assert "install gcc or clang" in found.remedy
