"""A model from somebody's own file or package: `path/to/file.py:ClassOrFactory`, with arguments.

An installed package is named by its module, `package.module:ClassOrFactory`. A file is imported
under a name of its own, with its folder on the search path only while it is needed: two files
that both import their own `layers.py` do not meet.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from lapilli.deploy.cli.flow import Model
from lapilli.ir.errors import LapilliError
from lapilli.ir.recipe import Json
from lapilli.model.loading.checkpoint import load_checkpoint
from lapilli.model.loading.preprocess import Preprocessing
from lapilli.model.loading.strict import Module, as_network, load_strictly


class ModuleFileError(LapilliError, ImportError):
    """A file of the user's that does not give a model; says which line of theirs failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnModel:
    """A model of the user's, and how it is called.

    Attributes:
        source: `path/to/file.py:ClassOrFactory`, or `package.module:ClassOrFactory`.
        arguments: for the class or factory.
        checkpoint: parameters; without one the model's own initial ones.
        unused: patterns of keys in the checkpoint that nothing uses.
        mean, std: of pixel / 255, one per channel, where the caller says so.
        classes: names of the answers.
    """

    source: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None
    unused: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()


def is_source(text: str) -> bool:
    """Whether this names a class in a file or in a package, rather than a checkpoint.

    >>> [is_source(s) for s in ("a/b.py:Net", "package.module:Net", "a.pth", "a/b:Net")]
    [True, True, False, False]
    """
    place, colon, name = text.rpartition(":")
    return bool(colon) and name.isidentifier() and (place.endswith(".py") or _is_module(place))


def _is_module(place: str) -> bool:
    return not place.endswith(".py") and all(part.isidentifier() for part in place.split("."))


def check_source(text: str) -> str:
    """The text itself, if it names a class or a factory in a file.

    Raises:
        ModuleFileError: it does not.
    """
    if not is_source(text):
        raise ModuleFileError(f"--module {text!r} is not FILE.py:CLASS_OR_FACTORY")
    return text


def arguments_from(given: Sequence[str]) -> dict[str, Any]:
    """Arguments from `name=value`; a value that is no Python literal is a string.

    >>> arguments_from(["T=4", "pooling=0011", "sizes=(1, 2)"])
    {'T': 4, 'pooling': '0011', 'sizes': (1, 2)}

    Raises:
        ModuleFileError: no `name=value`.
    """
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ModuleFileError(f"--arg {text!r} is not name=value")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found


def build_own(own: OwnModel) -> Module:
    """Import the file or module, make the model, load its parameters; in evaluation mode.

    Raises:
        ModuleFileError: it does not import, has no such name, or its factory fails.
        CaptureError: what it makes is no module.
        CheckpointError: the parameters do not fit, key by key.
    """
    module = as_network(_made(own), own.source)
    if own.checkpoint is not None:
        load_strictly(module, load_checkpoint(own.checkpoint), own.unused)
    return module


def own_model(own: OwnModel) -> Model:
    """Build a model of the user's, and say how it was built: never a path.

    Raises:
        ModuleFileError, CheckpointError: see `build_own`.
    """
    place, _, name = own.source.rpartition(":")
    made_from: dict[str, Json] = {
        "kind": "class",
        "source": f"{place if _is_module(place) else Path(place).name}:{name}",
        "arguments": {key: repr(value) for key, value in own.arguments.items()},
        "unused": list(own.unused),
    }
    preprocessing = None
    if own.mean or own.std:
        preprocessing = Preprocessing(mean=own.mean, std=own.std, classes=own.classes)
    return Model(
        module=build_own(own), made_from=made_from, preprocessing=preprocessing, what=own.source
    )


def _made(own: OwnModel) -> object:
    place, _, name = own.source.rpartition(":")
    if _is_module(place):
        return _called(own, _installed(place), Path(place), name)
    path = Path(place).resolve()
    if not path.is_file():
        raise ModuleFileError(f"{path}: no such file")
    with _imports_beside(path):
        return _called(own, _imported(path), path, name)


def _called(own: OwnModel, module: ModuleType, path: Path, name: str) -> object:
    factory = _named(module, path, name)
    try:
        return factory(**own.arguments)
    except Exception as error:  # their code may raise anything
        shown = ", ".join(f"{k}={v!r}" for k, v in own.arguments.items())
        raise ModuleFileError(f"{path}: {name}({shown}) fails: {_said(error, path)}") from error


def _installed(place: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except Exception as error:  # their code may raise anything
        raise ModuleFileError(
            f"{place}: does not import: {type(error).__name__}: {error}; is it installed?"
        ) from error


def _imported(path: Path) -> ModuleType:
    unique = f"lapilli_own_{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(unique, path)
    if spec is None or spec.loader is None:
        raise ModuleFileError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[unique] = module  # dataclasses look themselves up here
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # their code may raise anything
        raise ModuleFileError(f"{path}: does not import: {_said(error, path)}") from error
    return module


def _named(module: ModuleType, path: Path, name: str) -> Callable[..., object]:
    found = getattr(module, name, None)
    if not callable(found):
        own = sorted(
            n
            for n, v in vars(module).items()
            if callable(v) and getattr(v, "__module__", "") == module.__name__ and n[0] != "_"
        )
        raise ModuleFileError(
            f"{path}: has no class or function {name!r}; it has {', '.join(own) or 'none'}"
        )
    return found  # type: ignore[no-any-return]


def _said(error: BaseException, path: Path) -> str:
    """The error, and the last line of the user's file that it came through."""
    numbers = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            numbers.append(trace.tb_lineno)
        trace = trace.tb_next
    line = f" (line {numbers[-1]})" if numbers else ""
    return f"{type(error).__name__}: {error}{line}"


@contextmanager
def _imports_beside(path: Path) -> Iterator[None]:
    """Modules beside the file can be imported, and are forgotten afterwards."""
    folder, known = str(path.parent), set(sys.modules)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        for name in set(sys.modules) - known:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(folder) and not name.startswith("lapilli"):
                del sys.modules[name]
