"""Write docs/step.md from a checkout of STEP: PYTHONPATH=tests python -m step CHECKOUT FOLDER [WORDS ...]

FOLDER keeps what came of each row, so that a run that was cut goes on; empty it when lapilli has changed.
Each row runs in a process of its own. With words, only the rows that have one in their names are run, and
printed in place of the page. BrainCog and SpikingJelly 0.0.0.0.12 are taken from the folder that
`make adapters` installs them into.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from frameworks.examples import FOLDERS
from step.checkout import open_checkout
from step.dense import open_dense
from step.page import PAGE, page
from step.rows import ROWS
from step.verdict import Verdict, verdict

LIMIT = 600  # seconds of one row
_CHILD = "LAPILLI_STEP_ROW"


def main() -> int:
    """Run the rows; 1 if one is neither exact nor refused."""
    checkout, kept, *words = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]
    if (asked := os.environ.get(_CHILD)) is not None:
        open_checkout(checkout, FOLDERS)
        open_dense(checkout)
        print(json.dumps(verdict(ROWS[int(asked)]).as_json()))
        return 0
    chosen = [i for i, row in enumerate(ROWS) if not words or any(w in row.title for w in words)]
    found: dict[int, Verdict] = {}
    for number in chosen:
        file = kept / f"{re.sub(r'[^A-Za-z0-9]+', '_', ROWS[number].title)}.json"
        if not file.exists():
            file.write_text(_in_process(checkout, number))
        told = json.loads(file.read_text())
        found[number] = Verdict(**{**told, "rates": tuple(told["rates"])})
        print(ROWS[number].title, found[number], flush=True)
    if not words:
        PAGE.write_text(page([(ROWS[i], found[i]) for i in chosen]), encoding="utf-8")
    return int(any(not (v.exact or v.refused) for v in found.values()))


def _in_process(checkout: Path, number: int) -> str:
    """The verdict of a row, as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "step", str(checkout), ""],
        env={**os.environ, _CHILD: str(number), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{ROWS[number].title}:\n{done.stderr[-2000:]}")
    return done.stdout.splitlines()[-1]


if __name__ == "__main__":
    sys.exit(main())
