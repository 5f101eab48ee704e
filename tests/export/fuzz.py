"""Damaged files through the readers: python tests/export/fuzz.py [--count 100000] [--processes 2].

Half of the files are edited in their structure (JSON, sizes, links, types, filters), half in
their bytes. For each the reader must accept or raise an error of ours, within 64 MiB and two
seconds, without opening any other file. HDF5's library may loop or die: the reader keeps it in
a process of its own, as do we; how often that happens is counted.

A number is a file: `--only nir --first 4711 --count 1` does it again.
"""

from __future__ import annotations

import argparse
import codecs
import copy
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np

from lapilli.export import nir_import
from lapilli.export.file import load_network, save_network
from lapilli.export.hdf5 import RefusedError
from lapilli.export.nir import save_nir
from lapilli.export.nir_facts import NOTHING, Stated
from lapilli.export.nir_meaning import Reading
from lapilli.export.nir_reader import parse_nir
from lapilli.ir.errors import FormatError, GraphError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.ops import Add, Conv2d, Input, Linear, MaxPool2d, Neuron, Readout, Reset, Reshape
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance import attention_block

FORMATS = ("lapilli", "nir")
MEMORY, SECONDS = 64 << 20, 2.0  # of the processor
Rng = np.random.Generator


# ---- files to damage --------------------------------------------------------------------


def _network(graph: Graph) -> Network:
    quantizer = InputQuantizer(
        mean=(Fraction(1, 3),), std=(Fraction(7, 22),), exponent=-2, lo=-127, hi=126
    )
    return Network(
        graph=graph, input=quantizer, logit_scale=Fraction(-5, 3 << 70), classes=("a", "b", "c")
    )


def _residual() -> Graph:
    rng = np.random.default_rng(0)

    def ints(*shape: int) -> IntTensor:
        return IntTensor.of(rng.integers(-7, 8, shape))

    leaky = Neuron(threshold=IntTensor.of([64 * 9]), dv=2048)
    first = Conv2d(weight=ints(3, 1, 3, 3), bias=ints(3), padding=(1, 1), graded=True)
    nodes = (
        Node("image", Input(type=TensorType((1, 4, 4), IntRange(-8, 8), Kind.GRADED))),
        Node("a", first, ("image",)),
        Node("a.lif", leaky, ("a",)),
        Node("pool", MaxPool2d(kernel=(2, 2), stride=(2, 2)), ("a.lif",)),
        Node("b", Conv2d(weight=ints(3, 3, 1, 1), bias=ints(3)), ("pool",)),
        Node("b.lif", Neuron(threshold=IntTensor.of([64 * 3])), ("b",)),
        Node("sum", Add(), ("b", "b.lif")),
        Node("c.lif", leaky, ("sum",)),
        Node("flat", Reshape(shape=(12,)), ("c.lif",)),
        Node("head", Linear(weight=ints(3, 12), bias=ints(3)), ("flat",)),
        Node("logits", Readout(), ("head",)),
    )  # fmt: skip
    return Graph(nodes, ("logits",), 4)


def _honest(folder: Path) -> dict[str, list[bytes]]:
    path = folder / "honest"
    lapilli = []
    for graph in (attention_block(2, 4, 2), _residual()):
        save_network(_network(graph), path)
        lapilli.append(path.read_bytes())
    save_nir(_network(_residual()), path)
    files = [path.read_bytes()]
    one = np.ones(3)
    nodes = {
        "x": nir.Input(np.array([2])),
        "fc": nir.Affine(weight=np.arange(6, dtype=np.float32).reshape(3, 2) / 8, bias=np.zeros(3)),
        "lif": nir.LIF(tau=one * 2e-4, r=one * 2, v_leak=one * 0, v_threshold=one),
        "y": nir.Output(np.array([3])),
    }
    graph = nir.NIRGraph(nodes, [("x", "fc"), ("fc", "lif"), ("lif", "y")])
    nir.write(path, graph)
    return {"lapilli": lapilli, "nir": [*files, path.read_bytes()]}


