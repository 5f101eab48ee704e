"""Say what to do next with files that are neither checkpoints nor networks of lapilli.

Nothing is imported and no code is run: Python files are parsed, archives show their headers.
"""

from __future__ import annotations

import ast
import shlex
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lapilli.ir.errors import InputError

_RUNS_CODE = "this imports the file and calls the class: it runs code, so trust it first"


def other_facts(file: Path) -> dict[str, Any] | None:
    """The facts that `lapilli inspect` prints of such a file; None of any other.

    Raises:
        InputError: no such file, or it cannot be read.
    """
    describe = _KINDS.get(file.suffix.lower())
    if describe is None:
        return None
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    return describe(file)


def _nir(file: Path) -> dict[str, Any]:
    name = shlex.quote(str(file))
    return {
        "kind": "NIR graph",
        "next": f"lapilli check {name} --for norse",
        "or": f"lapilli import {name} -o {_output(file)}",
        "note": "import asks for what the file does not say, such as --reading and --T",
    }


def _net(file: Path) -> dict[str, Any]:
    return {
        "kind": "lava-dl network",
        "next": f"lapilli import {shlex.quote(str(file))} -o {_output(file)}",
        "note": "add --T, the number of steps, where the file does not say it",
    }


def _archive(file: Path) -> dict[str, Any]:
    arrays = _headers(file)
    facts: dict[str, Any] = {"kind": "NumPy archive", "arrays": [*arrays.values()]}
    name = shlex.quote(str(file))
    if "images" in arrays:
        return {
            **facts,
            "next": f"lapilli quantize CHECKPOINT --calibration {name} -o net.lapilli",
            "or": f"lapilli compare net.lapilli --checkpoint CHECKPOINT --images {name}",
        }
    return {
        **facts,
        "missing": ["an array 'images', uint8 (count, C, H, W) or (count, T, C, H, W)"],
        "next": "save it with np.savez(FILE, images=..., labels=...); labels may be left out",
    }


def _headers(file: Path) -> Mapping[str, str]:
    """Type and shape of each array, read from its header alone."""
    found = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for entry in archive.namelist():
                with archive.open(entry) as array:
                    version = np.lib.format.read_magic(array)
                    read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
                        version, np.lib.format.read_array_header_2_0
                    )
                    shape, _, dtype = read(array)
                name = entry.removesuffix(".npy")
                found[name] = f"{name} {dtype} {shape}"
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{file}: is no .npz archive ({error})") from error
    return found


def _python(file: Path) -> dict[str, Any]:
    """Of a Python file: the classes and functions that it defines."""
    try:
        body = ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{file}: is no Python file ({error})") from error
    defined = [n for n in body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    names = [n.name for n in defined if not n.name.startswith("_")]
    modules = [
        n.name
        for n in defined
        if isinstance(n, ast.ClassDef) and any("Module" in ast.unparse(b) for b in n.bases)
    ]
    chosen = modules[-1] if modules else "CLASS"  # a network stands after its parts
    return {
        "kind": "Python file",
        "defines": names,
        "next": f"lapilli quantize {shlex.quote(f'{file}:{chosen}')} --checkpoint FILE "
        f"--mean ... --std ... --calibration IMAGES -o {_output(file)}",
        "note": _RUNS_CODE,
    }


def _output(file: Path) -> str:
    """Another name than the file's own: a network from which it was exported may lie beside it."""
    return shlex.quote(f"{file.stem}.imported.lapilli")


_KINDS: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    ".nir": _nir,
    ".net": _net,
    ".npz": _archive,
    ".py": _python,
}
