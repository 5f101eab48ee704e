"""Pictures and archives as people have them: taken by a stated rule, or refused in a sentence."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lapilli.deploy.cli.images import held_out_images as read_images
from lapilli.deploy.cli.images import picture
from lapilli.deploy.data.pictures import ImageError
from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType

GREY = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
GREY[0, 0] = 255


def network(channels: int = 1, *, kind: Kind = Kind.GRADED, hi: int = 127) -> Network:
    """Three classes of an 8 x 8 image, over two steps."""
    size = 64 * channels
    weight = IntTensor.of(np.arange(3 * size).reshape(3, size) % 7)
    head = ops.Linear(weight=weight, bias=IntTensor.of([0] * 3), graded=kind is Kind.GRADED)
    lo = -128 if kind is Kind.GRADED else 0
    nodes = (
        Node("x", ops.Input(type=TensorType((channels, 8, 8), IntRange(lo, hi), kind))),
        Node("flat", ops.Reshape(shape=(size,)), ("x",)),
        Node("fc", head, ("flat",)),
        Node("logits", ops.Readout(), ("fc",)),
    )
    ones = (Fraction(1),) * channels
    quantizer = InputQuantizer(mean=ones, std=ones, exponent=6, lo=lo, hi=hi)
    return Network(
        graph=Graph(nodes, ("logits",), 2),
        input=quantizer,
        logit_scale=Fraction(1),
        classes=("a", "b", "c"),
    )


def _turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GREY).save(path, exif=exif)


def _with_alpha(path: Path, alpha: int) -> None:
    coloured = Image.fromarray(GREY).convert("RGBA")
    coloured.putalpha(alpha)
    coloured.save(path)


def _palette(path: Path) -> None:
    """Colour 255 - v at place v, so that the indices themselves would be the wrong picture."""
    image = Image.new("P", (8, 8))
    image.putpalette([255 - v for v in range(256) for _ in range(3)])
    image.frombytes((255 - GREY).tobytes())
    image.save(path)


def _colour_of_16_bits(path: Path) -> None:
    """A PNG that Pillow cannot write: 8 x 8 of RGB, 16 bits each."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in GREY)
    head = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def _several(path: Path) -> None:
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


Write = Callable[[Path], object]
TAKEN: dict[str, Write] = {
    "8.png": lambda path: Image.fromarray(GREY).save(path),
    "16.png": lambda path: Image.fromarray(GREY.astype(np.uint16) * 257).save(path),
    "16.tif": lambda path: Image.fromarray(GREY.astype(np.uint16) * 257).save(path),
    "opaque.png": lambda path: _with_alpha(path, 255),
    "palette.png": _palette,
    "colour.png": lambda path: Image.fromarray(GREY).convert("RGB").save(path),
}
REFUSED: dict[str, tuple[Write, str]] = {
    "12in16.png": (
        lambda path: Image.fromarray(GREY.astype(np.uint16) * 16).save(path),
        "holds 16 bits, and no value above 4080: perhaps 12 bits in 16",
    ),
    "float.tif": (
        lambda path: Image.fromarray(GREY.astype(np.float32) / 255).save(path),
        "is of mode F; convert it",
    ),
    "32.tif": (
        lambda path: Image.fromarray(GREY.astype(np.int32)).save(path), "is of mode I; convert it"
    ),
    "cmyk.tif": (
        lambda path: Image.fromarray(GREY).convert("CMYK").save(path), "is of mode CMYK"
    ),
    "colour16.png": (_colour_of_16_bits, "holds 16 bits a colour"),
    "glass.png": (lambda path: _with_alpha(path, 100), "is transparent somewhere"),
    "turned.png": (_turned, "EXIF orientation 6"),
    "turned.jpg": (_turned, "EXIF orientation 6"),
    "film.gif": (_several, "holds 2 pictures"),
    "cut.png": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "not a picture"),
    "words.png": (lambda path: path.write_text("no picture"), "not a picture"),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("channels", [1, 3])
def test_these_pictures_are_the_same_bytes(name: str, channels: int, tmp_path: Path) -> None:
    TAKEN[name](tmp_path / name)
    got = picture(tmp_path / name, network(channels))
    assert got.dtype == np.uint8
    assert np.array_equal(got, np.broadcast_to(GREY, (channels, 8, 8)))


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("channels", [1, 3])
def test_these_pictures_are_refused(name: str, channels: int, tmp_path: Path) -> None:
    write, sentence = REFUSED[name]
    write(tmp_path / name)
    with pytest.raises(ImageError, match=sentence):
        picture(tmp_path / name, network(channels))


