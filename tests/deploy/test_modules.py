"""A model from the user's own file: imported alone, loaded strictly, every mistake named."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from lapilli.deploy.cli.app import app  # noqa: E402
from lapilli.deploy.cli.flow import NormalisationError, quantize_model  # noqa: E402
from lapilli.deploy.cli.image_set import Images  # noqa: E402
from lapilli.deploy.cli.models import calibration_of  # noqa: E402
from lapilli.deploy.cli.modules import (  # noqa: E402
    OwnModel,
    arguments_from,
    build_own,
    own_model,
)
from lapilli.deploy.cli.options import DIGITS  # noqa: E402
from lapilli.deploy.cli.own_imports import ModuleFileError  # noqa: E402
from lapilli.deploy.cli.own_source import own_source  # noqa: E402
from lapilli.export.native import load_network  # noqa: E402
from lapilli.ir.errors import CaptureError, CheckpointError, InputError, RecipeError  # noqa: E402
from lapilli.ir.recipe import Result  # noqa: E402
from lapilli.model.capture.signature import Signature  # noqa: E402
from lapilli.model.loading.preprocess import Preprocessing  # noqa: E402

pytestmark = pytest.mark.torch

_MODEL = """
from dataclasses import dataclass
from torch import nn
from lapilli.model.families.lif import LIF
from layers import Head

@dataclass
class Size:
    width: int

