"""Import a user's file or package as its repository does, and forget it between uses.

A repository is run from one of its folders, and its files import each other by name, from beside
them, relatively, or within `forward`. `OwnImports` has those folders on the search path, and the
modules found there among the imported ones, only while it is active: two files that both import
their own `layers.py` do not meet.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import itertools
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from lapilli.ir.errors import LapilliError

_MOST_ENTRIES = 5000  # of a folder, looked at for a Python file


class ModuleFileError(LapilliError, ImportError):
    """A file of the user's that does not give a model; says which line of theirs failed."""


class OwnImports:
    """The folders that a user's code imports from, and what it has imported.

    Attributes:
        folders: searched in this order, before everything installed.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(dict.fromkeys(folders))
        self._names = _importable(self.folders)
        self._modules: dict[str, ModuleType] = {}
        self._lock = threading.RLock()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let imports find the folders, in one thread at a time; afterwards all is as it was."""
        with self._lock, self._searching():
            yield

    @contextmanager
    def _searching(self) -> Iterator[None]:
        others = {n: m for n, m in sys.modules.items() if n.partition(".")[0] in self._names}
        for name in others:
            del sys.modules[name]
        before = set(sys.modules)
        sys.modules.update(self._modules)
        finder = _Finder(self.folders, self._names)
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            sys.meta_path.remove(finder)
            for name in [n for n in sys.modules if n not in before and self._is_ours(n)]:
                self._modules[name] = sys.modules[name]
            for name in self._modules:
                sys.modules.pop(name, None)
            sys.modules.update(others)

    @property
    def found(self) -> bool:
        """Whether anything was imported from the folders."""
        return bool(self._modules)

    def _is_ours(self, name: str) -> bool:
        """Whether this module lies in the folders, and not in an environment within them."""
        if name in self._modules:
            return True
        top = sys.modules.get(name.partition(".")[0])
        spec = getattr(top, "__spec__", None)
        if spec is None:
            return False
        places = spec.submodule_search_locations or ([spec.origin] if spec.origin else [])
        return any(Path(place).parent in self.folders for place in places)

    def module(self, source: str) -> ModuleType:
        """Import `path/to/file.py` or `package.module`.

        Raises:
            ModuleFileError: no such file, or it does not import.
        """
        path = Path(source)
        try:
            if not source.endswith(".py"):
                return importlib.import_module(source)
            dotted = _dotted(path)
            return _alone(path) if dotted is None else importlib.import_module(dotted)
        except Exception as error:  # their code may raise anything
            installed = "" if source.endswith(".py") else "; is it installed?"
            raise ModuleFileError(
                f"{source}: does not import: {described(error, path)}{self._searched(error)}"
                f"{installed}"
            ) from error

    def _searched(self, error: BaseException) -> str:
        """Where a module that is missing was looked for."""
        if not isinstance(error, ModuleNotFoundError):
            return ""
        folders = ", ".join(map(str, self.folders))
        return f"; looked in {folders}, and in what is installed; add folders with --pythonpath"


def _importable(folders: Sequence[Path]) -> frozenset[str]:
    """Top-level names that folders give, but for those that Python and lapilli use themselves."""
    entries = [entry for folder in folders if folder.is_dir() for entry in folder.iterdir()]
    files = {entry.stem for entry in entries if entry.suffix == ".py"}
    packages = {entry.name for entry in entries if entry.is_dir() and _holds_python(entry)}
    return frozenset(files | packages) - {*sys.stdlib_module_names, "torch", "numpy", "lapilli"}


def _holds_python(folder: Path) -> bool:
    """Whether there are Python files in a folder or in those within it; data sets are cut short."""
    if not folder.name.isidentifier():
        return False
    inside = (e for sub in folder.iterdir() if sub.is_dir() for e in sub.iterdir())
    entries = itertools.islice(itertools.chain(folder.iterdir(), inside), _MOST_ENTRIES)
    try:
        return any(entry.suffix == ".py" for entry in entries)
    except PermissionError:
        return False


class _Finder(MetaPathFinder):
    """Finds top-level names in some folders, also those of folders without `__init__.py`.

    On `sys.path`, any package elsewhere that has one would win against those.
    """

    def __init__(self, folders: Sequence[Path], names: AbstractSet[str]) -> None:
        self._folders = [str(folder) for folder in folders]
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, _: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module; None leaves it to the finders of Python."""
        if path is not None or fullname not in self._names:
            return None
        spec = PathFinder.find_spec(fullname, self._folders)
        if spec is not None and spec.submodule_search_locations is not None:
            spec.submodule_search_locations = list(spec.submodule_search_locations)
        return spec


def own_imports(source: str, pythonpath: Sequence[Path] = ()) -> OwnImports:
    """Say from which folders a user's code imports.

    Args:
        source: `path/to/file.py`, or `package.module`.
        pythonpath: folders to search first.

    Returns:
        For a file: those of `pythonpath`, its own, those above it that make it part of a package,
        and the working folder where the file is within it. For a module: as `python -m` does.

    Raises:
        ModuleFileError: no such file, or a folder of `pythonpath` that is none.
    """
    for folder in pythonpath:
        if not folder.is_dir():
            raise ModuleFileError(f"--pythonpath {folder}: no such folder")
    given, here = [folder.resolve() for folder in pythonpath], Path.cwd()
    if not source.endswith(".py"):
        return OwnImports([*given, here])
    path = Path(source)
    if not path.is_file():
        raise ModuleFileError(f"{path}: no such file")
    above = [folder for folder in path.parents if folder.is_relative_to(here)]
    return OwnImports([*given, path.parent, path.parents[_depth(path)], *above])


def _dotted(path: Path) -> str | None:
    """The name of a file that imports relatively; None for one that stands alone."""
    depth = _depth(path)
    if not depth:
        return None
    return ".".join([*(path.parents[i].name for i in reversed(range(depth))), path.stem])


def _depth(path: Path) -> int:
    """How many packages a file is within, if it imports relatively: `from ..utils` asks for two."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return 0  # said when it is imported
    dots = max((n.level for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)), default=0)
    if not dots:
        return 0
    marked = 0
    for folder in path.parents:
        if not (folder / "__init__.py").is_file():
            break
        marked += 1
    return min(max(dots, marked), len(path.parents) - 1)


def _alone(path: Path) -> ModuleType:
    """Import a file under a name that no other has."""
    unique = f"lapilli_own_{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(unique, path)
    if spec is None or spec.loader is None:
        raise ModuleFileError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[unique] = module  # dataclasses look themselves up here
    spec.loader.exec_module(module)
    return module


def described(error: BaseException, path: Path) -> str:
    """Say in one line what failed, and at which line of the user's file."""
    numbers = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            numbers.append(trace.tb_lineno)
        trace = trace.tb_next
    line = f" (line {numbers[-1]})" if numbers else ""
    return f"{type(error).__name__}: {_in_one_line(str(error))}{line}"


def _in_one_line(message: str) -> str:
    r"""Keep the lines that matter: the first, and what it announces or comes to.

    >>> _in_one_line("Error in loading Net:\n\tMissing key(s): a\n\tUnexpected key(s): b")
    'Error in loading Net: Missing key(s): a'
    >>> _in_one_line("cannot rearrange.\n Input: (2, 3)\n Shape mismatch, 3 != 4")
    'cannot rearrange. Shape mismatch, 3 != 4'
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if len(lines) < 2:
        return "".join(lines)
    return f"{lines[0]} {lines[1] if lines[0].endswith(':') else lines[-1]}"