def test_a_network_of_events_takes_no_pictures(tmp_path: Path) -> None:
    TAKEN["8.png"](tmp_path / "8.png")
    for odd in (network(2), network(kind=Kind.COUNTS)):
        with pytest.raises(ImageError, match="which no picture holds"):
            picture(tmp_path / "8.png", odd)


PIXELS = np.random.default_rng(1).integers(0, 256, (8, 1, 8, 8), dtype=np.uint8)
GOOD = np.arange(8) % 3
ARCHIVES: dict[str, tuple[dict[str, Any], str]] = {
    "words": ({"images": PIXELS, "labels": np.array(["cat"] * 8)}, "labels are words"),
    "objects": ({"images": PIXELS, "labels": np.array([None] * 8)}, "labels are words"),
    "too few": ({"images": PIXELS, "labels": GOOD[:5]}, "5 labels of 8 images"),
    "one-hot": ({"images": PIXELS, "labels": np.eye(10)[:8]}, r"save labels.argmax\(axis=1\)"),
    "floats": ({"images": PIXELS, "labels": GOOD / 2}, "labels are float64"),
    "negative": ({"images": PIXELS, "labels": GOOD - 1}, "a label is negative"),
    "no images": (
        {"labels": GOOD},
        "it holds 'labels', and no 'images'; of a model that takes none",
    ),
    "float images": ({"images": PIXELS / 255}, "images are float64"),
    "flat": ({"images": PIXELS.reshape(8, 64)}, "not uint8"),
    "none": ({"images": PIXELS[:0]}, "not uint8"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_these_archives_are_refused(name: str, tmp_path: Path) -> None:
    arrays, sentence = ARCHIVES[name]
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(ImageError, match=sentence):
        read_images(str(tmp_path / "x.npz"))


def test_one_array_has_no_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", PIXELS)
    got = read_images(str(tmp_path / "x.npy"))
    assert np.array_equal(got.pixels, PIXELS)
    assert got.labels is None


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_good_archives(save: Callable[..., None], tmp_path: Path) -> None:
    for pixels, labels in ((PIXELS, GOOD[:, None]), (PIXELS[:, 0], GOOD.astype(np.uint8))):
        save(tmp_path / "x.npz", images=pixels, labels=labels)
        got = read_images(str(tmp_path / "x.npz"))
        assert np.array_equal(got.pixels, PIXELS)
        assert got.labels is not None
        assert got.labels.tolist() == GOOD.tolist()
        got.require_fit(network())


@pytest.mark.parametrize(
    ("pixels", "labels", "sentence"),
    [
        (PIXELS[:, :, :7], None, "images are 1 x 7 x 8, the network takes 1 x 8 x 8"),
        (np.repeat(PIXELS, 3, 1), None, "images are 3 x 8 x 8"),
        (np.repeat(PIXELS[:, None], 3, 1), None, "images of 3 steps, the network takes 2"),
        (PIXELS, GOOD + 100, "label 100 of image 0 is no class; the network has 3"),
    ],
)
def test_what_does_not_fit_the_network(
    pixels: Any, labels: Any, sentence: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", images=pixels, **({} if labels is None else {"labels": labels}))
    with pytest.raises(ImageError, match=sentence):
        read_images(str(tmp_path / "x.npz")).require_fit(network())


def test_counts_of_events(tmp_path: Path) -> None:
    frames = np.repeat(PIXELS[:, None] % 6, 2, 1)
    np.savez(tmp_path / "x.npz", images=frames)
    got = read_images(str(tmp_path / "x.npz"))
    got.require_fit(network(kind=Kind.COUNTS, hi=5))
    with pytest.raises(ImageError, match="up to 5 events, and the network's input counts to 4"):
        got.require_fit(network(kind=Kind.COUNTS, hi=4))
    with pytest.raises(ImageError, match="numbers of events"):
        got.require_pixels()
    np.savez(tmp_path / "x.npz", images=np.repeat(PIXELS[:, None], 2, 1))
    read_images(str(tmp_path / "x.npz")).require_pixels()


def _header(shape: tuple[int, ...], dtype: str) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("shape", "dtype", "sentence"),
    [
        ((1 << 17, 1, 32, 32), "<f8", "images are float64"),
        ((1 << 19, 1, 32, 32), "|u1", "would take 512 MiB, more than 64 times"),
        ((1 << 40, 1, 32, 32), "|u1", "another number of bytes"),
    ],
)
def test_sizes_are_read_first(
    shape: tuple[int, ...], dtype: str, sentence: str, tmp_path: Path
) -> None:
    """A file of half a megabyte that says it holds half a gigabyte, and more."""
    with (
        zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("images.npy", "w", force_zip64=True) as member,
    ):
        member.write(_header(shape, dtype))
        for _ in range(512):
            member.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=sentence):
            read_images(str(tmp_path / "x.npz"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