class Tiny(nn.Module):
    def __init__(self, width=8, T=4, events=False):
        super().__init__()
        self.T, self.events, size = T, events, Size(width)
        self.fc, self.lif = nn.Linear(32 if events else 16, size.width), LIF(v_threshold=0.3)
        self.norm = nn.BatchNorm1d(size.width)
        self.head = Head(size.width)

    def forward(self, images):
        x = images.transpose(0, 1) if self.events else images.repeat(self.T, 1, 1, 1, 1)
        y = self.norm(self.fc(x.flatten(2)).flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.head(self.lif(y)).mean(0)

def make(width=8):
    return Tiny(width=width)

def scripted():
    import torch
    return torch.jit.script(Tiny())  # its constructor is fine, its forward is not

def graphed():
    from torch import fx
    return fx.symbolic_trace(Tiny())  # a loop over time, and *x.shape, cannot be traced

def fails():
    raise ValueError("no such size")

def nothing():
    return 3
"""
_LAYERS = """
from torch import nn
class Head(nn.Linear):
    def __init__(self, width):
        super().__init__(width, OUT)
"""


def write(folder: Path, model: str = _MODEL, layers: str = _LAYERS.replace("OUT", "3")) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "layers.py").write_text(layers)
    (folder / "tiny.py").write_text(model)
    return folder / "tiny.py"


def images(count: int = 20) -> Images:
    return Images(np.random.default_rng(0).integers(0, 256, (count, 1, 4, 4), np.uint8))


def test_sources_and_checkpoints_are_told_apart() -> None:
    assert own_source("a/b.py:Net")
    assert own_source("package.module:Net")
    assert not any(map(own_source, ("a.pth", "a.py", "C:/x.pth", "a.py:", "a.py:b c", "a/b:c")))


@pytest.mark.parametrize("text", ["T", "=3", "a b=3"])
def test_arguments_that_are_none(text: str) -> None:
    with pytest.raises(ModuleFileError, match="is not name=value"):
        arguments_from([text])


def test_two_files_with_their_own_neighbours(tmp_path: Path) -> None:
    first = write(tmp_path / "one")
    second = write(tmp_path / "two", layers=_LAYERS.replace("OUT", "5"))
    before, searched = set(sys.modules), list(sys.path)
    sizes = [
        len(
            build_own(OwnModel(source=f"{f}:Tiny", arguments={"width": 6})).state_dict()[
                "head.bias"
            ]
        )
        for f in (first, second)
    ]
    assert sizes == [3, 5]
    assert sys.path == searched
    assert {n for n in set(sys.modules) - before if not n.startswith("lapilli_own_")} == set()


@pytest.mark.parametrize(
    ("model", "name", "problem"),
    [
        ("import missing_package", "Net", r"does not import: ModuleNotFoundError: .*\(line 1\)"),
        ("x = 1\n  y", "Net", "does not import: IndentationError"),
        (
            _MODEL,
            "Big",
            r"no class .* 'Big'; it has Size, Tiny, fails, graphed, make, nothing, scripted",
        ),
        ("x = 3", "x", "has no class or function 'x'; it has none"),
        (_MODEL, "fails", r"fails\(\) fails: ValueError: no such size \(line 36\)"),
        (_MODEL, "scripted", r"scripted\(\) fails: .*; TorchScript is not needed: give the class"),
        (_MODEL, "graphed", r"graphed\(\) fails: .*; torch\.fx is not needed: give the class"),
        (_MODEL.replace("width=8, T=4", "T=4"), "Tiny", r"Tiny\(\) fails: NameError"),
    ],
)
def test_files_that_give_no_model(tmp_path: Path, model: str, name: str, problem: str) -> None:
    with pytest.raises(ModuleFileError, match=problem) as caught:
        build_own(OwnModel(source=f"{write(tmp_path, model)}:{name}"))
    assert "tiny.py" in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for what is not there")
@pytest.mark.parametrize(
    ("model", "name", "quoted"),
    [
        (
            f"{_MODEL}\ndef on_gpu():\n    return Tiny().cuda()\n",
            "on_gpu",
            r"on_gpu\(\) fails: .*(CUDA|NVIDIA driver)",
        ),
        (f"import cupy\n{_MODEL}", "Tiny", r"does not import: .*'cupy' \(line 1\)"),
    ],
)
def test_who_asks_for_cuda_is_told(tmp_path: Path, model: str, name: str, quoted: str) -> None:
    told = rf"asks for CUDA, which is not here \(.*{quoted}.*\); take \.cuda\(\)"
    with pytest.raises(CaptureError, match=told):
        build_own(OwnModel(source=f"{write(tmp_path, model)}:{name}"))


def test_neurons_of_cupy_are_built_for_torch(tmp_path: Path) -> None:
    pytest.importorskip("spikingjelly.activation_based.neuron")
    model = "from spikingjelly.activation_based import neuron\n" + _MODEL.replace(
        "LIF(v_threshold=0.3)", "neuron.LIFNode(step_mode='m', backend='cupy', v_threshold=0.3)"
    )
    built = build_own(OwnModel(source=f"{write(tmp_path, model)}:Tiny"))
    assert type(built.get_submodule("lif")).__name__ == "LIFNode"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModuleFileError, match=r"none\.py: no such file"):
        build_own(OwnModel(source=f"{tmp_path}/none.py:Net"))


def test_what_is_no_module(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"is a int, not a torch\.nn\.Module"):
        build_own(OwnModel(source=f"{write(tmp_path)}:nothing"))


# ---- parameters --------------------------------------------------------------------------------


def saved(tmp_path: Path, change: Callable[[dict[str, object]], object] = lambda s: None) -> Path:
    torch.manual_seed(0)
    state = build_own(OwnModel(source=f"{write(tmp_path)}:Tiny")).state_dict()
    change(state)
    torch.save(state, tmp_path / "tiny.pth")
    return tmp_path / "tiny.pth"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda s: s.pop("fc.weight"), "the module wants, but the file has not: fc.weight"),
        (lambda s: s.update({"norm1.weight": torch.ones(3)}),
         "the file has, but the module wants not: norm1.weight; if nothing uses them"),
        (lambda s: s.update({"fc.weight": s["fc.weight"].mT}),
         r"of another shape: fc.weight \(16, 8\), not \(8, 16\)"),
        (lambda s: s.update({"fc.bias": s["fc.bias"] * torch.nan}),
         "'fc.bias' holds NaN or infinity"),
        (lambda s: [s.update({f"extra{i}": torch.ones(1)}) for i in range(9)], "and 3 more"),
    ],
)  # fmt: skip
def test_checkpoints_that_do_not_fit(
    tmp_path: Path, change: Callable[[dict[str, object]], object], problem: str
) -> None:
    checkpoint = saved(tmp_path, change)
    with pytest.raises(CheckpointError, match=problem):
        build_own(OwnModel(source=f"{tmp_path}/tiny.py:Tiny", checkpoint=checkpoint))


def test_keys_that_nothing_uses(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, lambda s: s.update({"b.0.norm1.weight": torch.ones(3)}))
    own = OwnModel(
        source=f"{tmp_path}/tiny.py:Tiny", checkpoint=checkpoint, unused=("b.*.norm1.*",)
    )
    loaded = build_own(own).state_dict()
    assert torch.equal(loaded["fc.weight"], torch.load(checkpoint)["fc.weight"])
    with pytest.raises(CheckpointError, match=r"--unused 'fc.\*' matches no key that is left over"):
        build_own(
            OwnModel(source=own.source, checkpoint=checkpoint, unused=("b.*.norm1.*", "fc.*"))
        )


# ---- to integers -------------------------------------------------------------------------------


def test_quantized_from_python(tmp_path: Path, exact_on: Callable[..., int]) -> None:
    own = OwnModel(
        source=f"{write(tmp_path)}:make", checkpoint=saved(tmp_path), mean=(0.5,), std=(0.3,)
    )
    made = quantize_model(own_model(own), images())
    assert exact_on(made, (images(8).pixels / 255 - 0.5) / 0.3) > 500


def test_quantized_from_the_command_line(tmp_path: Path) -> None:
    file, checkpoint = write(tmp_path), saved(tmp_path)
    np.savez(tmp_path / "images.npz", images=images().pixels)
    out = tmp_path / "tiny.lapilli"
    result = CliRunner().invoke(
        app,
        ["quantize", f"{file}:Tiny", "--arg", "width=8", "--arg", "T=6", "--json",
         "--checkpoint", str(checkpoint), "--calibration", str(tmp_path / "images.npz"),
         "--no-normalisation", "-o", str(out)],
        catch_exceptions=False,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["file"] == str(out)
    assert load_network(out).graph.T == 6


@pytest.mark.parametrize("source", ["{}/tiny.py:Tiny", "package.module:Net"])
def test_a_class_is_asked_what_images_it_knows(tmp_path: Path, source: str) -> None:
    write(tmp_path)
    done = invoke("quantize", source.format(tmp_path), "--no-normalisation", "-o", tmp_path / "x")
    assert isinstance(done.exception, InputError)
    assert f"{source.format(tmp_path)} is a class of your own: give" in str(done.exception)
    assert "--calibration IMAGES" in str(done.exception)
    assert not (tmp_path / "x").exists()


def test_a_class_may_be_calibrated_by_the_digits_and_a_checkpoint_is() -> None:
    assert calibration_of("mine.py:Net", DIGITS) == DIGITS
    assert calibration_of("mine.py:Net", "images.npz") == "images.npz"
    assert calibration_of("net.pth", None) == DIGITS
    assert calibration_of("net.pth", "") == ""  # no such file, which is said when it is read


def test_which_parameters_were_taken_is_said(tmp_path: Path) -> None:
    state = build_own(OwnModel(source=f"{write(tmp_path)}:Tiny")).state_dict()
    torch.save({"model": state, "model_ema": state, "epoch": 3}, tmp_path / "two.pth")
    np.savez(tmp_path / "images.npz", images=images().pixels)
    asked = ["quantize", f"{tmp_path}/tiny.py:Tiny", "--calibration", tmp_path / "images.npz",
             "--no-normalisation", "--checkpoint", tmp_path / "two.pth",
             "-o", tmp_path / "x"]  # fmt: skip
    for options, taken, other in (
        ((), "model", "model_ema"),
        (("--key", "model_ema"), "model_ema", "model"),
    ):
        facts = json.loads(invoke(*asked, *options, "--json").stdout)
        assert (facts["taken"], facts["not taken"]) == (taken, [f"{other} (--key {other})"])
    assert "model_ema (--key model_ema)" in invoke(*asked).stdout
    torch.save({"model": state, "epoch": 3}, tmp_path / "two.pth")
    assert "taken" not in json.loads(invoke(*asked, "--json").stdout)


def test_events_from_the_command_line(tmp_path: Path) -> None:
    file = write(tmp_path)
    events = np.random.default_rng(1).poisson(0.7, (20, 5, 2, 4, 4)).astype(np.uint8)
    np.savez(tmp_path / "events.npz", images=events)
    out = tmp_path / "events.lapilli"
    result = CliRunner().invoke(
        app,
        ["quantize", f"{file}:Tiny", "--arg", "events=True", "--layout", "BTCHW", "--counts",
         "--calibration", str(tmp_path / "events.npz"), "-o", str(out), "--json"],
        catch_exceptions=False,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    network = load_network(out)
    assert (network.graph.T, network.input.lo, network.input.hi) == (5, 0, int(events.max()))


# ---- compared with the author's own class ----------------------------------------------------


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def tiny(tmp_path: Path) -> list[str]:
    """A network of the author's class, and what `compare` needs of it: no option of `quantize`."""
    checkpoint = saved(tmp_path)
    np.savez(tmp_path / "images.npz", images=images().pixels, labels=np.arange(20) % 3)
    own = ["--arg", "T=6", "--mean", "0.5", "--std", "0.3", "--input-bits", "6", "--bits", "7",
           "--calibration", str(tmp_path / "images.npz")]  # fmt: skip
    made = invoke(
        "quantize", f"{tmp_path}/tiny.py:Tiny", "--checkpoint", checkpoint, *own,
        "-o", tmp_path / "net.lapilli", "--json",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    facts = json.loads(made.stdout)
    assert facts["examined"] == 20
    assert 0 <= facts["float_right"] <= 20
    return ["--checkpoint", str(checkpoint), "--images", str(tmp_path / "images.npz"), "--json"]


def test_compared_from_the_command_line(tmp_path: Path, tiny: list[str]) -> None:
    done = invoke(
        "compare", tmp_path / "net.lapilli", "--module", f"{tmp_path}/tiny.py:Tiny", *tiny
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["labelled"], set(told)) == (
        20, {"network", "comparisons", "labelled", "integer_right", "float_right"},
    )  # fmt: skip
    assert [c["got"] for c in told["comparisons"]] == ["reference", "event-driven"]
    for comparison in told["comparisons"]:
        assert (comparison["expected"], comparison["mismatches"]) == ("pytorch", 0)
        assert comparison["compared"] == 20 * (3 * 6 * 8 + 3)
        assert not comparison["preprocessing_checked"]
        assert 0 < comparison["rates"]["lif"] < 1


def test_who_lets_the_file_alone_say_how_is_told_the_remedy(
    tmp_path: Path, tiny: list[str]
) -> None:
    words = [
        "compare",
        tmp_path / "net.lapilli",
        "--module",
        f"{tmp_path}/tiny.py:Tiny",
        *tiny[:-1],
    ]
    told = " ".join(invoke(*words).stdout.split())
    assert "only the file says how; give those of training: --mean and --std, or" in told
    assert "only the file" not in invoke(*words, "--mean", "0.5", "--std", "0.3").stdout


@pytest.mark.parametrize(("std", "status"), [("0.3", 0), ("0.4", 1)])
def test_preprocessing_of_the_command_line_is_compared(
    tmp_path: Path, tiny: list[str], std: str, status: int
) -> None:
    given = ["--module", f"{tmp_path}/tiny.py:Tiny", *tiny, "--mean", "0.5", "--std", std]
    done = invoke("compare", tmp_path / "net.lapilli", *given)
    assert done.exit_code == status, done.output
    (first, _) = json.loads(done.stdout)["comparisons"]
    assert first["preprocessing_checked"]
    pixels = 20 * 6 * 1 * 4 * 4
    assert first["compared"] == 20 * (3 * 6 * 8 + 3) + pixels
    if status:
        assert (first["first"]["node"], first["first"]["kind"]) == ("image", "input")


def test_other_parameters_are_refused_then_differ(tmp_path: Path, tiny: list[str]) -> None:
    state = torch.load(tiny[1])
    state["fc.weight"] *= 1.7
    torch.save(state, tmp_path / "tiny.pth")
    options = ["--module", f"{tmp_path}/tiny.py:Tiny", *tiny]
    refused = invoke("compare", tmp_path / "net.lapilli", *options)
    assert isinstance(refused.exception, RecipeError)
    assert "was made from other parameters" in str(refused.exception)
    done = invoke("compare", tmp_path / "net.lapilli", *options, "--other-parameters")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["comparisons"][0]["first"]["node"] == "lif"


def test_a_class_without_a_word_of_normalisation_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", images=images().pixels)
    made = invoke(
        "quantize", f"{write(tmp_path)}:Tiny", "--calibration", tmp_path / "images.npz",
        "-o", tmp_path / "net.lapilli",
    )  # fmt: skip
    assert isinstance(made.exception, NormalisationError)
    assert "give --mean and --std, or --no-normalisation" in str(made.exception)
    assert not (tmp_path / "net.lapilli").exists()


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        (["--module", "net.pth"], ModuleFileError, "--module 'net.pth' is not FILE.py:CLASS"),
        (["--module", "DIR/none.py:Net"], ModuleFileError, r"none\.py: no such file"),
        (["--module", "DIR/tiny.py:Big"], ModuleFileError, "has no class or function 'Big'"),
        (["--arg", "T=4"], InputError, "--arg and --unused are for a class of your own"),
    ],
)
def test_bad_modules_are_one_sentence(
    tmp_path: Path, tiny: list[str], options: list[str], error: type[Exception], sentence: str
) -> None:
    given = [o.replace("DIR", str(tmp_path)) for o in options]
    done = invoke("compare", tmp_path / "net.lapilli", *given, *tiny)
    assert isinstance(done.exception, error)  # `main` prints it, with status 2
    assert re.search(sentence, str(done.exception))
    assert "\n" not in str(done.exception)


class Answers(nn.Module):
    """Answers each image by its mean: in a tuple, of each step, from images (T, B, ...)."""

    def __init__(self) -> None:
        super().__init__()
        sj = pytest.importorskip("spikingjelly.activation_based.neuron")
        self.lif = sj.LIFNode(step_mode="m", v_threshold=0.25)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        bright = self.lif(x.flatten(2).mean(-1, keepdim=True))  # remembers, unless it is reset
        return x, torch.cat([0.5 - bright, bright - 0.5], -1)


def test_right_answers_of_models_that_return_tuples_of_steps() -> None:
    labels = np.arange(100) % 2
    pixels = np.broadcast_to((labels * 255).astype(np.uint8)[:, None, None, None, None],
                             (100, 3, 1, 4, 4))  # fmt: skip
    preprocessing = Preprocessing(mean=(0.0,), std=(1.0,), classes=())
    signature = Signature(layout="TBCHW", results=(Result(leaf=1, time=0, batch=1),))
    for _ in range(2):
        assert preprocessing.right(Answers(), pixels, labels, signature) == 100
        assert preprocessing.right(Answers(), pixels, 1 - labels, signature) == 0
