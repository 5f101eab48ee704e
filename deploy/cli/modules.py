"""A model from somebody's own file or package: `path/to/file.py:ClassOrFactory`, with arguments.

A package, installed or in the working folder, is named by its module,
`package.module:ClassOrFactory`. Its code runs with the rights of whoever calls: it is imported, and
the class or factory is called. Checkpoints, in contrast, are read without running anything.
"""

from __future__ import annotations

import ast
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lapilli.deploy.cli.flow import Model, classes_of
from lapilli.deploy.cli.learned_steps import weight_steps_of
from lapilli.deploy.cli.own_calls import called, named
from lapilli.deploy.cli.own_imports import ModuleFileError, OwnImports, own_imports
from lapilli.deploy.cli.own_source import OwnSource, own_source
from lapilli.deploy.cli.taken import taken_from
from lapilli.ir.errors import CheckpointError
from lapilli.ir.recipe import Json
from lapilli.model.loading.checkpoint import Checkpoint, load_checkpoint
from lapilli.model.loading.foreign import foreign
from lapilli.model.loading.preprocess import Preprocessing
from lapilli.model.loading.shapes import needed_arguments, told_arguments
from lapilli.model.loading.strict import (
    Module,
    as_network,
    import_while_running,
    load_strictly,
    set_attributes,
)
from lapilli.model.neurons.without_cuda import without_cuda


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
        CaptureError: what it makes is no module, or has no such attribute; or it asks for CUDA.
        CheckpointError: the parameters do not fit, key by key.
    """
    return _built(own, _checkpoint(own))[0]


def _checkpoint(own: OwnModel) -> Checkpoint | None:
    return None if own.checkpoint is None else load_checkpoint(own.checkpoint, own.key)


def _built(own: OwnModel, checkpoint: Checkpoint | None) -> tuple[Module, Mapping[str, object]]:
    """The model, and arguments that nobody gave and that its parameters' shapes tell."""
    if checkpoint is None:
        return _made(own, own.arguments), {}
    theirs = foreign(checkpoint.state)  # of a class of another package: shapes tell its arguments
    told = theirs.arguments if theirs is not None and theirs.source == own.source else {}
    given = {**told, **own.arguments}
    try:
        return load_strictly(_made(own, given), checkpoint, own.unused), {}
    except (CheckpointError, ModuleFileError) as error:
        _, factory = _factory(own)
        filled = told_arguments(factory, checkpoint.state, given)
        if not filled:
            raise
        try:
            made = _made(own, {**given, **filled})
            return load_strictly(made, checkpoint, own.unused), filled
        except (CheckpointError, ModuleFileError):
            options = "".join(f" --arg {shlex.quote(f'{k}={v}')}" for k, v in filled.items())
            needed = needed_arguments(factory, {**given, **filled})
            asked = "".join(f" --arg {name}=..." for name in needed)
            raise ModuleFileError(
                f"{error}; what shapes tell does not suffice:{options}{asked}"
            ) from error


def own_model(own: OwnModel) -> Model:
    """Build a model of the user's, and say how it was built: never a path.

    Raises:
        ModuleFileError, CheckpointError: see `build_own`.
    """
    checkpoint = _checkpoint(own)
    module, filled = _built(own, checkpoint)
    source = OwnSource.split(own.source)
    place = Path(source.place).name if source.in_file else source.place
    made_from: dict[str, Json] = {
        "kind": "class",
        "source": f"{place}:{source.name}",
        "arguments": {key: repr(value) for key, value in {**own.arguments, **filled}.items()},
        "attributes": {key: repr(value) for key, value in own.attributes.items()},
        "unused": list(own.unused),
    }
    taken = {} if checkpoint is None else taken_from(checkpoint)
    if filled:
        taken["arguments by shapes"] = [f"{key}={value!r}" for key, value in filled.items()]
    return Model(
        module=module,
        made_from=made_from,
        preprocessing=_preprocessing(own, checkpoint),
        what=own.source,
        taken=taken,
        weight_steps={} if checkpoint is None else weight_steps_of(checkpoint),
    )


def _preprocessing(own: OwnModel, checkpoint: Checkpoint | None) -> Preprocessing | None:
    """What the caller says of images and classes, else what `lapilli train` wrote in the file."""
    stored = None if checkpoint is None else checkpoint.preprocessing
    if checkpoint is None or stored is None:
        if not own.mean:
            return None
        return Preprocessing(mean=own.mean, std=own.std, classes=own.classes)
    mean, std = (own.mean, own.std) if own.mean else (stored.mean, stored.std)
    classes = classes_of(checkpoint, own.classes)
    return Preprocessing(mean=mean, std=std, classes=classes)


def _made(own: OwnModel, arguments: Mapping[str, object]) -> Module:
    source = OwnSource.split(own.source)
    imports, factory = _factory(own)
    with imports.active(), without_cuda():  # anew: it exchanges what is imported by now
        made = called(factory, source.absolute, source.name, arguments)
    module = as_network(made, own.source)
    set_attributes(module, own.attributes)
    if source.in_file or imports.found:
        return import_while_running(module, imports.active)
    return module  # of an installed package


def _factory(own: OwnModel) -> tuple[OwnImports, Callable[..., object]]:
    """The class or factory, and what it imports from."""
    source = OwnSource.split(own.source)
    imports = own_imports(source.absolute, own.pythonpath)
    with imports.active(), without_cuda():
        found = imports.module(source.absolute)
        return imports, named(found, source.absolute, source.name)
