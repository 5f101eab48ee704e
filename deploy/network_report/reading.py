"""What a report is made from, read from files: whole, of this network, and as lapilli writes.

Whoever edits such a file gets a sentence, and no half report.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lapilli.deploy.network_report.sources import Results
from lapilli.ir.counts import FIELDS
from lapilli.ir.errors import FormatError, InputError
from lapilli.ir.network import Network

_LONG = 12  # digits of a digest in a message
_NUMBER = (int, float)
_SIDE = {"of": int, "top1": int, "top5": int, "confusion": [[int]]}


class Each:
    """The shape of every value of an object whose keys are free."""

    def __init__(self, shape: Any) -> None:
        self.shape = shape


class Maybe:
    """A shape, or nothing."""

    def __init__(self, shape: Any) -> None:
        self.shape = shape


# Shapes: a type or several; an object with these keys, and perhaps more; a list of one shape.
_AROUND = {
    **dict.fromkeys(("first_step", "row", "column"), int),
    **{key: [[int]] for key in ("neurons", "expected", "got")},
    "expected_membrane": [int],
    "got_membrane": [int],
}
_FIRST = {
    **dict.fromkeys(("node", "kind", "text"), str),
    **dict.fromkeys(("t", "sample"), int),
    "index": [int],
    "threshold": Maybe(int),
    "around": Maybe(_AROUND),
}
_SUMMARY = {
    **dict.fromkeys(("images", "images_compared", "compared", "mismatches"), int),
    "unreadable": [str],
    "vacuous": [str],
    "renamed": [[str]],
    "kinds": Each([int]),
    "first": Maybe(_FIRST),
    "accuracy": Each(_SIDE),
    "layers": Each(Each((*_NUMBER, list))),
    "options": {"network": str, "simulator": str},
}
_RUN = {"seconds": _NUMBER, "machine": str, "ended": str}
_COMPARED = {
    "network": str,
    "comparisons": [
        {
            **dict.fromkeys(("expected", "got"), str),
            **dict.fromkeys(("images", "compared", "mismatches"), int),
            "kinds": Each([int]),
            "vacuous": [str],
            "renamed": [[str]],
            "rates": Each(_NUMBER),
            "first": Maybe(_FIRST),
        }
    ],
}
_RANGE = {"model": str, "grade": str, "lowest": _NUMBER, "highest": _NUMBER, "tables": [str]}
_COST = {
    "digest": str,
    **dict.fromkeys(("images", "T", "synaptic_operations"), int),
    "simulator": str,
    "method": str,
    "nodes": [
        {
            **dict.fromkeys(("node", "op"), str),
            "counts": dict.fromkeys(FIELDS, int),
            "least_of_an_image": dict.fromkeys(FIELDS, int),
            "most_of_an_image": dict.fromkeys(FIELDS, int),
            "input_rate": Maybe(_NUMBER),
            "dense": Maybe({"operations": int}),
        }
    ],
    "energy": [
        {
            **dict.fromkeys(("model", "table"), str),
            "picojoules": Maybe(_NUMBER),
            "break_even": Maybe({"rate": _NUMBER}),
        }
    ],
    "ranges": [_RANGE],
    "models": Each(
        {"equation": str, "omits": [str], "usual_table": str, "integer_table": Maybe(str)}
    ),
    "traffic_bits": Each(int),
}
_QUANTIZED = {
    "digest": str,
    **dict.fromkeys(("images", "same_answers"), int),
    "unlike_float": _NUMBER,
    "synapses": [{"node": str, "zeroed": _NUMBER}],
    "neurons": [{"node": str, "unlike_float": Maybe(_NUMBER)}],
}


def read_results(folder: Path, network: Network) -> Results:
    """Read a folder of `validate`.

    Raises:
        InputError: there is none, it is not finished, or it is of another network.
        FormatError: its summary holds something else than validate writes.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; `lapilli validate` makes one")
    path = folder / "summary.json"
    if not path.is_file():
        raise InputError(
            f"{folder} holds no summary.json: run the same `lapilli validate` again, until it has "
            "no shard left"
        )
    summary = _read(path, _SUMMARY)
    _require_same(str(folder), summary["options"]["network"], network.digest)
    order = [node.name for node in network.graph.nodes if node.name in summary["layers"]]
    summary["layers"] = {name: summary["layers"][name] for name in order}  # the file is sorted
    runs = [_read(run, _RUN) for run in sorted((folder / "times").glob("*.json"))]
    return Results(name=folder.name, summary=summary, runs=runs)


def read_comparisons(path: Path, network: Network) -> Mapping[str, Any]:
    """Read what `compare --json` printed.

    Raises:
        InputError: it is of another network.
        FormatError: it holds something else.
    """
    facts = _read(path, _COMPARED)
    _require_same(str(path), facts["network"], network.digest)
    return facts


def read_cost(path: Path, network: Network) -> Mapping[str, Any]:
    """Read what `cost --json` printed; see `read_comparisons`."""
    facts = _read(path, _COST)
    _require_same(str(path), facts["digest"], network.graph.digest)
    return facts


def read_quantization(path: Path, network: Network) -> Mapping[str, Any]:
    """Read what `quantize --report FILE.json` wrote; see `read_comparisons`."""
    facts = _read(path, _QUANTIZED)
    _require_same(str(path), facts["digest"], network.digest)
    return facts


def _require_same(name: str, digest: str, own: str) -> None:
    if digest != own:
        raise InputError(
            f"{name} is about another network ({digest[:_LONG]}), not this one ({own[:_LONG]})"
        )


def _read(path: Path, shape: Any) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_bytes(), parse_float=_finite, parse_constant=_finite)
    except OSError as error:
        raise FormatError(path, f"cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(path, f"is no JSON ({error})") from error
    _check(path, facts, shape)
    found: dict[str, Any] = facts
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number")
    return value


def _check(path: Path, value: Any, shape: Any, where: str = "") -> None:
    """Hold a value to a shape.

    Raises:
        FormatError: names the first place that is otherwise.
    """
    at = f"{where.lstrip('.')}: " if where else ""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise FormatError(path, f"{at}is no object; this lapilli writes one")
        for key, inner in shape.items():
            if key not in value:
                raise FormatError(path, f"{at}lacks {key!r}, which this lapilli writes")
            _check(path, value[key], inner, f"{where}.{key}")
    elif isinstance(shape, Each):
        if not isinstance(value, dict):
            raise FormatError(path, f"{at}is no object; this lapilli writes one")
        for key, inner in value.items():
            _check(path, inner, shape.shape, f"{where}.{key}")
    elif isinstance(shape, Maybe):
        if value is not None:
            _check(path, value, shape.shape, where)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise FormatError(path, f"{at}is no list; this lapilli writes one")
        for k, inner in enumerate(value):
            _check(path, inner, shape[0], f"{where}[{k}]")
    elif not isinstance(value, shape) or (isinstance(value, bool) and shape is int):
        raise FormatError(path, f"{at}is {type(value).__name__}; this lapilli writes otherwise")
