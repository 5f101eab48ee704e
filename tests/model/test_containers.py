"""Each row of docs/checkpoints.md: every way of saving the same parameters loads, or is named."""

from __future__ import annotations

import gzip
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from lapilli.ir.errors import CheckpointError  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.model.families.spikformer import Spikformer, SpikformerConfig  # noqa: E402
from lapilli.model.loading.checkpoint import build, load_checkpoint  # noqa: E402
from lapilli.model.loading.strict import load_strictly  # noqa: E402

pytestmark = pytest.mark.torch

State: TypeAlias = dict[str, Tensor]

_CONFIG = SpikformerConfig(in_channels=1, classes=3, embed_dim=8, heads=2, depth=1, mlp_ratio=1)


class Net(nn.Module):
    """Somebody's own model."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.lif = LIF()
        self.head = nn.Linear(8, 10)


class Whole(nn.Module):
    """A training module around a model."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net(seed=1)


def own() -> State:
    return {k: v.clone() for k, v in Net().state_dict().items()}


def spikformer() -> State:
    torch.manual_seed(0)
    return dict(Spikformer(_CONFIG).state_dict())


def before(prefix: str, state: State) -> State:
    return {prefix + k: v for k, v in state.items()}


# The row of the table: what is given to torch.save.
PICKLES: Mapping[str, Callable[[State], object]] = {
    "a state_dict": lambda s: s,
    "`state_dict`": lambda s: {"state_dict": s, "epoch": 3, "optimizer": {"lr": 0.1}},
    "`model`": lambda s: {"model": s},
    "`model_state_dict`": lambda s: {"model_state_dict": s, "loss": torch.tensor(0.1)},
    "`net`": lambda s: {"net": s, "epoch": 3, "max_test_acc": 0.9, "optimizer": {"lr": 0.1}},
    "`state_dict_ema`": lambda s: {"state_dict_ema": s},
    "`model` and `model_ema`": lambda s: {"model": s, "model_ema": {"x": s["head.bias"]}},
    "one entry of any other name": lambda s: {"backbone": s, "epoch": 1},
    "an entry in an entry": lambda s: {"model": {"state_dict": s}, "epoch": 1},
    "`module.`": lambda s: {"state_dict": before("module.", s)},
    "`_orig_mod.`": lambda s: before("_orig_mod.", s),
    "`module._orig_mod.`": lambda s: before("module._orig_mod.", s),
    "`_orig_mod.module.`": lambda s: before("_orig_mod.module.", s),
    "`model.`": lambda s: {"state_dict": before("model.", s), "hyper_parameters": {"lr": 0.1},
                           "optimizer_states": [{"state": {0: {"exp_avg": s["head.bias"]}}}]},
    "`net.`": lambda s: {"state_dict": before("net.", s), "epoch": 3},
    "any other prefix": lambda s: before("a.b.", s),
    "AveragedModel": lambda s: {"n_averaged": torch.tensor(5), **before("module.", s)},
    "thop": lambda s: {**s, "total_ops": torch.zeros(1), "conv.total_params": torch.zeros(1)},
    "NumPy numbers": lambda s: {"state_dict": s, "best": np.float64(0.93), "n": np.int32(3),
                                "ok": np.bool_(True)},
    "NumPy arrays": lambda s: {"state_dict": s, "history": np.zeros(3), "none": np.zeros(0)},
    "parameters that are NumPy arrays": lambda s: {k: v.numpy() for k, v in s.items()},
    "nn.Parameter": lambda s: {
        k: nn.Parameter(v) if v.is_floating_point() else v for k, v in s.items()
    },
    "float64": lambda s: {k: v.double() if v.is_floating_point() else v for k, v in s.items()},
    "optimizer": lambda s: {"model": s, "optimizer": {"state": {0: {"exp_avg": s["head.bias"]}}}},
}  # fmt: skip


def fits_own(path: Path, key: str | None = None) -> None:
    module: nn.Module = load_strictly(Net(seed=1), load_checkpoint(path, key))
    loaded = module.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in own().items())


