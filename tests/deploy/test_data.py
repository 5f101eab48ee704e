"""Data sets as people have them: tiny ones of every format, written by hand."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from lapilli.deploy.cli.images import open_source
from lapilli.deploy.data.binning import Binning
from lapilli.deploy.data.folders import in_turn
from lapilli.deploy.data.pictures import ImageError
from lapilli.deploy.data.reading import How
from lapilli.deploy.data.source import open_data, open_sequence
from lapilli.deploy.data.transforms import Transform, transform_of

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
GREY = RNG.integers(0, 256, (6, 1, 8, 8), dtype=np.uint8)
FINE = np.array([3, 1, 2, 0, 9, 9])
Bytes = npt.NDArray[np.uint8]


def save(path: Path, image: Bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(path)


def class_folders(folder: Path) -> None:
    for i, image in enumerate(COLOUR):
        save(folder / ("dog" if i % 2 else "cat") / f"{i}.png", image)


def test_class_folders(tmp_path: Path) -> None:
    class_folders(tmp_path)
    data = open_data(tmp_path)
    assert (len(data), data.shape, data.classes) == (6, (3, 32, 32), ("cat", "dog"))
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 0, 1, 0, 1]  # in turn
    assert np.array_equal(data.read([3, 0]), COLOUR[[3, 0]])
    ordered = open_data(tmp_path, How(classes=("dog", "cat", "fish")))
    assert ordered.labels is not None
    assert ordered.labels.tolist() == [1, 0, 1, 0, 1, 0]
    told = ordered.describe()
    assert (told["classes"], told["order"]) == ("as the network's", "classes in turn")
    (tmp_path / "eel").mkdir()
    with pytest.raises(ImageError, match="eel: a class without a file"):
        open_data(tmp_path)


@pytest.mark.parametrize("counts", [[4, 4, 4], [1, 50, 7], [1, 1], [9]])
def test_any_samples_in_a_row_hold_each_class_in_its_share(counts: list[int]) -> None:
    order = in_turn(counts)
    assert sorted(order.tolist()) == list(range(sum(counts)))
    labels = np.repeat(range(len(counts)), counts)[order]
    for label, count in enumerate(counts):
        assert np.array_equal(order[labels == label], np.sort(order[labels == label]))
        share = count / sum(counts)
        for size in range(1, sum(counts) + 1):
            assert abs((labels[:size] == label).sum() - size * share) < len(counts)
            assert abs((labels[-size:] == label).sum() - size * share) < len(counts)


def test_the_half_that_is_meant(tmp_path: Path) -> None:
    for half, image in (("train", COLOUR[0]), ("val", COLOUR[1])):
        save(tmp_path / half / "cat" / "a.png", image)
    assert np.array_equal(open_data(tmp_path).read([0]), COLOUR[1:2])
    assert np.array_equal(open_data(tmp_path, How(test=False)).read([0]), COLOUR[:1])
    save(tmp_path / "test" / "cat" / "a.png", COLOUR[2])
    with pytest.raises(ImageError, match="holds test, train, val; name the one"):
        open_data(tmp_path)


def test_labels_in_csv(tmp_path: Path) -> None:
    for i, image in enumerate(GREY):
        save(tmp_path / f"{i}.png", image)
    table = tmp_path / "labels.csv"
    table.write_text("filename,label\n" + "".join(f"{i}.png,{'ba'[i % 2]}\n" for i in range(6)))
    data = open_data(tmp_path)
    assert data.labels is not None
    assert (data.labels.tolist(), data.classes) == ([1, 0] * 3, ("a", "b"))
    assert np.array_equal(data.read(range(6)), GREY)
    with pytest.raises(ImageError, match="label 'b' of sample 0 is no class; there are a, c"):
        open_data(tmp_path, How(classes=("a", "c")))
    for text, sentence in (
        ("0.png,1\n", "its first row must name"),
        ("file,label\n../0.png,1\n", "which leaves the folder"),
        ("file,label\n0.png,\n", "row 2 lacks"),
        ("file,label\n", "is empty"),
        ("file,label\n0.png,-1\n", "a label is negative"),
        ("file,label\n0.png,1.0\n", "labels such as '1.0' are no whole numbers"),
    ):
        table.write_text(text)
        with pytest.raises(ImageError, match=sentence):
            open_data(tmp_path)


def test_a_table_beside_the_folder_of_its_pictures(tmp_path: Path) -> None:
    """The folder is no class: the table decides."""
    for i, image in enumerate(GREY):
        save(tmp_path / "images" / f"{i}.png", image)
    rows = "".join(f"images/{i}.png,{label}\n" for i, label in enumerate(FINE))
    (tmp_path / "labels.csv").write_text(f"file,label\n{rows}")
    labels = open_data(tmp_path).labels
    assert labels is not None
    assert labels.tolist() == FINE.tolist()
    with pytest.raises(ImageError, match="label '0' is the name of class 3, and class 0 has"):
        open_data(tmp_path, How(classes=("1", "2", "3", "0", "9")))


def test_words_need_names_in_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=GREY, labels=np.array(["b", "a", "b", "a", "a", "a"]))
    with pytest.raises(ImageError, match="labels are words"):
        open_data(tmp_path / "x.npz")
    labels = open_data(tmp_path / "x.npz", How(classes=("a", "b"))).labels
    assert labels is not None
    assert labels.tolist() == [1, 0, 1, 0, 0, 0]


def test_npy_is_mapped(tmp_path: Path) -> None:
    many = np.zeros((4000, 3, 32, 32), np.uint8)
    many[-1] = COLOUR[0]
    np.save(tmp_path / "x.npy", many)
    tracemalloc.start()
    try:
        data = open_data(tmp_path / "x.npy")
        assert np.array_equal(data.read([3999]), COLOUR[:1])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
    np.save(tmp_path / "x.npy", many / 255)
    with pytest.raises(ImageError, match="holds float64"):
        open_data(tmp_path / "x.npy")
    np.savez(tmp_path / "x.npz", images=many)
    (tmp_path / "x.npz").rename(tmp_path / "x.npy")
    with pytest.raises(ImageError, match="no array of NumPy's"):
        open_data(tmp_path / "x.npy")
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(ImageError, match="no array of NumPy's"):
        open_data(tmp_path / "x.npy")


def cifar_binary(folder: Path) -> None:
    records = [bytes([label]) + image.tobytes() for label, image in zip(FINE, COLOUR, strict=True)]
    (folder / "test_batch.bin").write_bytes(b"".join(records[:3]))
    for i in range(5):
        (folder / f"data_batch_{i + 1}.bin").write_bytes(records[i + 1])
    (folder / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n\n")


def test_cifar_binary(tmp_path: Path) -> None:
    cifar_binary(tmp_path)
    data, training = open_data(tmp_path), open_data(tmp_path, How(test=False))
    assert data.labels is not None
    assert training.labels is not None
    assert (data.labels.tolist(), training.labels.tolist()) == ([3, 1, 2], [1, 2, 0, 9, 9])
    assert data.classes == tuple("abcdefghij")
    assert np.array_equal(data.read([2, 0]), COLOUR[[2, 0]])
    assert np.array_equal(training.read([4, 1]), COLOUR[[5, 2]])
    with open(tmp_path / "test_batch.bin", "ab") as file:
        file.write(b"x")
    with pytest.raises(ImageError, match=r"no whole number of CIFAR-10's records.*cut short"):
        open_data(tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(bytes([10]) + COLOUR[0].tobytes())
    with pytest.raises(ImageError, match="label 10 of image 0 is none of 10 classes"):
        open_data(tmp_path)


def test_cifar_100_binary(tmp_path: Path) -> None:
    (tmp_path / "test.bin").write_bytes(bytes([4, 77]) + COLOUR[0].tobytes())
    (tmp_path / "fine_label_names.txt").write_text("\n".join(f"c{i}" for i in range(100)))
    data = open_data(tmp_path)
    assert data.labels is not None
    assert (data.labels.tolist(), data.classes[77]) == ([77], "c77")
    assert np.array_equal(data.read([0]), COLOUR[:1])


def old_pickle(content: dict[str, Any]) -> bytes:
    """What Python 2 wrote: text is bytes to us; NumPy's array under its old module."""
    return pickle.dumps(content, protocol=2).replace(b"numpy._core", b"numpy.core")


