"""`import lapilli as lp`: what it offers, documented, typed, and free until it is used."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import lapilli as lp
from lapilli.ir import ops
from lapilli.simulators.reference import Reference

if TYPE_CHECKING:
    from lapilli.model.digits import Split
    from lapilli.quantize import Quantized

NAMES = {
    "Graph", "LapilliError", "Network", "Recording", "Report", "check_nir", "compare", "cost",
    "export_c", "export_net", "export_nir", "export_onnx", "finetune", "import_nir", "inspect",
    "load", "quantization_report", "quantize_model", "run", "save",
}  # fmt: skip


def test_the_names() -> None:
    assert set(lp.__all__) == {*NAMES, "__version__"}
    assert set(dir(lp)) == set(lp.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lp.nothing


def test_the_type_checker_and_python_see_the_same() -> None:
    source = Path(str(lp.__file__)).read_text()
    shown = source[source.index("if TYPE_CHECKING") : source.index("_HOMES")]
    assert {line.split(" as ")[1] for line in shown.splitlines() if " as " in line} == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_is_documented(name: str) -> None:
    thing = getattr(lp, name)
    assert inspect.getdoc(thing)
    assert thing.__module__ == lp._HOMES[name]


HEAVY = ("torch", "numpy", "onnx", "PIL", "scipy", "lava", "rich", "typer")


def test_importing_costs_nothing() -> None:
    code = (
        "import sys, lapilli as lp; print(lp.__version__); "
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [lp.__version__, "[]"]


def test_running_needs_no_torch(spikformer: Quantized, tmp_path: Path) -> None:
    lp.save(spikformer.network, str(tmp_path / "net.lapilli"))
    code = (
        "import sys; sys.modules['torch'] = None; import numpy as np; import lapilli as lp; "
        "net = lp.load('net.lapilli'); "
        "print(lp.run(net, np.zeros((2, 1, 8, 8), np.uint8)).values['logits'].shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "(4, 2, 10)\n"


def test_one_report_of_several_simulators(spikformer: Quantized, test_split: Split) -> None:
    report = lp.compare(spikformer, test_split.images[:8], on=["event-driven", Reference()])
    report.require()
    assert report.exact
    assert [c.got for c in report.comparisons] == ["event-driven", "reference"]
    assert all(c.compared > 1_000_000 for c in report.comparisons)
    assert str(report).count("0 mismatches") == 2


def test_a_network_from_a_file_with_its_model(
    spikformer: Quantized, test_split: Split, tmp_path: Path
) -> None:
    from lapilli.model.digits import trained

    lp.save(spikformer.network, tmp_path / "net.lapilli")
    network = lp.load(tmp_path / "net.lapilli")
    lp.compare(network, test_split.images[:8], model=trained("spikformer")).require()
    with pytest.raises(lp.LapilliError, match="compared with its model"):
        lp.compare(network, test_split.images[:8])
    with pytest.raises(lp.LapilliError):
        lp.compare(network, test_split.images[:8], model=trained("spike_driven"))


def test_a_planted_fault_is_reported(spikformer: Quantized, test_split: Split) -> None:
    from dataclasses import replace

    graph = spikformer.network.graph
    nodes = tuple(
        replace(n, op=replace(n.op, dv=0))
        if n.name == "block.0.attn.q_lif" and isinstance(n.op, ops.Neuron)
        else n
        for n in graph.nodes
    )
    faulty = replace(spikformer.network, graph=replace(graph, nodes=nodes))
    report = lp.compare(replace(spikformer, network=faulty), test_split.images[:8], on="reference")
    assert not report.exact
    assert "node 'block.0.attn.q_lif'" in str(report)
    with pytest.raises(lp.LapilliError, match="first divergence"):
        report.require()


def test_files_in_and_out(spikformer: Quantized, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    lp.export_onnx(spikformer.network, str(tmp_path / "net.onnx"))
    assert lp.inspect(str(tmp_path / "net.onnx"))["digest"] == spikformer.network.graph.digest
    with pytest.raises(lp.LapilliError, match="none of canonical, portable, fused"):
        lp.export_nir(spikformer.network, tmp_path / "x.nir", flavour="sweet")
    with pytest.raises(lp.LapilliError, match="limit of 65,536 neurons"):
        lp.export_nir(spikformer.network, tmp_path / "x.nir", memory_limit=4 << 20)
    with pytest.raises(lp.LapilliError):
        lp.load(str(tmp_path / "absent.lapilli"))


def test_a_folder_of_c(spikformer: Quantized, tmp_path: Path) -> None:
    written = lp.export_c(spikformer.network, str(tmp_path / "c"), name="digits")
    assert {p.name for p in (tmp_path / "c").iterdir()} == set(written.files)
    assert "digits.c" in written.files
    assert written.flash < 90_000
    assert written.sample < 24_000 < written.step < 72_000
    again = lp.export_c(spikformer.network, tmp_path / "d", name="digits", ram=written.sample)
    assert again == written
    with pytest.raises(lp.LapilliError, match="the limit is 10,000"):
        lp.export_c(spikformer.network, tmp_path / "e", ram=10_000)
    with pytest.raises(lp.LapilliError, match="is no golden"):
        lp.export_c(spikformer.network, tmp_path / "e", golden=tmp_path / "c" / "golden.h")
    assert not (tmp_path / "e").exists()


def test_the_recording_is_what_the_file_answers(spikformer: Quantized, test_split: Split) -> None:
    recording = lp.run(spikformer.network, test_split.images[:20])
    answers = spikformer.network.classify(recording.values["logits"][-1])
    assert np.mean([int(a) == b for a, b in zip(answers, test_split.labels, strict=False)]) > 0.9


def test_a_report_of_nothing_is_not_exact(spikformer: Quantized, test_split: Split) -> None:
    report = lp.compare(spikformer, test_split.images[:2], on=[])
    assert not report.exact
    with pytest.raises(lp.LapilliError, match="nothing was compared"):
        report.require()