def fits_family(path: Path) -> None:
    checkpoint = load_checkpoint(path)
    assert checkpoint.family == "spikformer"
    loaded = build(checkpoint, _CONFIG).state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in spikformer().items())


@pytest.mark.parametrize("row", PICKLES)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_the_same_parameters_are_loaded(row: str, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.pth.tar"
    torch.save(PICKLES[row](own()), path, _use_new_zipfile_serialization=zipped)
    fits_own(path)
    torch.save(PICKLES[row](spikformer()), path, _use_new_zipfile_serialization=zipped)
    fits_family(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: Any, tmp_path: Path) -> None:
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in own().items()}
    torch.save(state, tmp_path / "half.pth")
    loaded = load_strictly(Net(seed=1), load_checkpoint(tmp_path / "half.pth")).state_dict()
    assert all(torch.equal(loaded[k], v.to(loaded[k].dtype)) for k, v in state.items())


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.module."])
def test_safetensors_with_prefixes(prefix: str, tmp_path: Path) -> None:
    save_file(before(prefix, own()), tmp_path / "own.safetensors")
    fits_own(tmp_path / "own.safetensors")
    save_file(before(prefix, spikformer()), tmp_path / "family.safetensors")
    fits_family(tmp_path / "family.safetensors")


def test_a_part_of_a_module_of_the_users(tmp_path: Path) -> None:
    torch.save(own(), tmp_path / "net.pth")
    loaded = load_strictly(Whole(), load_checkpoint(tmp_path / "net.pth")).state_dict()
    assert all(torch.equal(loaded[f"net.{k}"], v) for k, v in own().items())


def test_parameters_beside_the_model_are_left_over(tmp_path: Path) -> None:
    state = {**before("model.", own()), "criterion.weight": torch.ones(10)}
    torch.save({"state_dict": state}, tmp_path / "lightning.ckpt")
    checkpoint = load_checkpoint(tmp_path / "lightning.ckpt")
    with pytest.raises(CheckpointError, match=r"the module wants not: criterion\.weight"):
        load_strictly(Net(), checkpoint)
    loaded = load_strictly(Net(seed=1), checkpoint, ["criterion.*"]).state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in own().items())


# ---- several sets of parameters -----------------------------------------------------------


def test_what_was_taken_is_said(tmp_path: Path) -> None:
    path = tmp_path / "two.pth"
    averaged = {k: v + 1 if v.is_floating_point() else v for k, v in own().items()}
    torch.save({"model": own(), "model_ema": averaged, "epoch": 1}, path)
    first, second = load_checkpoint(path), load_checkpoint(path, "model_ema")
    assert (first.entry, first.others) == ("model", ("model_ema",))
    assert (second.entry, second.others) == ("model_ema", ("model",))
    fits_own(path)
    assert torch.equal(second.state["head.bias"], averaged["head.bias"])


def test_without_a_usual_name_one_must_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "two.pth"
    torch.save({"student": own(), "teacher": own()}, path)
    with pytest.raises(CheckpointError, match=r"several .* 'student', 'teacher'; choose .*--key"):
        load_checkpoint(path)
    fits_own(path, "student")
    with pytest.raises(CheckpointError, match="choose one with --key"):
        load_checkpoint(path, "x")
    torch.save({"model": own(), "ema": own()}, path)
    with pytest.raises(CheckpointError, match="no parameters under 'x'; it has 'model', 'ema'"):
        load_checkpoint(path, "x")


def test_the_model_twice_in_one_state_dict(tmp_path: Path) -> None:
    path = tmp_path / "two.safetensors"
    save_file({**before("student.", own()), **before("teacher.", own())}, path)
    with pytest.raises(CheckpointError, match=r"more than once, as 'student\.', 'teacher\.'"):
        load_strictly(Net(), load_checkpoint(path))
    fits_own(path, "teacher")


