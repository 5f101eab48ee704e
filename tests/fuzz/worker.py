"""Damaged files through one reader, within limits: -m fuzz.worker FORMAT FIRST COUNT FOLDER.

A process for a run of numbers; HDF5's library may loop in it, or end it.
"""

from __future__ import annotations

import codecs
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from fuzz.damage import damaged
from fuzz.data_files import PLACES, read_data
from fuzz.files import HDF5, honest
from PIL import Image

from lapilli.deploy.data.pictures import ImageError
from lapilli.export.malformed import MalformedError
from lapilli.export.native import load_network
from lapilli.export.net import importer as net_import
from lapilli.export.net.reader import parse_net
from lapilli.export.nir.read import importer as nir_import
from lapilli.export.nir.read.dynamics import Reading
from lapilli.export.nir.read.metadata import NOTHING, Stated
from lapilli.export.nir.read.reader import parse_nir
from lapilli.export.onnx.reader import read_onnx
from lapilli.ir import ops
from lapilli.ir.errors import FormatError, GraphError

MEMORY, SECONDS = 64 << 20, 2.0  # of the processor
MOST = 16 << 20  # bytes that the numbers of such a file may take
_STATED = Stated(
    reading=Reading.SNNTORCH, dt=1e-4, T=4, reset=ops.Reset.TO_ZERO, input_range=(0, 1)
)


def _read(kind: str, data: bytes, path: Path) -> str:
    try:
        match kind:
            case kind if kind in PLACES:
                path.write_bytes(data)
                read_data(path)
            case "nir":
                file = parse_nir(data, MOST)
                stated = _STATED if file.facts is None else NOTHING
                nir_import._Import(file, stated).network()
            case "net":
                net_import._network(parse_net(data, MOST), None)
            case "onnx":
                path.write_bytes(data)
                read_onnx(path)
            case _:
                path.write_bytes(data)
                load_network(path)
    except (FormatError, MalformedError, GraphError, ImageError):
        return "refused"
    return "accepted"


def work(kind: str, numbers: range, folder: Path) -> None:
    """Read these files; a line for each: number, outcome, bytes of memory at the peak."""
    files = honest(kind, folder)
    Image.init()  # imports what Pillow has for each format of pictures
    place = folder / PLACES.get(kind, "damaged")
    place.parent.mkdir(exist_ok=True)
    for data in files:  # whatever is imported late is imported now
        assert _read(kind, data, place) == "accepted"
    for number in range(20):
        damaged(kind, files, number)
    codecs.lookup("ascii")  # Python opens a file for this one, when h5py first asks
    opened: list[str] = []
    watching = False

    def watch(event: str, given: tuple[Any, ...]) -> None:
        if watching and event == "open":
            named = Path(str(given[0]))
            if folder not in (named, *named.parents):
                opened.append(str(named))

    sys.addaudithook(watch)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = {resource.RLIMIT_AS: mapped + MEMORY, resource.RLIMIT_CORE: 0}
    if kind in HDF5:
        limits[resource.RLIMIT_NOFILE] = 0  # for HDF5, which no audit hook sees
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
    for number in numbers:
        signal.setitimer(signal.ITIMER_PROF, 0)
        data = damaged(kind, files, number)
        watching = True
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            outcome = _read(kind, data, place)
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


if __name__ == "__main__":
    work(
        sys.argv[1], range(int(sys.argv[2]), int(sys.argv[2]) + int(sys.argv[3])), Path(sys.argv[4])
    )
