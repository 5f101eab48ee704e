"""A model from somebody's own file or package: `path/to/file.py:ClassOrFactory`, with arguments.

A package, installed or in the working folder, is named by its module,
`package.module:ClassOrFactory`. Its code runs with the rights of whoever calls: it is imported, and
the class or factory is called. Checkpoints, in contrast, are read without running anything.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from lapilli.deploy.cli.flow import Model
from lapilli.deploy.cli.own_imports import ModuleFileError, described, own_imports
from lapilli.deploy.cli.own_source import OwnSource, own_source
from lapilli.ir.recipe import Json
from lapilli.model.loading.checkpoint import load_checkpoint
from lapilli.model.loading.foreign import foreign
from lapilli.model.loading.preprocess import Preprocessing
from lapilli.model.loading.strict import (
    Module,
    as_network,
    import_while_running,
    load_strictly,
    set_attributes,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnModel:
    """A model of the user's, and how it is called.

    Attributes:
        source: `path/to/file.py:ClassOrFactory`, or `package.module:ClassOrFactory`.
        arguments: for the class or factory.
        attributes: of the model, dotted for one of its modules; set once it is made.
        pythonpath: folders that its imports are searched in first.
        checkpoint: parameters; without one the model's own initial ones.
        key: which parameters of the checkpoint, where it has several sets.
        unused: patterns of keys in the checkpoint that nothing uses.
        mean, std: of pixel / 255, one per channel, where the caller says so.
        classes: names of the answers.
    """

    source: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    pythonpath: tuple[Path, ...] = ()
    checkpoint: Path | None = None
    key: str | None = None
    unused: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()


def check_source(text: str) -> str:
    """The text itself, if it names a class or a factory in a file.

    Raises:
        ModuleFileError: it does not.
    """
    if own_source(text) is None:
        raise ModuleFileError(f"--module {text!r} is not FILE.py:CLASS_OR_FACTORY")
    return text


def arguments_from(given: Sequence[str], option: str = "--arg") -> dict[str, Any]:
    """Arguments from `name=value`; a value that is no Python literal is a string.

    Args:
        given: a text for each of them.
        option: which they were given to; "--set" takes dotted names.

    >>> arguments_from(["T=4", "pooling=0011", "sizes=(1, 2)"])
    {'T': 4, 'pooling': '0011', 'sizes': (1, 2)}

    Raises:
        ModuleFileError: no `name=value`.
    """
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        parts = name.split(".") if option == "--set" else [name]
        if not equals or not all(part.isidentifier() or part.isdecimal() for part in parts):
            raise ModuleFileError(f"{option} {text!r} is not name=value")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found


def build_own(own: OwnModel) -> Module:
    """Import the file or module, make the model, load its parameters; in evaluation mode.

    Raises:
        ModuleFileError: it does not import, has no such name, or its factory fails.
        CaptureError: what it makes is no module, or has no such attribute.
        CheckpointError: the parameters do not fit, key by key.
    """
    if own.checkpoint is None:
        return _made(own, own.arguments)
    checkpoint = load_checkpoint(own.checkpoint, own.key)
    theirs = foreign(checkpoint.state)  # of a class of another package: shapes tell its arguments
    told = theirs.arguments if theirs is not None and theirs.source == own.source else {}
    return load_strictly(_made(own, {**told, **own.arguments}), checkpoint, own.unused)


def own_model(own: OwnModel) -> Model:
    """Build a model of the user's, and say how it was built: never a path.

    Raises:
        ModuleFileError, CheckpointError: see `build_own`.
    """
    named = OwnSource.split(own.source)
    place = Path(named.place).name if named.in_file else named.place
    made_from: dict[str, Json] = {
        "kind": "class",
        "source": f"{place}:{named.name}",
        "arguments": {key: repr(value) for key, value in own.arguments.items()},
        "attributes": {key: repr(value) for key, value in own.attributes.items()},
        "unused": list(own.unused),
    }
    preprocessing = None
    if own.mean or own.std:
        preprocessing = Preprocessing(mean=own.mean, std=own.std, classes=own.classes)
    return Model(
        module=build_own(own), made_from=made_from, preprocessing=preprocessing, what=own.source
    )


def _made(own: OwnModel, arguments: Mapping[str, object]) -> Module:
    named = OwnSource.split(own.source)
    place, name = named.absolute, named.name
    imports = own_imports(place, own.pythonpath)
    with imports.active():
        factory = _named(imports.module(place), place, name)
        try:
            made = factory(**arguments)
        except Exception as error:  # their code may raise anything
            shown = ", ".join(f"{k}={v!r}" for k, v in arguments.items())
            problem = described(error, Path(place)) + _arguments_of(factory, error)
            raise ModuleFileError(f"{place}: {name}({shown}) fails: {problem}") from error
    module = as_network(made, own.source)
    set_attributes(module, own.attributes)
    if named.in_file or imports.found:
        return import_while_running(module, imports.active)
    return module  # of an installed package


def _arguments_of(factory: Callable[..., object], error: BaseException) -> str:
    """What may be given with --arg, where a wrong or missing argument was the fault."""
    if not isinstance(error, TypeError) or "argument" not in str(error):
        return ""
    try:
        signature = str(inspect.signature(factory))
    except (ValueError, TypeError):
        return ""
    return f"; it takes {signature}: give them with --arg name=value"


def _named(module: ModuleType, place: str, name: str) -> Callable[..., object]:
    found = getattr(module, name, None)
    if not callable(found):
        own = sorted(
            n
            for n, v in vars(module).items()
            if callable(v) and getattr(v, "__module__", "") == module.__name__ and n[0] != "_"
        )
        raise ModuleFileError(
            f"{place}: has no class or function {name!r}; it has {', '.join(own) or 'none'}"
        )
    return found  # type: ignore[no-any-return]