def test_keys_that_differ_by_a_prefix_and_more(tmp_path: Path) -> None:
    state = before("core.", own())
    del state["core.bn.bias"]
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match=r"all differ by the prefix 'core\.', which the file"):
        load_strictly(Net(), load_checkpoint(tmp_path / "cut.pth"))
    state = own()
    del state["bn.bias"]
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(
        CheckpointError, match=r"all differ by the prefix 'net\.', which the module"
    ):
        load_strictly(Whole(), load_checkpoint(tmp_path / "cut.pth"))


# ---- several files ------------------------------------------------------------------------


def sharded(folder: Path, state: State, *, index: bool = True) -> Path:
    keys = list(state)
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    save_file({k: state[k] for k in keys[:4]}, folder / names[0])
    save_file({k: state[k] for k in keys[4:]}, folder / names[1])
    placed = {k: names[i >= 4] for i, k in enumerate(keys)}
    path = folder / "model.safetensors.index.json"
    if index:
        path.write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    return path


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_shards(prefix: str, tmp_path: Path) -> None:
    index = sharded(tmp_path, before(prefix, own()))
    fits_own(index)
    fits_own(tmp_path)
    index.unlink()
    fits_own(tmp_path)


def test_pickled_shards(tmp_path: Path) -> None:
    state = own()
    torch.save({"conv.weight": state.pop("conv.weight")}, tmp_path / "m-1-of-2.bin")
    torch.save(state, tmp_path / "m-2-of-2.bin")
    fits_own(tmp_path)


def test_one_shard_alone(tmp_path: Path) -> None:
    sharded(tmp_path, own())
    with pytest.raises(
        CheckpointError, match=r"one of the 2 files.*model\.safetensors\.index\.json"
    ):
        load_checkpoint(tmp_path / "model-00001-of-00002.safetensors")


@pytest.mark.parametrize("index", [True, False])
def test_a_missing_shard(index: bool, tmp_path: Path) -> None:
    sharded(tmp_path, own(), index=index)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"lacks its file 'model-00002-of-00002\.safetensors'"
    ):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("placed", "sentence"),
    [
        ("{", "no index of a checkpoint"),
        ("[]", "no index of a checkpoint"),
        ('{"weight_map": {}}', "no index of a checkpoint"),
        ('{"weight_map": {"a": "../../x.pth"}}', "names a file outside its folder: '../../x.pth'"),
        ("[" * 100_000, "no index of a checkpoint"),
        ('{"weight_map": {"a": 3}}', "names a file outside its folder: 3"),
    ],
)
def test_an_index_that_is_none(placed: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "m.safetensors.index.json").write_text(placed)
    with pytest.raises(CheckpointError, match=re.escape(sentence)):
        load_checkpoint(tmp_path)


def test_an_index_that_disagrees(tmp_path: Path) -> None:
    index = sharded(tmp_path, own())
    content = json.loads(index.read_text())
    del content["weight_map"]["head.bias"]
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"index and its files disagree about 'head\.bias'"):
        load_checkpoint(index)


def test_a_key_in_two_shards(tmp_path: Path) -> None:
    sharded(tmp_path, own(), index=False)
    save_file(own(), tmp_path / "model-00002-of-00002.safetensors")
    with pytest.raises(CheckpointError, match="in two of its files"):
        load_checkpoint(tmp_path)


def test_a_shard_of_very_many(tmp_path: Path) -> None:
    (tmp_path / "m-1-of-99999999999999.bin").touch()
    with pytest.raises(CheckpointError, match=r"lacks its file 'm-00000000000002-of-"):
        load_checkpoint(tmp_path)


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "a.pth").touch()
    with pytest.raises(CheckpointError, match=r"is a folder without .*; it has a\.pth"):
        load_checkpoint(tmp_path)


# ---- named as what they are ---------------------------------------------------------------


def _pointer(path: Path) -> None:
    path.write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 118042873\n"
    )


def _page(path: Path) -> None:
    path.write_text("\n<!DOCTYPE html><html><title>Virus scan warning</title></html>")


