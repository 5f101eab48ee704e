"""Damaged files through the readers: make fuzz ARGS="[--count 100000] [--processes 2]"

Half of the files are edited in their structure (JSON, sizes, links, types, filters), half in
their bytes. For each the reader must accept or raise an error of ours, within 64 MiB and two
seconds, without a warning and without opening any other file. HDF5's library may loop or die:
the reader keeps it in a process of its own, as do we; how often that happens is counted.

A number is a file: `--only nir --first 4711 --count 1` does it again.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from fuzz.files import FORMATS, HDF5


def run(kind: str, numbers: range) -> tuple[Counter[str], list[str], float]:
    """Outcomes, what failed, and MiB at the peak above those at the beginning."""
    outcomes: Counter[str] = Counter()
    failed: list[str] = []
    grown = 0
    while numbers:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-W", "error", "-m", "fuzz.worker", kind,
                       str(numbers.start), str(len(numbers)), folder]  # fmt: skip
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
            if status > 0 or kind not in HDF5:
                failed.append(f"{kind} {done}: status {status}: {said[-2000:]}")
                break
            how = "library did not end" if status == -signal.SIGPROF else "library died"
            outcomes[how] += 1
            numbers = range(done + 1, numbers.stop)
    return outcomes, failed, grown / 1024


def main() -> None:
    """Print what happened; status 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="+", choices=FORMATS, default=FORMATS)
    given = parser.parse_args()
    start = time.perf_counter()
    kinds: list[str] = list(given.only)
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
