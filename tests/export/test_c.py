"""The folder of portable C: what it holds, what is refused, and that its program can fail."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lapilli.deploy.cli.app import app
from lapilli.deploy.cli.frame import run as run_command
from lapilli.deploy.comparison.golden import write_golden
from lapilli.deploy.comparison.vectors import vectors_of
from lapilli.export.c import memory
from lapilli.export.c.constants import Constant, packed, weights
from lapilli.export.c.integers import literal
from lapilli.export.c.memory import Layout, Need, sample_layout, step_layout
from lapilli.export.c.planning import Plan, plan
from lapilli.export.c.sources import sources
from lapilli.export.c.views import View, wired
from lapilli.export.c.words import check_name, identifiers, in_comment
from lapilli.export.c.writer import Limits, save_c
from lapilli.export.native import save_network
from lapilli.ir import ops
from lapilli.ir.errors import FormatError, InputError, OutputError, UnsupportedError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.semantics import wire
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.c import compiler
from lapilli.simulators.conformance.random_graphs import random_case

needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler is installed")


def _network(node: str = "fc.lif") -> Network:
    """A convolution whose neurons feed a read-out; odd weights of 4 bits."""
    rng = np.random.default_rng(3)
    image = TensorType((1, 4, 4), IntRange(-127, 127), Kind.GRADED)
    conv = IntTensor(rng.integers(-8, 8, (6, 1, 3, 3)))
    head = IntTensor(rng.integers(-30, 31, (3, 96)))
    graph = Graph(
        (
            Node("image", ops.Input(type=image)),
            Node("conv", ops.Conv2d(weight=conv, bias=IntTensor.of([3] * 6), padding=(1, 1),
                                    graded=True), ("image",)),
            Node(node, ops.Neuron(threshold=IntTensor.of([9000]), dv=2048), ("conv",)),
            Node("flat", ops.Reshape(shape=(96,)), (node,)),
            Node("head", ops.Linear(weight=head, bias=IntTensor.of([0] * 3)), ("flat",)),
            Node("logits", ops.Readout(), ("head",)),
        ),
        ("logits",),
        T=3,
    )  # fmt: skip
    source = InputQuantizer(mean=(Fraction(1, 2),), std=(Fraction(1, 4),), exponent=5,
                            lo=-127, hi=127)  # fmt: skip
    return Network(graph=graph, input=source, logit_scale=Fraction(1, 8), classes=("a", "b", "c"))


def _saved(network: Network, folder: Path, **options: object) -> dict[str, bytes]:
    save_c(network, folder, vectors_of(network, None), **options)  # type: ignore[arg-type]
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_equal_networks_give_equal_bytes(tmp_path: Path) -> None:
    files = _saved(_network(), tmp_path / "one")
    assert files == _saved(_network(), tmp_path / "two")
    assert set(files) == {
        "network.h", "network.c", "network_weights.h", "golden.h", "main.c", "Makefile",
    }  # fmt: skip


def test_the_network_needs_two_headers_and_no_float_or_malloc(tmp_path: Path) -> None:
    files = _saved(_network(), tmp_path / "c")
    code = b"".join(files[n] for n in ("network.c", "network.h", "network_weights.h")).decode()
    assert set(re.findall(r"#include <(.*)>", code)) == {"stdint.h", "string.h"}
    plain = re.sub(r"/\*.*?\*/", "", code, flags=re.DOTALL)
    assert not re.search(r"\b(float|double|malloc|free|printf)\b", plain)
    assert "conv: Conv2d 6 x 1 x 3 x 3" in code
    assert "fc.lif: Neuron, threshold 9000" in code
    for told in ("1 x 4 x 4", "std 1/4", "integer times 1/8", "0 a, 1 b, 2 c"):
        assert told in files["network.h"].decode()


@needs_compiler
def test_its_program_passes_and_can_fail(tmp_path: Path) -> None:
    folder, network = tmp_path / "c", _network()
    _saved(network, folder)
    made = subprocess.run(["make", "-C", folder, "check", "CFLAGS=-std=c99 -Wall -Wextra -Werror"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    values = 2 * 2 * 3 * (96 + 3)  # ways, samples, steps, numbers
    assert f"PASS: {values} values of 2 samples are equal" in made.stdout
    code = (folder / "network.c").read_text()
    (folder / "network.c").write_text(code.replace("v >= 9000", "v >= 8000"))
    failed = subprocess.run(["make", "-C", folder, "check"], capture_output=True, text=True)
    assert failed.returncode != 0
    assert "of fc.lif, as it lies, is 1, expected 0" in failed.stdout
    assert "FAIL" in failed.stdout


@needs_compiler
def test_a_sample_has_so_many_steps_and_no_more(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    _saved(_network(), folder)
    (folder / "steps.c").write_text("""
        #include "network.h"
        static int8_t image[NETWORK_IMAGE_IN_SIZE];
        static int32_t logits[NETWORK_LOGITS_OUT_SIZE];
        int main(void)
        {
            int32_t refused = 0;
            network_reset();
            for (int32_t t = 0; t < NETWORK_STEPS + 2; t++) {
                refused = refused * 2 + network_step(image, logits);
            }
            network_reset();
            return refused * 2 + network_step(image, logits);
        }
    """)
    command = [compiler() or "", "-std=c99", "steps.c", "network.c", "-o", "steps"]
    subprocess.run(command, cwd=folder, check=True)
    assert subprocess.run([folder / "steps"], check=False).returncode == 0b000110


def test_names_that_c_does_not_take() -> None:
    check_name("net_2")
    for name in ("", "2net", "a-b", "int", "main", "näme", "_net", "a" * 16, "a b", "golden"):
        with pytest.raises(InputError, match="cannot name a network in C"):
            check_name(name)


@needs_compiler
def test_nodes_may_be_called_anything(tmp_path: Path) -> None:
    files = _saved(_network('*/ int x; /* "\\ ??/\n\ud800'), tmp_path / "c")
    assert all(data.isascii() for data in files.values())
    made = subprocess.run(["make", "-C", tmp_path / "c", "check"], capture_output=True, text=True)
    assert "PASS" in made.stdout, made.stderr


def test_identifiers_are_all_different() -> None:
    names = ["a.b", "a_b", "a-b", "A_B", "", "3", "int", "a_b_2", "é"]
    found = identifiers(names)
    assert len({n.lower() for n in found.values()}) == len(names)
    assert all(re.fullmatch("[A-Za-z][A-Za-z0-9_]*", n) for n in found.values())
    assert found["int"] != "int"
    assert in_comment("a\\") == "a"


def test_limits_name_the_layer_that_takes_most(tmp_path: Path) -> None:
    network = _network()
    vectors = vectors_of(network, None)
    made = sources(network.graph, "network")
    fits = Limits(flash=made.flash, sample=made.sample.bytes, step=made.step.bytes)
    save_c(network, tmp_path / "c", vectors, limits=fits)
    for limits, told in (
        (replace(fits, flash=made.flash - 1), "head: takes 217 of the 251 bytes of constants"),
        (replace(fits, sample=made.sample.bytes - 1), "bytes of RAM that a whole sample needs"),
        (replace(fits, step=made.step.bytes - 1), r"fc.lif: takes 384 bytes of state, of the"),
    ):
        with pytest.raises(UnsupportedError, match=told):
            save_c(network, tmp_path / "d", vectors, limits=limits)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_a_folder_with_files_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    _saved(_network(), tmp_path / "c")  # an empty one is taken
    with pytest.raises(OutputError, match="has files in it"):
        _saved(_network(), tmp_path / "c")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file: name a folder"):
        _saved(_network(), tmp_path / "file")
    with pytest.raises(OutputError, match="there is no folder"):
        _saved(_network(), tmp_path / "none" / "c")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "file"]


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network, file = _network(), tmp_path / "net.lapilli"
    save_network(network, file)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 4, 4), dtype=np.uint8)
    golden = write_golden(network, pixels, tmp_path / "golden").files[0]
    words = ["export", str(file), "--c", str(tmp_path / "c"), "--c-name", "tiny"]
    assert run_command(app, [*words, "--golden", str(golden)]) == 0
    said = capsys.readouterr().out
    assert f"samples 3, values {3 * 3 * 2 * 99}" in said
    assert (tmp_path / "c" / "tiny.h").is_file()
    for more, told in (
        ([], "has files in it"),
        (["--c", str(tmp_path / "d"), "--c-name", "int"], "'int' cannot name a network"),
        (["--c", str(tmp_path / "d"), "--golden", str(file)], "is no golden.npz"),
    ):
        assert run_command(app, [*words, *more]) == 2
        assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "d").exists()
    assert run_command(app, ["export", str(file), "--nir", "x.nir", "--c-ram", "8"]) == 2
    assert "give --c, too" in " ".join(capsys.readouterr().err.split())


def test_vectors_of_another_network_are_refused(tmp_path: Path) -> None:
    network = _network()
    golden = write_golden(network, np.zeros((1, 1, 4, 4), np.uint8), tmp_path).files[0]
    vectors_of(network, golden)
    with pytest.raises(FormatError, match="of another network"):
        vectors_of(_network("other"), golden)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 7, 9, 12, 17, 24])
def test_packed_weights_are_the_bits_that_they_need(bits: int) -> None:
    rng = np.random.default_rng(bits)
    values = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), 37)
    values[:2] = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    constant = weights("w", "n", "weights", values)
    assert constant.bits == bits
    assert len(constant.stored) == constant.bytes
    whole = sum(byte << (8 * i) for i, byte in enumerate(packed(values, bits)))
    raw = [whole >> (bits * i) & ((1 << bits) - 1) for i in range(37)]
    assert [r - ((r >> (bits - 1)) << bits) for r in raw] == values.tolist()


def test_numbers_that_are_bytes_anyway_are_not_packed() -> None:
    for low, kind in ((-128, "int8_t"), (-40000, "int32_t"), (-(1 << 15), "int16_t")):
        constant = weights("w", "n", "weights", np.array([low, 5]))
        assert (constant.bits == 0) == (low != -40000)
        assert constant.bits or constant.type.name == kind
    assert weights("w", "n", "weights", np.array([1, 7])).bits == 4  # the highest is a sign
    assert Constant("w", "n", "", np.array([1 << 40])).type.name == "int64_t"
    assert literal(-(1 << 31)) == "(-INT32_C(2147483647) - 1)"


def test_views_count_as_wiring_moves() -> None:
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(400):
        shape = tuple(int(n) for n in rng.integers(1, 4, rng.integers(1, 5)))
        view = View.whole("x", shape, [int(a) for a in rng.permutation(len(shape))])
        want = rng.integers(-9, 9, (2, *shape))
        flat = view.as_lying(want)
        for _ in range(3):
            op = _some_wiring(rng, want.shape[1:])
            moved = wired(op, view)
            if moved is None:
                break
            view, want = moved, wire(op, want)
            assert np.array_equal(view.of(flat), want)
            seen += 1
    assert seen > 800


def _some_wiring(rng: np.random.Generator, shape: tuple[int, ...]) -> ops.Wiring:
    axis = int(rng.integers(len(shape)))
    start = int(rng.integers(shape[axis]))
    whole = int(np.prod(shape))
    split = next(n for n in (3, 2, 1) if whole % n == 0)
    choices: list[ops.Wiring] = [
        ops.Permute(axes=tuple(int(a) for a in rng.permutation(len(shape)))),
        ops.Slice(axis=axis, start=start, stop=shape[axis]),
        ops.Expand(shape=tuple(3 if n == 1 else n for n in shape)),
        ops.Reshape(shape=(split, whole // split)),
    ]
    return choices[int(rng.integers(4))]


@pytest.mark.parametrize("layout", [sample_layout, step_layout])
def test_what_is_needed_at_one_time_never_shares_memory(
    layout: Callable[..., Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Need] = []
    original = memory._needs

    def noted(planned: Plan, steps: int, *, rows: bool) -> list[Need]:
        taken[:] = original(planned, steps, rows=rows)
        return taken

    monkeypatch.setattr(memory, "_needs", noted)
    shared = 0
    for seed in range(20):
        found = layout(plan(random_case(seed).graph))
        for i, one in enumerate(taken):
            for other in taken[i + 1 :]:
                if one.type.arena != other.type.arena:
                    continue
                a, b = (found.places[n.stage, n.name] for n in (one, other))
                apart = a + one.count <= b or b + other.count <= a
                assert apart or one.last < other.stage or other.last < one.stage
                shared += not apart
    assert shared > 50
