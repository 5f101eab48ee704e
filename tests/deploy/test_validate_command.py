"""`lapilli validate` from its command line: images and models as `compare` takes them, refusals."""

from __future__ import annotations

import io
import json
import resource
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pyarrow")
pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("numba")

import pyarrow.parquet as pq

from lapilli.deploy.cli import frame, validation_job
from lapilli.deploy.cli.app import app
from lapilli.export.native import load_network, save_network

if TYPE_CHECKING:
    from lapilli.model.digits import Split
    from lapilli.quantize import Quantized

CHECKPOINTS = Path(__file__).parents[2] / "model" / "checkpoints"
CHECKPOINT = str(CHECKPOINTS / "digits_spikformer.safetensors")


@pytest.fixture(scope="module")
def files(
    tmp_path_factory: pytest.TempPathFactory, spikformer: Quantized, test_split: Split
) -> Path:
    """The network and 12 images in several forms, right and wrong."""
    folder = tmp_path_factory.mktemp("validate")
    save_network(spikformer.network, folder / "net.lapilli")
    images, labels = test_split.images[:12], test_split.labels[:12]
    np.savez(folder / "set.npz", images=images, labels=labels)
    np.savez(folder / "other.npz", images=images[::-1], labels=labels)
    np.savez(folder / "beyond.npz", images=images, labels=labels + 10)
    np.savez(folder / "wide.npz", images=images.repeat(2, -1), labels=labels)
    np.savez(folder / "float.npz", images=images / 255, labels=labels)
    np.savez(folder / "empty.npz", images=images[:0], labels=labels[:0])
    np.save(folder / "unlabelled.npy", images)
    for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        path = folder / "pictures" / str(label) / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].repeat(2, 0).repeat(2, 1)).save(path)
    damaged = folder / "damaged"
    shutil.copytree(folder / "pictures", damaged)
    sorted(damaged.rglob("*.png"))[5].write_text("no picture\n")
    (folder / "empty").mkdir()
    return folder


def answer(folder: Path, words: str, status: int = 0) -> Any:
    """Run `validate` on the network of `folder`, and return what --json says."""
    out, err = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
    given = [word.replace("@", f"{folder}/") for word in words.split()]
    with redirect_stdout(out), redirect_stderr(err):
        ended = frame.run(app, ["validate", str(folder / "net.lapilli"), *given, "--json"])
        out.flush()
    said = json.loads(out.buffer.getvalue())
    assert ended == status, said
    return said


def test_compared_with_its_checkpoint(files: Path, tmp_path: Path) -> None:
    words = f"--data @set.npz --checkpoint {CHECKPOINT} --shard-size 5 -o {tmp_path}/r"
    facts = answer(files, words)
    assert (facts["verdict"], facts["images"], facts["images_compared"]) == ("exact", 12, 12)
    assert facts["compared"] > 12 * 10_000
    assert set(facts["accuracy"]) == {"float", "pytorch", "integer"}
    assert facts == json.loads((tmp_path / "r/summary.json").read_text())
    recipe = load_network(files / "net.lapilli").recipe
    assert recipe is not None
    assert facts["options"]["model"]["parameters"] == recipe.parameters
    times = [json.loads(p.read_text()) for p in sorted((tmp_path / "r/times").iterdir())]
    assert [t["shard"] for t in times] == [0, 1, 2]
    assert all(t["seconds"] > 0 and t["machine"] for t in times)
    assert "seconds" not in (tmp_path / "r/summary.json").read_text()
    for more, named in (
        ("--shard-size 6", "shard_size: 5, asked 6"),
        ("--simulator event-driven", "simulator: 'fast', asked 'event-driven'"),
        ("--data @other.npz", "data.pixels"),
        ("--share 1/2", "share: '1', asked '1/2'"),
        ("--mean 0 --std 1", "normalisation"),
    ):
        refused = answer(files, f"{words} {more}", status=2)["error"]["message"]
        assert "holds results of other options" in refused
        assert named in refused
    alone = answer(files, f"--data @set.npz --shard-size 5 -o {tmp_path}/r", status=2)
    assert "none is named now: give --checkpoint, of a class" in alone["error"]["message"]


def test_without_a_model_its_columns_are_missing(files: Path, tmp_path: Path) -> None:
    facts = answer(files, f"--data @pictures --resize 8:nearest -o {tmp_path}/r")
    assert facts["verdict"] == "not compared with PyTorch"
    assert (facts["images"], facts["compared"]) == (12, 0)
    assert set(facts["accuracy"]) == {"integer"}
    table = pq.read_table(tmp_path / "r/samples/000000.parquet")
    for name in ("float", "pytorch", "float_mismatches", "divergence"):
        assert table[name].null_count == 12
    assert table["integer"].null_count == 0
    assert facts["options"]["data"]["resize"] == [8]