@pytest.mark.parametrize("old", [True, False])
def test_cifar_pickles(tmp_path: Path, old: bool) -> None:
    rows = COLOUR.reshape(6, -1)
    content = {b"data": rows, b"labels": FINE.tolist()} if old else {}
    content = content or {"data": rows, "labels": FINE.tolist()}  # type: ignore[dict-item]
    data = old_pickle(content) if old else pickle.dumps(content)  # type: ignore[arg-type]
    (tmp_path / "test_batch").write_bytes(data)
    (tmp_path / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    got = open_data(tmp_path)
    assert got.labels is not None
    assert (got.labels.tolist(), got.classes) == (FINE.tolist(), tuple("abcdefghij"))
    assert np.array_equal(got.read(range(6)), COLOUR)


class Runs:
    """Unpickled by anybody else's reader, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_code_runs_none(tmp_path: Path) -> None:
    target = tmp_path / "made"
    (tmp_path / "test_batch").write_bytes(pickle.dumps({"data": Runs(target), "labels": [1]}))
    with pytest.raises(ImageError, match=r"it asks for posix.mkdir to be run"):
        open_data(tmp_path / "test_batch")
    assert not target.exists()
    pickle.loads((tmp_path / "test_batch").read_bytes())
    assert target.exists(), "the trap is one"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\x80\x04", "refused as a pickle"),
        (pickle.dumps([1]), "holds no dictionary"),
        (pickle.dumps({"data": COLOUR.reshape(6, -1)}), "lacks 'labels'"),
        (pickle.dumps({"data": GREY, "labels": [0]}), "lacks 'data'"),
        (pickle.dumps({"data": COLOUR.reshape(6, -1), "labels": [0] * 5}), "lacks 'labels'"),
        (pickle.dumps({"data": COLOUR.reshape(6, -1), "labels": [11] * 6}), "label 11 of image 0"),
        (pickle.dumps({"data": COLOUR.reshape(6, -1), "labels": [1 << 70] * 6}), "lacks 'labels'"),
        (b"\x80\x02}U\x04datacnumpy\nndarray\n)\x81s.", "lacks 'data'"),  # never filled
    ],
)
def test_other_pickles(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(ImageError, match=sentence):
        open_data(tmp_path / "test_batch")


def idx(path: Path, array: Bytes, magic: int = 8) -> None:
    head = bytes((0, 0, magic, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes()))


def test_idx(tmp_path: Path) -> None:
    images, labels = (tmp_path / f"t10k-{n}-ubyte.gz" for n in ("images-idx3", "labels-idx1"))
    idx(images, GREY[:, 0])
    idx(labels, FINE.astype(np.uint8))
    for source in (tmp_path, images):
        data = open_data(source)
        assert data.labels is not None
        assert data.labels.tolist() == FINE.tolist()
        assert np.array_equal(data.read(range(6)), GREY)
    idx(labels, FINE[:4].astype(np.uint8))
    with pytest.raises(ImageError, match="4 labels of 6 images"):
        open_data(tmp_path)
    idx(images, GREY[:, 0], magic=13)
    with pytest.raises(ImageError, match="begins with 00000d03, not 00000803"):
        open_data(tmp_path)
    whole = bytes((0, 0, 8, 3)) + struct.pack(">3I", 6, 8, 8) + GREY.tobytes()
    for content in (whole[:-1], whole + b"x"):
        images.write_bytes(gzip.compress(content))
        with pytest.raises(ImageError, match="holds another number of bytes"):
            open_data(tmp_path)
    images.write_bytes(gzip.compress(whole)[:-12])
    with pytest.raises(ImageError, match="no IDX file that can be read"):
        open_data(tmp_path)
    images.write_bytes(gzip.compress(bytes((0, 0, 8, 3)) + struct.pack(">3I", 1 << 20, 99, 99)))
    with pytest.raises(ImageError, match="more than 64 times the file"):
        open_data(tmp_path)


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import json

    import pyarrow.parquet as pq

    cells = []
    for image in (*GREY, GREY[1]):  # groups of 4 and 3
        buffer = io.BytesIO()
        Image.fromarray(image[0]).save(buffer, "PNG")
        cells.append({"bytes": buffer.getvalue(), "path": None})
    names = {"info": {"features": {"label": {"names": list("abcdefghij")}}}}
    table = pa.table({"image": cells, "label": [*FINE.tolist(), 4]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(names)})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=4)
    data = open_data(tmp_path / "x.parquet")
    assert data.labels is not None
    assert (data.labels.tolist(), data.classes) == ([*FINE.tolist(), 4], tuple("abcdefghij"))
    assert np.array_equal(data.read([5, 0, 3, 4]), GREY[[5, 0, 3, 4]])
    whole = (tmp_path / "x.parquet").read_bytes()
    at = whole.index(b"PNG")  # the header of the page lies before its first value
    (tmp_path / "x.parquet").write_bytes(whole[:4] + bytes(at) + whole[4 + at :])
    with pytest.raises(ImageError, match="no Parquet file that can be read"):
        open_data(tmp_path / "x.parquet")
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(ImageError, match="no Parquet file"):
        open_data(tmp_path / "x.parquet")


def test_what_is_not_packed_is_mapped(tmp_path: Path) -> None:
    many = np.random.default_rng(1).integers(0, 256, (2048, 1, 64, 128)).astype(np.uint8)
    np.savez(tmp_path / "x.npz", images=np.asfortranarray(many), labels=np.arange(2048) % 7)
    head = bytes((0, 0, 8, 3)) + struct.pack(">3I", 2048, 64, 128)
    (tmp_path / "x-idx3-ubyte").write_bytes(head + many.tobytes())
    for name in ("x.npz", "x-idx3-ubyte"):
        tracemalloc.start()
        read = open_data(tmp_path / name).read([2047, 0])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert np.array_equal(read, many[[2047, 0]])
        assert peak < many.nbytes // 4
    raw = bytearray((tmp_path / "x.npz").read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "x.npz").write_bytes(raw)
    with pytest.raises(ImageError, match="Bad CRC-32"):
        open_data(tmp_path / "x.npz")


def test_headers_that_are_no_python_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", GREY)
    raw = (tmp_path / "x.npy").read_bytes()
    for old, new in ((b"'shape': (", b"'shape': [\0"), (b"}", b"("), (b"(6, ", b"(-6,")):
        (tmp_path / "x.npy").write_bytes(raw.replace(old, new[: len(old)].ljust(len(old)), 1))
        with pytest.raises(ImageError, match="no array of NumPy's that can be read"):
            open_data(tmp_path / "x.npy")


def test_own_code(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "class Set:\n"
        "    def __len__(self): return 3\n"
        "    def __getitem__(self, i): return np.full((1, 4, 4), i, np.uint8), i % 2\n"
        "class Floats(Set):\n"
        "    def __getitem__(self, i): return np.zeros((1, 4, 4)), 0\n"
        "class Fails(Set):\n"
        "    def __getitem__(self, i): return {}[i]\n"
        "class Long(Set):\n"
        "    def __len__(self): raise ValueError('of mine')\n"
    )
    data = open_source(f"{tmp_path}/mine.py:Set", How())
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 0]
    assert data.read([2]).tolist() == np.full((1, 1, 4, 4), 2).tolist()
    for name, sentence in (
        ("Floats", "leave out ToTensor"),
        ("Fails", "fails: KeyError: 0"),
        ("Long", "__len__ fails: ValueError: of mine"),
    ):
        with pytest.raises(ImageError, match=sentence):
            open_source(f"{tmp_path}/mine.py:{name}", How())


class Few:
    """Ten small images, of which only the first three may be asked for, and one fails."""

    fails = -1

    def __init__(self, labels: list[Any]) -> None:
        self.labels, self.asked = labels, set[int]()

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[Bytes, Any]:
        self.asked.add(index)
        if index == self.fails:
            raise RuntimeError("of mine")
        return np.full((1, 2, 2), index, np.uint8), self.labels[index]


def test_only_the_items_that_are_asked_for(tmp_path: Path) -> None:
    items = Few([2, 1, 0])
    data = open_sequence(items, "mine", How(), 3)
    assert data.labels is not None
    assert (len(data), data.labels.tolist(), items.asked) == (3, [2, 1, 0], {0, 1, 2})


@pytest.mark.parametrize("fails", [0, 1])
def test_an_item_that_fails_is_left_out_if_asked(fails: int) -> None:
    items = Few([5, 6, 7])
    items.fails = fails
    with pytest.raises(ImageError, match=f"item {fails} of mine: fails: RuntimeError: of mine"):
        open_sequence(items, "mine", How(), 3)
    data = open_sequence(items, "mine", How(skip_unreadable=True), 3)
    got = data.read_readable(range(3))
    left = [i for i in range(3) if i != fails]
    assert data.labels is not None
    assert (got.indices.tolist(), len(got.unreadable)) == (left, 1)
    assert data.labels[got.indices].tolist() == [items.labels[i] for i in left]


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([0, None, 1], "item 1 of mine: has no label"),
        ([0.0, 1.0, 2.0], "label 0.0 of sample 0 is no whole number"),
        ([[0, 1]] * 3, r"labels are \(3, 2\)"),
        ([[0], [0, 1], []], "labels are no list"),
        ([True, False, True], "label True of sample 0 is no whole number"),
    ],
)
def test_labels_of_other_types(labels: list[Any], sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        open_sequence(Few(labels), "mine", How(), 3)


def test_one_unreadable_image_is_named(tmp_path: Path) -> None:
    class_folders(tmp_path)
    (tmp_path / "cat" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    data = open_data(tmp_path)
    with pytest.raises(ImageError, match=r"cat/2.png: not a picture"):
        data.read(range(6))
    got = data.read_readable(range(6))
    assert got.indices.tolist() == [0, 1, 3, 4, 5]
    assert np.array_equal(got.pixels, COLOUR[[0, 1, 3, 4, 5]])
    assert [str(tmp_path / "cat" / "2.png") in s for s in got.unreadable] == [True]


def test_twenty_unreadable_images_before_one(tmp_path: Path) -> None:
    for i in range(20):
        save(tmp_path / "a" / f"{i:02}.png", COLOUR[0])
        (tmp_path / "a" / f"{i:02}.png").write_bytes(b"none")
    with pytest.raises(ImageError, match="none of 20 can be read"):
        open_data(tmp_path, How(skip_unreadable=True))
    save(tmp_path / "a" / "20.png", COLOUR[0])
    got = open_data(tmp_path, How(skip_unreadable=True)).read_readable(range(21))
    assert (got.indices.tolist(), len(got.unreadable)) == ([20], 20)
    save(tmp_path / "a" / "21.png", COLOUR[0][:, :20])  # readable, of another size
    with pytest.raises(ImageError, match=r"21.png: is 3 x 20 x 32, and others are 3 x 32 x 32"):
        open_data(tmp_path, How(skip_unreadable=True)).read_readable(range(22))


def test_mixed_sizes_and_modes_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "a" / "0.png", COLOUR[0])
    save(tmp_path / "a" / "1.png", COLOUR[0][:, :20])
    with pytest.raises(ImageError, match=r"1.png: is 3 x 20 x 32, and others are 3 x 32 x 32"):
        open_data(tmp_path).read([0, 1])
    resized = open_data(tmp_path, How(transform=Transform(resize=(16, 16))))
    assert resized.read([0, 1]).shape == (2, 3, 16, 16)
    save(tmp_path / "a" / "1.png", COLOUR[0][:1])
    with pytest.raises(ImageError, match=r"1.png: is 1 x 32 x 32, and others are 3 x 32 x 32"):
        open_data(tmp_path).read([0, 1])
    assert open_data(tmp_path, How(channels=1)).read([0, 1]).shape == (2, 1, 32, 32)


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize(("height", "width"), [(48, 65), (65, 48), (32, 32), (21, 64)])
def test_resize_and_crop_as_torchvision(kernel: str, height: int, width: int) -> None:
    """Beside torchvision where it is installed, else beside its formulas, written out."""
    picture = Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))
    asked = transform_of(f"32:{kernel}", "29")
    assert asked is not None
    got = asked.apply(picture, "x")
    try:
        from torchvision import transforms  # type: ignore[import-not-found]
    except ImportError:
        short, long = sorted((height, width))
        longer = int(32 * long / short)
        size = (32, longer) if width <= height else (longer, 32)
        want = picture.resize(size, Image.Resampling[kernel.upper()])
        left, top = (round((edge - 29) / 2.0) for edge in size)
        want = want.crop((left, top, left + 29, top + 29))
    else:
        mode = transforms.InterpolationMode(kernel)
        want = transforms.CenterCrop(29)(transforms.Resize(32, mode)(picture))
    assert np.array_equal(np.asarray(got), np.asarray(want))


def test_transforms_that_are_none() -> None:
    for resize, crop in (("0", None), ("axb", None), ("32:lanczos", None), (None, "-3")):
        with pytest.raises(ImageError, match=r"--resize|--crop"):
            transform_of(resize, crop)
    with pytest.raises(ImageError, match="less than a crop of 40 x 40"):
        Transform(crop=(40, 40)).apply(Image.new("L", (39, 50)), "x")
    with pytest.raises(ImageError, match="too many to resize to"):
        Transform(resize=(9999,)).apply(Image.new("L", (1, 50)), "x")
    assert transform_of(None, None) is None
    assert transform_of("none", None) == Transform()


def test_arrays_are_resized_and_frames_are_not(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", COLOUR)
    how = How(transform=Transform(resize=(8, 8)))
    want = Image.fromarray(COLOUR[1].transpose(1, 2, 0)).resize((8, 8), Image.Resampling.BILINEAR)
    assert np.array_equal(
        open_data(tmp_path / "x.npy", how).read([1])[0], np.asarray(want).transpose(2, 0, 1)
    )
    np.save(tmp_path / "x.npy", COLOUR[:, None])
    with pytest.raises(ImageError, match="frames are not resized"):
        open_data(tmp_path / "x.npy", how)
    usual = open_data(tmp_path / "x.npy", How(usual_transform=Transform(resize=(8, 8))))
    assert usual.shape == (1, 3, 32, 32)
    with pytest.raises(ImageError, match="holds no events; leave --frames"):
        open_data(tmp_path / "x.npy", How(binning=Binning(frames=1)))


def test_an_archive_may_be_called_idx(tmp_path: Path) -> None:
    np.savez(tmp_path / "train_idx.npz", images=GREY)
    assert len(open_data(tmp_path / "train_idx.npz")) == 6


def test_what_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("nothing")
    for source, sentence in (
        (tmp_path, "holds no data that are known"),
        (tmp_path / "none", "no such file"),
        (tmp_path / "x.txt", "expected an .npz archive"),
    ):
        with pytest.raises(ImageError, match=sentence):
            open_data(source)
