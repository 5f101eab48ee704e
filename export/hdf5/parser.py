"""The datasets of an HDF5 file that nobody has to trust.

HDF5 follows links into other files, maps other files into a dataset, expands a few bytes
into gigabytes and lets a group hold itself. Here the whole file is walked first, as groups
and datasets that the file itself holds, each once; what is left is read within a budget.
Deflated chunks are expanded here and not by the library, which grows its buffer for as long
as the stream asks for more.

The library itself does not end on some damaged files: `process` has a process for it.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt

from lapilli.export import limits
from lapilli.export.limits import Progress
from lapilli.export.malformed import MalformedError

Value: TypeAlias = "npt.NDArray[Any] | str | Texts"
Location: TypeAlias = tuple[str, ...]

_MOST_OBJECTS = 1 << 17
_MOST_DEPTH = 16
_MOST_AXES = 8
_FILTERS = {1: "gzip", 2: "shuffle", 32000: "lzf"}
_LAYOUTS = (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED)
_LINKS = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "a link into another file"}
# What h5py raises on damaged bytes; it has no base class for it.
_H5PY = (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError,
         AttributeError, NotImplementedError, MemoryError)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Texts:
    """An array of text: its elements in C order."""

    shape: tuple[int, ...]
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """What a file holds: the groups by location, and the datasets with their values.

    A value is an array of numbers, or a text, or an array of texts.
    """

    groups: Mapping[Location, tuple[str, ...]]
    values: Mapping[Location, Value]


def parse_tree(data: bytes, memory_limit: int, progress: Progress | None = None) -> Tree:
    """Read every dataset of a file from its bytes.

    Args:
        data: of the file.
        memory_limit: that its numbers may take, eight for each.
        progress: is told of the datasets that are read, about a hundred times.

    Raises:
        MalformedError: no HDF5 file, damaged, or one of the things that no honest file needs;
            names the object.
    """
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            groups, datasets = _walk(file)
            budget = _Budget(memory_limit, datasets.values())
            for dataset in datasets.values():
                _check(dataset, budget)
            values = {}
            for done, (at, dataset) in enumerate(datasets.items(), start=1):
                values[at] = _read(dataset, budget)
                if progress is not None and (done * 100) % len(datasets) < 100:
                    progress(done, len(datasets))
    except _H5PY as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise MalformedError(f"damaged, or no HDF5 file ({reason})") from error
    return Tree(groups, values)


class _Budget:
    """Bytes that are left to spend on these datasets."""

    def __init__(self, total: int, datasets: Collection[_Dataset]) -> None:
        self.total = self.left = total
        self.datasets = datasets

    def spend(self, where: str, count: int) -> None:
        self.left -= count
        if self.left < 0:
            needed = max(sum(d.memory for d in self.datasets), self.total - self.left)
            raise MalformedError(
                f"{where}: the file asks for {needed} bytes of memory, and its size justifies no "
                f"more than {self.total}; if you trust it: {limits.enough(needed)}"
            )


def _walk(file: Any) -> tuple[dict[Location, tuple[str, ...]], dict[Location, _Dataset]]:
    groups: dict[Location, tuple[str, ...]] = {}
    datasets: dict[Location, _Dataset] = {}
    seen: set[int] = set()
    waiting: list[tuple[Location, Any]] = [((), h5py.h5g.open(file.id, b"/"))]
    while waiting:
        at, group = waiting.pop()
        names = _names(at, group)
        groups[at] = tuple(names)
        for name in names:
            place = (*at, name)
            where = show(place)
            if len(place) > _MOST_DEPTH:
                raise MalformedError(f"{where}: groups in groups, deeper than {_MOST_DEPTH}")
            link = group.links.get_info(name.encode()).type
            if link != h5py.h5l.TYPE_HARD:
                kind = _LINKS.get(link, "a link of a kind of its own")
                raise MalformedError(f"{where}: {kind}; every value must lie in its place")
            item = h5py.h5o.open(group, name.encode())
            address = int(h5py.h5o.get_info(item).addr)
            if address in seen or len(seen) >= _MOST_OBJECTS:
                twice = "is an object that has another name already"
                raise MalformedError(f"{where}: {twice if address in seen else 'too many objects'}")
            seen.add(address)
            if isinstance(item, h5py.h5g.GroupID):
                waiting.append((place, item))
            elif isinstance(item, h5py.h5d.DatasetID):
                datasets[place] = _Dataset(where, item)
            else:
                raise MalformedError(f"{where}: neither a group nor a dataset")
    return groups, datasets


def _names(at: Location, group: Any) -> list[str]:
    """Names in a group; the walk over them stops by itself where a tree is endless."""
    raw: list[bytes] = []

    def keep(name: bytes) -> int | None:  # must not raise: h5py could not hand it on
        raw.append(name)
        return 1 if len(raw) > _MOST_OBJECTS else None

    group.links.iterate(keep)
    if len(raw) > _MOST_OBJECTS:
        raise MalformedError(f"{show(at)}: too many objects")
    found = [name.decode() for name in raw]
    if len(set(found)) < len(found) or any(not n or n in (".", "..") or "/" in n for n in found):
        raise MalformedError(f"{show(at)}: a name that is empty, a path, or used twice")
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Dataset:
    where: str
    id: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.id.shape)

    @property
    def text(self) -> bool:
        return h5py.check_string_dtype(self.id.dtype) is not None

    @property
    def memory(self) -> int:
        """Bytes that are paid for it; what its texts hold is paid when they are read."""
        return math.prod(self.shape) * (64 if self.text else 8)

    @property
    def filters(self) -> list[int]:
        made = self.id.get_create_plist()
        return [made.get_filter(i)[0] for i in range(made.get_nfilters())]


def _check(dataset: _Dataset, budget: _Budget) -> None:
    """Refuse what must not be read, and pay for the rest."""
    where, made = dataset.where, dataset.id.get_create_plist()
    if made.get_layout() not in _LAYOUTS:
        raise MalformedError(f"{where}: a virtual dataset, which lies in other files")
    if made.get_external_count():
        raise MalformedError(f"{where}: its numbers lie in another file")
    used = dataset.filters
    if odd := [f for f in used if f not in _FILTERS]:
        raise MalformedError(f"{where}: filter {odd[0]}; only gzip, shuffle and lzf are read")
    if len(set(used)) < len(used):
        raise MalformedError(f"{where}: a filter on top of itself")
    if dataset.id.get_space().get_simple_extent_type() == h5py.h5s.NULL:
        raise MalformedError(f"{where}: an empty dataspace")
    kind, shape = dataset.id.dtype, dataset.shape
    if len(shape) > _MOST_AXES:
        raise MalformedError(f"{where}: {len(shape)} axes")
    if not dataset.text and not (kind.kind in "iufb" and kind.itemsize <= 8):
        raise MalformedError(f"{where}: values of type {str(kind)[:40]}; expected numbers or text")
    budget.spend(where, dataset.memory)
    stored = math.prod(shape) * dataset.id.get_type().get_size()
    if made.get_layout() == h5py.h5d.CHUNKED:
        chunk = made.get_chunk()
        bytes_each = math.prod(chunk) * dataset.id.get_type().get_size()
        if len(chunk) != len(shape) or bytes_each > max(budget.total, 1 << 16):
            raise MalformedError(f"{where}: chunks of shape {list(chunk)[:8]}")
        if 32000 in used and any(v > max(bytes_each, 1 << 16) for v in _settings(made, 32000)[2:3]):
            raise MalformedError(f"{where}: lzf that claims more than a chunk")
    elif dataset.id.get_storage_size() < stored:
        raise MalformedError(f"{where}: holds no numbers for its shape {list(shape)}")


def _settings(made: Any, code: int) -> tuple[int, ...]:
    found: tuple[int, ...] = next(
        made.get_filter(i)[2] for i in range(made.get_nfilters()) if made.get_filter(i)[0] == code
    )
    return found


def _read(dataset: _Dataset, budget: _Budget) -> Value:
    if dataset.text:
        return _text(dataset, budget)
    made = dataset.id.get_create_plist()
    if made.get_layout() == h5py.h5d.CHUNKED and 32000 not in dataset.filters:
        values = _chunked(dataset, made.get_chunk())
    else:
        values = np.zeros(dataset.shape, dataset.id.dtype)
        dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
    return np.asarray(values, values.dtype.newbyteorder("="))


def _chunked(dataset: _Dataset, chunk: tuple[int, ...]) -> npt.NDArray[Any]:
    shape, kind = dataset.shape, dataset.id.dtype
    whole = math.prod(chunk) * kind.itemsize
    values = np.zeros(shape, kind)
    expected = math.prod(-(-n // c) for n, c in zip(shape, chunk, strict=True))
    if dataset.id.get_num_chunks() != expected:
        raise MalformedError(f"{dataset.where}: chunks are missing")
    seen = set()
    for index in range(expected):
        offset = tuple(dataset.id.get_chunk_info(index).chunk_offset)
        inside = all(
            0 <= o < n and o % c == 0 for o, n, c in zip(offset, shape, chunk, strict=True)
        )
        if offset in seen or not inside:
            raise MalformedError(f"{dataset.where}: a chunk that is not where it should be")
        seen.add(offset)
        mask, raw = dataset.id.read_direct_chunk(offset)
        for place, code in reversed(list(enumerate(dataset.filters))):
            if mask >> place & 1 == 0:
                raw = _inflated(raw, whole) if code == 1 else _unshuffled(raw, kind.itemsize)
        if len(raw) != whole:
            raise MalformedError(f"{dataset.where}: a chunk of {len(raw)} bytes, not {whole}")
        part = np.frombuffer(raw, kind).reshape(chunk)
        region = tuple(
            slice(o, min(o + c, n)) for o, c, n in zip(offset, chunk, shape, strict=True)
        )
        values[region] = part[tuple(slice(0, r.stop - r.start) for r in region)]
    return values


def _inflated(raw: bytes, most: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(raw, most + 1)
    except zlib.error as error:
        raise MalformedError(f"damaged, or no HDF5 file ({error})") from error


def _unshuffled(raw: bytes, itemsize: int) -> bytes:
    """HDF5's shuffle puts first bytes first; a rest that is no whole item stays behind."""
    items = len(raw) // itemsize
    whole = np.frombuffer(raw[: items * itemsize], np.uint8).reshape(itemsize, items)
    return bytes(whole.T.tobytes()) + raw[items * itemsize :]


def _text(dataset: _Dataset, budget: _Budget) -> str | Texts:
    """Read one text, or an array of them: one at a time, as many may point to the same long one."""
    opened = h5py.Dataset(dataset.id)
    found = []
    for at in np.ndindex(dataset.shape):
        item = opened[at]
        item = item.encode() if isinstance(item, str) else bytes(item)
        budget.spend(dataset.where, len(item))
        try:
            found.append(item.decode())
        except UnicodeDecodeError as error:
            raise MalformedError(f"{dataset.where}: text that is not UTF-8") from error
    return Texts(dataset.shape, tuple(found)) if dataset.shape else found[0]


def show(at: Location) -> str:
    """A location as HDF5 writes it."""
    return "/" + "/".join(at)[:200]
