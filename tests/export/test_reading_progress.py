"""What `import` tells while HDF5's library reads: every dataset counted, and only by the worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lapilli.deploy.cli.progress import Bars
from lapilli.export.hdf5 import process
from lapilli.export.hdf5.process import read_tree
from lapilli.export.nir.read.importer import network_from_nir
from lapilli.export.nir.read.metadata import Stated
from lapilli.export.nir.read.reader import read_nir
from lapilli.ir.errors import FormatError

nir = pytest.importorskip("nir")
h5py = pytest.importorskip("h5py")


def long_file(path: Path, count: int) -> Path:
    with h5py.File(path, "w") as file:
        for i in range(count):
            file[f"group/{i}"] = np.arange(3)
    return path


@pytest.mark.parametrize(("count", "times"), [(3, 3), (100, 100), (1003, 100)])
def test_datasets_are_counted(count: int, times: int, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = long_file(tmp_path / "x.h5", count)
    tree = read_tree(path, progress=lambda done, total: told.append((done, total)))
    assert len(tree.values) == count
    assert len(told) == times
    assert told == sorted(told)
    assert told[-1] == (count, count)
    assert {total for _, total in told} == {count}


def test_a_file_that_is_none_is_refused_while_somebody_listens(tmp_path: Path) -> None:
    told: list[int] = []
    (tmp_path / "x.h5").write_bytes(b"7 9\n" * 99)
    with pytest.raises(FormatError, match="no HDF5 file"):
        read_tree(tmp_path / "x.h5", progress=lambda done, _: told.append(done))
    assert told == []


def test_only_numbers_of_the_worker_are_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = r"b'noise\n' + b'5' * 200 + b'\n3 4 x\n3 4\n'"
    code = f"import os; os.write(2, {said}); os._exit(1 + 0 * {{most}})"
    monkeypatch.setattr(process, "_CODE", code)
    told: list[tuple[int, int]] = []
    with pytest.raises(FormatError, match="did not come to an end"):
        read_tree(
            long_file(tmp_path / "x.h5", 1),
            progress=lambda done, total: told.append((done, total)),
        )
    assert told == [(3, 4)]


def chain(path: Path, layers: int) -> Path:
    nodes: dict[str, Any] = {"x": nir.Input(np.array([2]))}
    edges, last = [], "x"
    for i in range(layers):
        nodes[f"fc{i}"] = nir.Affine(weight=np.ones((2, 2), np.float32), bias=np.zeros(2))
        nodes[f"if{i}"] = nir.IF(r=np.ones(2), v_threshold=np.ones(2), v_reset=np.zeros(2))
        edges += [(last, f"fc{i}"), (f"fc{i}", f"if{i}")]
        last = f"if{i}"
    nodes["y"] = nir.Output(np.array([2]))
    nir.write(path, nir.NIRGraph(nodes, [*edges, (last, "y")]))
    return path


def test_reading_is_told_before_nodes(tmp_path: Path) -> None:
    from lapilli.export.nir.read.dynamics import Reading

    file = chain(tmp_path / "x.nir", 3)
    told: list[tuple[str, int, int]] = []
    stated = Stated(reading=Reading.SPIKINGJELLY, dt=1.0, T=2, input_range=(0, 1))
    network_from_nir(
        file,
        stated,
        lambda done, total: told.append(("nodes", done, total)),
        lambda done, total: told.append(("reading", done, total)),
    )
    assert [what for what, *_ in told] == sorted((what for what, *_ in told), reverse=True)
    datasets = len(read_tree(file).values)
    assert ("reading", datasets, datasets) in told
    assert told[-1] == ("nodes", 8, 8)
    assert len(read_nir(file).nodes) == 8


def test_a_stage_begins_with_its_first_step() -> None:
    bars = Bars(quiet=True)
    bars.stage("reading", None)
    bars.advance(5, 7)
    nodes = bars.staged("nodes")
    (task,) = bars.progress.tasks
    assert (task.description, task.completed, task.total) == ("reading", 5, 7)
    nodes(2, 9)
    nodes(3, 9)
    (task,) = bars.progress.tasks
    assert (task.description, task.completed, task.total) == ("nodes", 3, 9)