# ---- damage -----------------------------------------------------------------------------


_ODD: Sequence[Any] = (
    None, True, -1, 0, 1, 3, 4097, 1 << 16, 1 << 31, 1 << 62, 1 << 63, -(1 << 70), 0.5, 1e308, "",
    "x", "Neuron", "1/0", "9" * 300, "\ud800", [], {}, [[[[]]]], [1 << 40] * 3, ["x"] * 40,
    {"a": {}},
)  # fmt: skip


def _odd(rng: Rng) -> Any:
    return copy.deepcopy(_ODD[int(rng.integers(len(_ODD)))])


def _edit_json(content: Any, rng: Rng) -> None:
    """One random edit somewhere in the tree."""
    places: list[tuple[Any, Any]] = []
    waiting = [content]
    while waiting:
        at = waiting.pop()
        keys = list(at) if isinstance(at, dict) else range(len(at))
        places += [(at, key) for key in keys]
        waiting += [at[key] for key in keys if isinstance(at[key], dict | list)]
    if not places:
        return
    at, key = places[rng.integers(len(places))]
    other_at, other_key = places[rng.integers(len(places))]
    match rng.integers(6):
        case 0:
            del at[key]
        case 1:
            at[key] = copy.deepcopy(other_at[other_key])
        case 2 if isinstance(at, list):
            at.insert(key, copy.deepcopy(at[key]))
        case 3 if isinstance(at, dict):
            at[str(_odd(rng))[:50]] = _odd(rng)
        case 4 if isinstance(at[key], int):
            at[key] += int(rng.choice([-1, 1, 1 << 20, 1 << 40]))
        case _:
            at[key] = _odd(rng)


def _damaged_lapilli(data: bytes, rng: Rng) -> bytes:
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    for _ in range(rng.integers(1, 4)):
        with suppress(KeyError, TypeError, ValueError):  # the last edit left no network to edit
            if rng.random() < 0.7:
                content = json.loads(header["__metadata__"]["network"])
                _edit_json(content, rng)
                header["__metadata__"]["network"] = json.dumps(content)
            else:
                _edit_json(header, rng)
    text = json.dumps(header).encode()
    claimed = (
        len(text) if rng.random() < 0.9 else int(rng.choice([0, 1, size * 2, 1 << 40, 1 << 63]))
    )
    return (claimed % (1 << 64)).to_bytes(8, "little") + text + body


def _damaged_nir(data: bytes, rng: Rng) -> bytes:
    file = io.BytesIO(data)
    with h5py.File(file, "r+") as h5:
        for _ in range(rng.integers(1, 4)):
            places: list[str] = []
            h5.visit(places.append)
            if not places:
                break
            at, other = (places[int(i)] for i in rng.integers(0, len(places), 2))
            with suppress(RuntimeError, LookupError, TypeError, ValueError):  # edited already
                _edit_hdf5(h5, at, other, rng)
    return file.getvalue()


_TYPES = ("i1", "u1", "<i4", ">i4", "i8", "f2", "<f4", ">f8", "c8", "V3", "S4", "?")


def _array(rng: Rng) -> Any:
    shape = tuple(int(n) for n in rng.integers(0, 4, rng.integers(0, 5)))
    values = rng.choice([0, 1, -1, 0.5, 2e-4, 1e-4, np.nan, np.inf, 1e300, 127], shape)
    with np.errstate(all="ignore"):
        kind = np.dtype(_TYPES[rng.integers(len(_TYPES))])
        return np.zeros(shape, kind) if kind.kind == "V" else np.asarray(values).astype(kind)


