"""Networks in C on microcontrollers: python -m lapilli.deploy.surveys.embedded.

Each network is quantized, exported with golden vectors of images and compiled for a Cortex-M4 and
an RV32 of QEMU; there its program compares every value, both ways to call. Printed are flash and
RAM of the network, the stack, and the instructions of one image.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lapilli.deploy.comparison.vectors import vectors_of
from lapilli.export.c.sources import Sources, sources
from lapilli.export.c.vectors import is_still
from lapilli.export.c.writer import save_c
from lapilli.export.native import load_network

_HERE = Path(__file__).parent
_NAME = "network"
_PACKAGES = {
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "qemu-system-arm": "qemu-system-arm",
    "riscv64-unknown-elf-gcc": "gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf",
    "qemu-system-riscv32": "qemu-system-misc",
}


@dataclass(frozen=True, slots=True)
class Board:
    """A processor of QEMU's and how to compile for it."""

    name: str
    compiler: str
    machine: tuple[str, ...]
    program: tuple[str, ...]
    emulator: tuple[str, ...]


BOARDS = (
    Board(
        "Cortex-M4 (mps2-an386)",
        "arm-none-eabi-gcc",
        ("-mcpu=cortex-m4", "-mthumb"),
        ("--specs=nano.specs", "--specs=rdimon.specs", "-nostartfiles", "-T",
         str(_HERE / "mps2_an386.ld"), str(_HERE / "start.c")),
        ("qemu-system-arm", "-M", "mps2-an386"),
    ),
    Board(
        "RV32IMAC (virt)",
        "riscv64-unknown-elf-gcc",
        ("-march=rv32imac", "-mabi=ilp32", "--specs=picolibc.specs"),
        ("--oslib=semihost", "--crt0=semihost", "-Wl,--defsym=__flash=0x80000000",
         "-Wl,--defsym=__flash_size=0x800000", "-Wl,--defsym=__ram=0x80800000",
         "-Wl,--defsym=__ram_size=0x400000"),
        ("qemu-system-riscv32", "-M", "virt", "-bios", "none", "-serial", "none"),
    ),
)  # fmt: skip


def _run(*command: str | Path, folder: Path) -> str:
    """Run a command in a folder and return what it says.

    Raises:
        SystemExit: it fails; with what it said.
    """
    words = list(map(str, command))
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        told = f"{done.stdout}{done.stderr}".strip()[:2000]
        sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{told}")
    return done.stdout + done.stderr  # a board's console is one or the other


def _measured(board: Board, made: Sources, folder: Path, optimised: str) -> Iterator[str]:
    """Sizes of each way, then golden vectors, then instructions."""
    usual = (board.compiler, *board.machine, "-std=c99", optimised)
    size = board.compiler.replace("gcc", "size")
    for way, other in (("sample", "STEP"), ("step", "SAMPLE")):
        options = ("-c", f"-D{made.macro}_NO_{other}", "-fstack-usage", "-o", "x.o")
        _run(*usual, *options, f"{_NAME}.c", folder=folder)
        text, data, bss = _run(size, "x.o", folder=folder).splitlines()[1].split()[:3]
        lines = [line.split("\t") for line in (folder / "x.su").read_text().splitlines()]
        frames = {line[0].rpartition(":")[2]: int(line[1]) for line in lines}
        own = frames.pop(f"{_NAME}_{way}")
        stack = own + max(frames.values())
        yield f"  {way}: flash {text}, RAM {int(data) + int(bss)}, stack {stack} bytes"
    emulator = (*board.emulator, "-nographic", "-monitor", "none", "-icount", "shift=0",
                "-semihosting-config", "enable=on,target=native", "-kernel")  # fmt: skip
    watch = f"-D{made.macro}_WATCH"
    _run(*usual, watch, "main.c", f"{_NAME}.c", *board.program, "-o", "main.elf", folder=folder)
    told = _run(*emulator, "main.elf", folder=folder).strip()
    if not told.startswith("PASS"):
        sys.exit(f"{board.name}: {told or 'it said nothing'}")
    yield f"  {told}"
    _run(*usual, "counting.c", f"{_NAME}.c", *board.program, "-o", "count.elf", folder=folder)
    counted = dict(re.findall(r"(\w+) (\d+)", _run(*emulator, "count.elf", folder=folder)))
    sample, step = int(counted["sample"]), int(counted["step"])
    yield f"  instructions of an image: {sample:,}; in steps: {step:,}"


def _counting(made: Sources, *, still: bool) -> str:
    """The program that counts, for this network."""
    (given,), outputs = made.inputs, ", ".join(made.outputs)
    step = "0" if still else made.size(given)
    frame = f"golden_{given}" if still else f"golden_{given} + t * {made.size(given)}"
    types = [made.plan.stages[i].type.name for i in made.plan.outputs]
    return "\n".join([
        f'#include "{_NAME}.h"', '#include "golden.h"',
        *(f"static {t} {p}[{made.macro}_STEPS * {made.size(p)}];"
          for t, p in zip(types, made.outputs, strict=True)),
        f"#define SAMPLE {_NAME}_sample(golden_{given}, {step}, {outputs})",
        f"#define RESET {_NAME}_reset()",
        f"#define STEP (void){_NAME}_step({frame}, {outputs})",
        f"#define STEPS {made.macro}_STEPS",
        (_HERE / "count.c").read_text(),
    ])  # fmt: skip


def _fetch() -> None:
    """Install what is missing, after saying it; where that cannot be, say what to install."""
    missing = " ".join(p for tool, p in _PACKAGES.items() if shutil.which(tool) is None)
    if not missing:
        return
    command = f"apt-get install --yes --no-install-recommends {missing}"
    print(f"fetches Debian packages, about 2 GB on disk: {command}", flush=True)
    if shutil.which("apt-get") is None or subprocess.call(command.split()):
        sys.exit(f"install them: {command}")


def main() -> None:
    """Print rows for each network and board; ends with a sentence at the first difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", nargs="+", help="of digits, quantized as they are")
    parser.add_argument("--count", type=int, default=20, help="images")
    parser.add_argument("--optimised", default="-Os", help="of the compilers: -Os, -O2")
    given = parser.parse_args()
    _fetch()
    for checkpoint in given.checkpoints:
        with tempfile.TemporaryDirectory(prefix="lapilli-embedded-") as scratch:
            place = Path(scratch)
            own = (sys.executable, "-m", "lapilli")
            _run(*own, "quantize", Path(checkpoint).resolve(), "-o", "net.lapilli", folder=place)
            _run(*own, "golden", "net.lapilli", "--count", str(given.count), folder=place)
            network = load_network(place / "net.lapilli")
            vectors = vectors_of(network, place / "golden" / "golden.npz")
            save_c(network, place / "c", vectors, name=_NAME)
            made = sources(network.graph, _NAME)
            still = is_still(vectors.inputs[network.graph.inputs[0]])
            (place / "c" / "counting.c").write_text(_counting(made, still=still))
            for board in BOARDS:
                print(f"{Path(checkpoint).stem} on {board.name}, {given.optimised}:", flush=True)
                for row in _measured(board, made, place / "c", given.optimised):
                    print(row, flush=True)


if __name__ == "__main__":
    main()
