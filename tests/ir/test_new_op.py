"""What a new op must be told to: all that reads ops, found by the type checker and by nothing else.

A copy of the package gets an op, and mypy says which files do not know it. A reader that has a
default instead (latency 0, "can be lowered", an entry in a table) would be missing here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from lapilli.ir import ops
from lapilli.simulators.conformance import CASES

ROOT = Path(__file__).resolve().parents[2]

_OP = '''

@dataclass(frozen=True, slots=True, kw_only=True)
class Novel:
    """An op that nobody knows."""

    bits: int


'''
# Whatever it does. (`export/native.py` reads `OPS`; `ir/text.py` shows any dataclass.)
_ALL = {
    "costs/counting.py",
    "costs/populations.py",
    "costs/shapes.py",
    "costs/traffic.py",
    "costs/wires.py",
    "ir/infer.py",
    "ir/passes/binary/lowering.py",
    "ir/passes/binary/sizes.py",
    "export/net/writer.py",
    "export/c/planning.py",
    "export/onnx/ops.py",
    "export/nir/write/lowering.py",
    "simulators/lava/worker/lowering.py",
}
NAMED = {
    # Computed from operands of the same step, at the cost of none or of one.
    "Immediate": {*_ALL, "ir/semantics.py", "simulators/event_driven.py"},
    "Synaptic": {*_ALL, "ir/semantics.py", "simulators/event_driven.py"},
    # It remembers, so that all that runs a graph needs a place for what it remembers.
    "Stateful": {
        *_ALL,
        "simulators/reference.py",
        "simulators/event_driven.py",
        "simulators/fast/running.py",
        "simulators/conformance/growing.py",
        "simulators/stock/behind.py",
    },
    # A group was forgotten: its latency is not known, and nobody can compute it.
    "": {
        *_ALL,
        "ir/passes/delays.py",
        "simulators/reference.py",
        "simulators/event_driven.py",
        "simulators/fast/running.py",
        "simulators/stock/behind.py",
    },
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package and its configuration, beside nothing else."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "src", folder / "src", symlinks=True)
    for link in (ROOT / "src" / "lapilli").iterdir():
        if link.is_symlink():
            skipped = shutil.ignore_patterns("__pycache__", "checkpoints")
            shutil.copytree(ROOT / link.name, folder / link.name, ignore=skipped)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.mark.parametrize(
    "group",
    [
        pytest.param(group, marks=() if group == "Immediate" else pytest.mark.slow)
        for group in NAMED
    ],
    ids=lambda group: group or "no group",
)
def test_the_type_checker_names_every_reader(copy: Path, group: str) -> None:
    pytest.importorskip("mypy")
    text = (ROOT / "ir" / "ops.py").read_text()
    head, union = text.split("Op: TypeAlias = (")
    text = f"{head.rstrip()}{_OP}Op: TypeAlias = (\n    Novel\n    | {union.lstrip()}"
    if group:
        text, found = re.subn(rf"^{group}: TypeAlias = ", r"\g<0>Novel | ", text, flags=re.M)
        assert found == 1
    (copy / "ir" / "ops.py").write_text(text)

    command = [sys.executable, "-m", "mypy", "src/lapilli"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)

    named = set(re.findall(r"^src/lapilli/(\S+?):\d+: error:", done.stdout, re.M))
    assert named == NAMED[group], done.stdout + done.stderr


def test_every_op_is_in_one_group_by_what_it_costs() -> None:
    """So that `delays.cost` and the simulators have one answer for each."""
    groups = (ops.Synaptic, ops.Immediate, ops.Stateful, ops.Delay | ops.Input)
    parts = [kind for group in groups for kind in get_args(group)]
    assert len(parts) == len(set(parts))
    assert set(parts) == set(ops.OPS) == set(get_args(ops.Op))
    assert set(get_args(ops.Stateless)) == set(ops.OPS) - set(get_args(ops.Stateful)) - {ops.Input}


def test_every_op_has_a_conformance_case() -> None:
    missing = set(ops.OPS) - {type(node.op) for case in CASES for node in case.graph.nodes}
    assert not missing, f"write a case in simulators/conformance/cases.py for {missing}"
