"""Find a class or factory in a module of the user's, and call it: what fails is one sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

from lapilli.deploy.cli.own_imports import ModuleFileError, described


def called(
    factory: Callable[..., object], place: str, name: str, arguments: Mapping[str, object]
) -> object:
    """What it makes.

    Raises:
        ModuleFileError: it fails; says at which line of the file, and what to do.
    """
    try:
        return factory(**arguments)
    except Exception as error:  # their code may raise anything
        shown = ", ".join(f"{k}={v!r}" for k, v in arguments.items())
        problem = described(error, Path(place)) + _what_to_do(factory, error)
        raise ModuleFileError(f"{place}: {name}({shown}) fails: {problem}") from error


def _what_to_do(factory: Callable[..., object], error: BaseException) -> str:
    """To be told where TorchScript, torch.fx, or a wrong or missing argument, was the fault."""
    trace = error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        if module.startswith("torch.jit"):
            return "; TorchScript is not needed: give the class or factory without torch.jit"
        if module.startswith("torch.fx"):
            return "; torch.fx is not needed: give the class or factory without it"
        trace = trace.tb_next
    if not isinstance(error, TypeError) or "argument" not in str(error):
        return ""
    try:
        signature = str(inspect.signature(factory))
    except (ValueError, TypeError):
        return ""
    return f"; it takes {signature}: give them with --arg name=value"


def named(module: ModuleType, place: str, name: str) -> Callable[..., object]:
    """The class or function of this name.

    Raises:
        ModuleFileError: there is none; says which there are.
    """
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
