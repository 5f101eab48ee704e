"""JSON files that users write: read whole, or refused by what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lapilli.ir.errors import FormatError

_MOST_BYTES = 1 << 20


def read_json(path: Path) -> Any:
    """Read a JSON file that says nothing twice.

    Raises:
        FormatError: it cannot be read, is too large, is no JSON, or says one thing twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        said = dict(pairs)
        if len(said) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise FormatError(path, f"says {twice!r} twice: which is it?")
        return said

    try:
        if path.stat().st_size > _MOST_BYTES:
            raise FormatError(path, f"is larger than {_MOST_BYTES:,} bytes")
        return json.loads(path.read_text("utf-8"), object_pairs_hook=once)
    except FormatError:
        raise
    except OSError as error:
        raise FormatError(path, f"cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(path, f"is no JSON ({error})") from error