def _edit_hdf5(h5: Any, at: str, other: str, rng: Rng) -> None:
    how: dict[str, Any] = {}
    match rng.integers(12):
        case 0:
            del h5[at]
            return
        case 1:
            del h5[at]
            h5[at] = h5py.SoftLink("/" + other)
            return
        case 2:
            del h5[at]
            h5[at] = h5py.ExternalLink("/etc/hostname", "/x")
            return
        case 3:
            if not other.startswith(at):
                kept = h5[other]
                del h5[at]
                h5[at] = kept
            return
        case 4:
            how = {"shape": (2, 2), "dtype": "u1", "external": [("/etc/hostname", 0, 4)]}
        case 5:
            layout = h5py.VirtualLayout((2,), "f8")
            layout[:] = h5py.VirtualSource("/etc/hostname", "x", (2,))
            del h5[at]
            h5.create_virtual_dataset(at, layout)
            return
        case 6:
            side = int(rng.choice([10, 1000, 100_000]))
            how = {"shape": (side, side), "dtype": "f4", "chunks": (10, 10), "compression": "gzip"}
        case 7:
            ways: list[dict[str, Any]] = [
                {"compression": "lzf"},
                {"fletcher32": True},
                {"scaleoffset": 3},
                {"shuffle": True, "compression": 9},
            ]
            way = ways[int(rng.integers(4))]
            how = {"data": np.arange(12.0).reshape(3, 4), "chunks": (2, 3), **way}
        case 8:
            words = ["x", "fc", "lif", "y", "Neuron", "NIRGraph", "Conv2d", "same", "{", "é" * 9]
            how = {"data": words[rng.integers(len(words))], "dtype": h5py.string_dtype()}
        case 9:
            h5[at].attrs["odd"] = _array(rng)
            return
        case 10 if "node/metadata/lapilli" in h5:
            facts = json.loads(h5["node/metadata/lapilli"][()])
            _edit_json(facts, rng)
            text = json.dumps(facts)
            del h5["node/metadata/lapilli"]
            h5.create_dataset("node/metadata/lapilli", data=text, dtype=h5py.string_dtype())
            return
        case _:
            how = {"data": _array(rng)}
    del h5[at]
    h5.create_dataset(at, **how)


def _flipped(data: bytes, rng: Rng) -> bytes:
    """Bytes changed, cut off, doubled or moved; half of the time near the beginning."""
    raw = bytearray(data)
    for _ in range(int(rng.choice([1, 1, 2, 4, 16]))):
        end = len(raw) if rng.random() < 0.5 else min(len(raw), 4096)
        at = int(rng.integers(end)) if end else 0
        length = int(rng.choice([1, 4, 8, 64]))
        match rng.integers(6):
            case 0:
                raw = raw[:at] if rng.random() < 0.2 else raw
            case 1:
                raw[at:at] = raw[at : at + length]
            case 2:
                other = int(rng.integers(end)) if end else 0
                raw[at : at + length] = raw[other : other + length]
            case 3:
                raw[at : at + length] = bytes([int(rng.choice([0, 255]))]) * length
            case _:
                if raw:
                    raw[at] = raw[at] ^ (1 << int(rng.integers(8)))
    return bytes(raw)


def damaged(kind: str, honest: list[bytes], number: int) -> bytes:
    """The file of this number."""
    rng = np.random.default_rng([FORMATS.index(kind), number])
    data = honest[rng.integers(len(honest))]
    if rng.random() < 0.5:
        return _flipped(data, rng)
    edit: Callable[[bytes, Rng], bytes] = {"lapilli": _damaged_lapilli, "nir": _damaged_nir}[kind]
    return edit(data, rng)


# ---- readers ----------------------------------------------------------------------------


_STATED = Stated(reading=Reading.SNNTORCH, dt=1e-4, T=4, reset=Reset.TO_ZERO, input_range=(0, 1))


def _read(kind: str, data: bytes, path: Path) -> str:
    if kind == "lapilli":
        path.write_bytes(data)
        try:
            load_network(path)
        except FormatError:
            return "refused"
        return "accepted"
    try:
        file = parse_nir(data, 16 << 20)
        nir_import._Import(file, _STATED if file.facts is None else NOTHING).network()
    except (RefusedError, GraphError):
        return "refused"
    return "accepted"


