"""A data set of the user's own, named as FILE.py:NAME or PACKAGE.MODULE:NAME; its code runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lapilli.deploy.cli.own_imports import ModuleFileError, OwnImports, described, own_imports
from lapilli.deploy.cli.own_source import OwnSource


class OwnSequence:
    """A sequence of the user's, whose imports work while its items are made."""

    def __init__(self, items: Any, imports: OwnImports) -> None:
        self._items, self._imports = items, imports
        self.targets = getattr(items, "targets", None)
        self.classes = getattr(items, "classes", None) or ()

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Any:
        with self._imports.active():
            return self._items[index]


def own_sequence(source: OwnSource) -> OwnSequence:
    """Import a file or module, and take the data set of this name; a class or function is called.

    Raises:
        ModuleFileError: it does not import, has no such name, or calling it fails.
    """
    place, name = source.absolute, source.name
    imports = own_imports(place)
    with imports.active():
        module = imports.module(place)
        if not hasattr(module, name):
            raise ModuleFileError(f"{place}: has no {name!r}")
        items = getattr(module, name)
        if isinstance(items, type) or not hasattr(items, "__getitem__"):
            try:
                items = items()
            except Exception as error:  # their code may raise anything
                raise ModuleFileError(
                    f"{place}: {name}() fails: {described(error, Path(place))}"
                ) from error
        if not hasattr(items, "__getitem__") or not hasattr(items, "__len__"):
            raise ModuleFileError(f"{place}: {name} lacks __len__ or __getitem__")
    return OwnSequence(items, imports)
