"""Compare a runtime with golden vectors: `python check_golden.py golden.npz yours.npz`.

yours.npz has the answers (`logits` (B, classes) at the last step; `logits:<name>` and
`steps:<name>` of several, or of all steps) and any of the golden `spikes:<node>` (T, B, ...);
`digest`, if the runtime's file says it. Exit status 0 if all are equal; needs NumPy alone.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def check(golden: Any, yours: Any) -> str | int:
    """The first difference, or 0."""
    names = [n for n in golden.files if n not in ("input", "digest")]  # in graph order
    answers = {n for n in names if n.startswith(("logits", "steps:"))}
    if odd := answers - set(yours.files) | set(yours.files) - set(golden.files):
        return f"missing, or of no node: {', '.join(sorted(odd))}"
    if "digest" in yours.files and str(yours["digest"]) != str(golden["digest"]):
        return f"of another network: digest {yours['digest']}, expected {golden['digest']}"
    found = []
    for order, name in enumerate(n for n in names if n in yours.files):
        want, got = golden[name], yours[name]
        if want.shape != got.shape:
            return f"{name}: shape {got.shape}, expected {want.shape}"
        for at in np.argwhere(want != got)[:1].tolist():
            t = len(golden["input"]) - 1 if name.startswith("logits") else at[0]
            found.append((t, order, f"{name}{at} is {got[tuple(at)]}, not {want[tuple(at)]}"))
    if found:
        return f"first difference at step {min(found)[0]}: {min(found)[2]}"
    left = [n for n in names if n not in yours.files]
    values = sum(golden[n].size for n in names if n in yours.files)
    print(f"equal: {values} values; not in yours: {', '.join(left) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(check(*(np.load(path, allow_pickle=False) for path in sys.argv[1:3])))