def work(kind: str, numbers: range, folder: Path) -> None:
    """Read these files; a line for each: number, outcome, bytes of memory at the peak."""
    honest = _honest(folder)[kind]
    for data in honest:  # whatever is imported late is imported now
        assert _read(kind, data, folder / "honest") == "accepted"
        _damaged_nir(data, np.random.default_rng(0)) if kind == "nir" else None
    codecs.lookup("ascii")  # Python opens a file for this one, when h5py first asks
    path = folder / "damaged"
    opened: list[str] = []
    watching = False

    def watch(event: str, given: tuple[Any, ...]) -> None:
        if watching and event == "open" and given[0] != str(path) and given[0] != path:
            opened.append(str(given[0]))

    sys.addaudithook(watch)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = {resource.RLIMIT_AS: mapped + MEMORY, resource.RLIMIT_CORE: 0}
    if kind == "nir":
        limits[resource.RLIMIT_NOFILE] = 0  # for HDF5, which no audit hook sees
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
    for number in numbers:
        signal.setitimer(signal.ITIMER_PROF, 0)
        data = damaged(kind, honest, number)
        watching = True
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            outcome = _read(kind, data, path)
        except BaseException:  # everything that is not ours is what we look for
            watching = False  # a traceback shows lines of source files
            outcome = "FAILED " + traceback.format_exc().strip().replace("\n", " | ")
        signal.setitimer(signal.ITIMER_PROF, 0)
        watching = False
        if opened:
            outcome = f"FAILED opened {opened}"
            opened.clear()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(number, peak, outcome, flush=True)


# ---- many -------------------------------------------------------------------------------


def run(kind: str, numbers: range) -> tuple[Counter[str], list[str], float]:
    """Outcomes, what failed, and MiB at the peak above those at the beginning."""
    outcomes: Counter[str] = Counter()
    failed: list[str] = []
    grown = 0
    while numbers:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--only", kind, "--work", folder,
                       "--first", str(numbers.start), "--count", str(len(numbers))]  # fmt: skip
            worker = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            first = None
            assert worker.stdout is not None
            assert worker.stderr is not None
            done = numbers.start
            for line in worker.stdout:
                number, peak, outcome = line.rstrip("\n").split(" ", 2)
                first = first or int(peak)
                grown = max(grown, int(peak) - first)
                outcomes[outcome.split()[0]] += 1
                if outcome.startswith("FAILED"):
                    failed.append(f"{kind} {number}: {outcome}")
                done = int(number) + 1
            said = worker.stderr.read()
            status = worker.wait()
        numbers = range(done, numbers.stop)
        if status:
            died = status < 0 and kind == "nir"
            outcomes["library did not end" if status == -signal.SIGPROF else "library died"] += died
            if not died:
                failed.append(f"{kind} {done}: status {status}: {said[-2000:]}")
            numbers = range(done + 1, numbers.stop)
    return outcomes, failed, grown / 1024


def main() -> None:
    """Print what happened; status 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", choices=FORMATS)
    parser.add_argument("--work", type=Path, help="for the workers")
    given = parser.parse_args()
    if given.work:
        work(given.only, range(given.first, given.first + given.count), given.work)
        return
    start = time.perf_counter()
    kinds = [given.only] if given.only else list(FORMATS)
    each = -(-given.count // len(kinds))
    parts = min(64, max(1, each // 100))
    stops = [given.first + each * i // parts for i in range(parts + 1)]
    jobs = [(kind, range(a, b)) for a, b in pairwise(stops) for kind in kinds]
    total: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    failures: list[str] = []
    grown = dict.fromkeys(kinds, 0.0)
    with ThreadPoolExecutor(given.processes) as pool:
        for (kind, _), (outcomes, failed, more) in zip(
            jobs, pool.map(lambda job: run(*job), jobs), strict=True
        ):
            total[kind] += outcomes
            failures += failed
            grown[kind] = max(grown[kind], more)
    for kind in kinds:
        rows = ", ".join(f"{n} {what}" for what, n in sorted(total[kind].items()))
        print(f"{kind}: {sum(total[kind].values())} files: {rows}; {grown[kind]:.0f} MiB at most")
    print(f"{time.perf_counter() - start:.0f} s")
    for line in failures[:20]:
        print(line)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