def test_what_cannot_be_read_is_counted(files: Path, tmp_path: Path) -> None:
    words = f"--data @damaged --resize 8:nearest --shard-size 4 -o {tmp_path}/r"
    refused = answer(files, words, status=2)["error"]["message"]
    assert ".png" in refused
    assert "picture" in refused
    facts = answer(files, f"{words} --skip-unreadable")
    assert (facts["images"], facts["accuracy"]["integer"]["of"]) == (12, 11)
    assert len(facts["unreadable"]) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--data @wide.npz", "images are 1 x 8 x 16, the network takes 1 x 8 x 8"),
        ("--data @float.npz", "images are float64"),
        ("--data @beyond.npz", "is no class; the network has 10"),
        ("--data @empty.npz", "not uint8"),
        ("--data @empty", "holds no data that are known"),
        ("--data @unlabelled.npy", "holds no labels, which accuracy needs"),
        ("--data @missing.npz", "there is none of this name"),
        ("--data @set.npz --share 2", "0 < share <= 1"),
        ("--data @set.npz --share x", "say a number such as 0.1"),
        ("--data @set.npz --shard 0/2", "say K/N"),
        ("--data @set.npz --checkpoint @missing.pth", "missing.pth"),
        ("--data @set.npz --arg T=4", "for a class of your own"),
    ],
)
def test_bad_input_is_a_sentence_and_leaves_nothing(
    words: str, sentence: str, files: Path, tmp_path: Path
) -> None:
    refused = answer(files, f"{words} -o {tmp_path}/r", status=2)["error"]["message"]
    assert sentence in refused
    assert not (tmp_path / "r").exists()


def test_images_without_labels_where_that_is_said(files: Path, tmp_path: Path) -> None:
    facts = answer(files, f"--data @unlabelled.npy --no-labels -o {tmp_path}/r")
    assert (facts["verdict"], facts["accuracy"]) == ("not compared with PyTorch", {})


def test_a_folder_that_holds_something_else(files: Path, tmp_path: Path) -> None:
    words = "--data @set.npz -o @"
    assert "holds no results" in answer(files, words, status=2)["error"]["message"]
    (tmp_path / "r").mkdir()
    (tmp_path / "r/options.json").write_text("[]")
    refused = answer(files, f"--data @set.npz -o {tmp_path}/r", status=2)["error"]["message"]
    assert "holds no options" in refused
    refused = answer(files, "--data @set.npz -o @set.npz", status=2)["error"]["message"]
    assert "is a file: name a folder" in refused


def test_a_full_disk_is_a_sentence_and_resumes(files: Path, tmp_path: Path) -> None:
    words = f"--data @set.npz --shard-size 4 -o {tmp_path}/r"
    whole = answer(files, f"--data @set.npz --shard-size 4 -o {tmp_path}/whole")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # the system refuses larger files
    try:
        refused = answer(files, words, status=2)["error"]["message"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be written" in refused
    assert "the same command goes on" in refused
    assert not list((tmp_path / "r").rglob("*.part"))
    assert not list((tmp_path / "r").rglob("*.parquet"))
    assert answer(files, words) == whole


def test_less_memory_another_time_is_no_other_option(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many images memory holds is found once, and kept with the results."""
    words = f"--data @set.npz --shard-size 4 -o {tmp_path}/r"
    monkeypatch.setattr(validation_job, "affordable_batch", lambda graph: 6)
    answer(files, f"{words} --shard 2/2", status=1)
    monkeypatch.setattr(validation_job, "affordable_batch", lambda graph: 4)
    facts = answer(files, words)
    assert (facts["options"]["batch"], facts["images"]) == (3, 12)
    refused = answer(files, f"{words} --batch 2", status=2)["error"]["message"]
    assert "batch: 3, asked 2" in refused


def test_a_damaged_shard_is_named(files: Path, tmp_path: Path) -> None:
    words = f"--data @set.npz --shard-size 4 -o {tmp_path}/r"
    whole = answer(files, words)
    shard = tmp_path / "r/samples/000001.parquet"
    shard.write_bytes(shard.read_bytes()[:-9])
    refused = answer(files, words, status=2)["error"]["message"]
    assert "samples/000001.parquet" in refused
    assert "remove it and run again" in refused
    shard.unlink()
    assert answer(files, words) == whole


def test_machines_share_the_shards(files: Path, tmp_path: Path) -> None:
    words = f"--data @set.npz --shard-size 4 -o {tmp_path}/r"
    facts = answer(files, f"{words} --shard 2/2", status=1)
    assert (facts["verdict"], facts["missing"]) == ("incomplete", [0, 2])
    assert not (tmp_path / "r/summary.json").exists()
    assert answer(files, f"{words} --shard 1/2")["images"] == 12
