"""Plant one fault after the other, and see a test fail: make mutants ARGS="[WORDS ...]"

With words, only the mutants whose name has one of them. A mutant that survives, and an edit whose
text does not stand exactly once in its file, end with status 1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
AT_A_TIME = 2
LIMIT = 600  # seconds for the tests of one mutant
_LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", "*_cache", "__pycache__", "lapilli-demo")


def verdict(mutant: Mutant, tree: Path) -> str:
    """Plant it in `tree`, run its tests, take it out again."""
    file = tree / mutant.file
    text = file.read_text()
    if (times := text.count(mutant.old)) != 1:
        return f"stands {times} times"
    file.write_text(text.replace(mutant.old, mutant.new))
    paths = [str(tree / "src"), str(tree / "tests")]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, *mutant.tests.split()],
            cwd=tree,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "killed"  # a loop without an end is noticed, too
    finally:
        file.write_text(text)
    if done.returncode == 1:
        return "killed"
    return "SURVIVED" if done.returncode == 0 else f"no verdict:\n{done.stdout[-800:]}"


def main() -> int:
    """Print a line for each and a total; 1 unless all are killed."""
    words = sys.argv[1:]
    chosen = [m for m in MUTANTS if not words or any(w in m.name for w in words)]
    started, verdicts = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="lapilli-mutants-") as name:
        trees: SimpleQueue[Path] = SimpleQueue()
        for i in range(AT_A_TIME):
            trees.put(
                Path(shutil.copytree(ROOT, Path(name) / str(i), symlinks=True, ignore=_LEFT_OUT))
            )

        def judged(mutant: Mutant) -> str:
            tree = trees.get()
            try:
                return verdict(mutant, tree)
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(AT_A_TIME) as pool:
            for mutant, said in zip(chosen, pool.map(judged, chosen), strict=True):
                verdicts.append(said)
                print(f"{said:9} {mutant.name}", flush=True)
    killed = verdicts.count("killed")
    seconds = time.monotonic() - started
    print(f"{killed} of {len(chosen)} killed in {seconds:.0f} s")
    return int(killed < len(chosen))


if __name__ == "__main__":
    raise SystemExit(main())
