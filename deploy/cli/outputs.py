"""Where commands write: checked before the work, `-` for standard output."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lapilli.deploy.cli.frame import standard_output
from lapilli.export import atomic
from lapilli.ir.errors import OutputError

STANDARD_OUTPUT = Path("-")


def check_outputs(outputs: Sequence[Path], inputs: Sequence[Path]) -> bool:
    """Refuse what cannot be written, and return whether standard output takes the file.

    What a command has to say goes to standard error then.

    Raises:
        OutputError: as `atomic.check_outputs`; or standard output would take several files.
    """
    to_stream = STANDARD_OUTPUT in outputs
    if to_stream and len(outputs) > 1:
        raise OutputError(STANDARD_OUTPUT, "standard output takes one file: name the others alone")
    atomic.check_outputs([] if to_stream else outputs, inputs)
    return to_stream


def keep_existing(outputs: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse to replace a file, unless that is said.

    Raises:
        OutputError: one of them is there.
    """
    for path in outputs:
        if not overwrite and path != STANDARD_OUTPUT and path.exists():
            raise OutputError(path, "is there already: name another file, or say --overwrite")


@contextmanager
def destination(output: Path) -> Iterator[Path]:
    """Yield the path to write for `output`; what was written for `-` goes to standard output."""
    if output != STANDARD_OUTPUT:
        yield output
        return
    with tempfile.TemporaryDirectory(prefix="lapilli-") as folder:
        scratch = Path(folder) / "output"
        yield scratch
        stream = standard_output().buffer
        stream.write(scratch.read_bytes())
        stream.flush()