def _script(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:  # as torch.jit.save writes it
        archive.writestr("net/data.pkl", b"")
        archive.writestr("net/constants.pkl", b"")
        archive.writestr("net/code/__torch__.py", b"")


def _zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("best.pth", b"x")


def _array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def _arrays(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))


def _meta(path: Path) -> None:
    with torch.device("meta"):
        torch.save(Net().state_dict(), path)


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (_pointer, "a git-lfs pointer to a checkpoint of 118,042,873 bytes.*git lfs pull"),
        (_page, "a web page ('Virus scan warning'), no checkpoint.*in a browser"),
        (_script, "a TorchScript archive.*state_dict() to a file"),
        (_zipped, "a zip archive that holds 'best.pth'.*unpack it first"),
        (lambda p: p.write_bytes(gzip.compress(b"x")), "compressed by gzip.*unpack it first"),
        (_array, "a single NumPy array, no checkpoint.*torch.save(model.state_dict()"),
        (_arrays, "an .npz archive of NumPy arrays, no checkpoint"),
        (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" * 9), "an HDF5 file.*lapilli import"),
        (lambda p: p.touch(), "the file is empty, no checkpoint.*get it again"),
        (_meta, "'conv.weight' has no values.*'meta' device"),
        (lambda p: torch.save([own()], p), "holds no state_dict but a list"),
        (lambda p: torch.save({"optimizer": {"state": {}, "param_groups": []}}, p),
         "holds no state_dict: entry 'optimizer' is not a tensor"),
        (lambda p: torch.save(Net(), p), "(test_containers.Net|tests.*Net).*Save its state_dict"),
    ],
    ids=["lfs", "html", "torchscript", "zip", "gzip", "npy", "npz", "hdf5", "empty", "meta",
         "list", "optimizer", "module"],
)  # fmt: skip
def test_what_is_named(write: Callable[[Path], object], sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    write(path)
    pattern = sentence if sentence.startswith("(") else re.escape(sentence).replace(r"\.\*", ".*")
    with pytest.raises(CheckpointError, match=pattern):
        load_checkpoint(path)


@pytest.mark.parametrize("write", [_pointer, _page, _zipped, _arrays])
def test_no_suffix_hides_what_a_file_is(write: Callable[[Path], object], tmp_path: Path) -> None:
    write(tmp_path / "file.safetensors")
    with pytest.raises(CheckpointError, match=r"git-lfs|web page|zip|npz"):
        load_checkpoint(tmp_path / "file.safetensors")


def test_another_number_of_classes(tmp_path: Path) -> None:
    state = {**own(), "head.weight": torch.zeros(100, 8), "head.bias": torch.zeros(100)}
    torch.save(state, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=r"head.weight \(100, 8\), not \(10, 8\)"):
        load_strictly(Net(), load_checkpoint(tmp_path / "c.pth"))


@pytest.mark.parametrize(
    "value", [np.array([None, 1], object), np.array(["a"]), np.zeros(2, [("a", "f4")])]
)
def test_arrays_of_objects_are_refused(value: Any, tmp_path: Path) -> None:
    torch.save({"state_dict": own(), "history": value}, tmp_path / "o.pth")
    with pytest.raises(CheckpointError, match=r"refused|not a PyTorch checkpoint"):
        load_checkpoint(tmp_path / "o.pth")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<i8", "|u1", "|b1"])
def test_arrays_keep_their_values(order: Any, dtype: str, tmp_path: Path) -> None:
    array = np.asarray(np.arange(6).reshape(2, 3), dtype, order=order)
    torch.save({"a": array, "b": np.array(3, dtype)}, tmp_path / "a.pth")
    state = load_checkpoint(tmp_path / "a.pth").state
    assert np.array_equal(state["a"].numpy(), array)
    assert state["b"].shape == ()


def test_the_table_has_a_row_for_each() -> None:
    table = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text()
    assert [row for row in PICKLES if f"| {row} |" not in table] == []
