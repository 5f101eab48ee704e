"""How a command ends: what is foreseen is one sentence and a status, everything else leaves a log.

Statuses: 0 exact, 1 a comparison failed, 2 refused, 3 a fault of lapilli, 130 interrupted, 141 the
reader of standard output left.
"""

from __future__ import annotations

import errno
import io
import json
import os
import platform
import select
import shlex
import shutil
import stat
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TextIO, cast

import typer

from lapilli.deploy.cli.doctor import missing
from lapilli.ir.errors import InputError, LapilliError, SimulatorUnavailableError
from lapilli.ir.version import __version__

REFUSED, FAULT, INTERRUPTED, UNREAD = 2, 3, 130, 141

# typer brings a click of its own, or uses the installed one; the hierarchy is the same.
_ClickError = cast("type[Exception]", typer.BadParameter.__mro__[2])

_ADVICE = {
    errno.ENOSPC: "free some space, or write elsewhere (TMPDIR names the folder of drafts)",
    errno.EACCES: "look at its owner and its mode",
    errno.EROFS: "write elsewhere",
    errno.EISDIR: "name a file",
}

_answers: ContextVar[TextIO | None] = ContextVar("_answers", default=None)


def print_json(facts: object, *, err: bool = False) -> None:
    """Print what --json asks for; on standard error where standard output takes a file."""
    typer.echo(json.dumps(facts, indent=2), file=sys.stderr if err else _answers.get())


def standard_output() -> TextIO:
    """Return where answers go, --json or not."""
    return _answers.get() or sys.stdout


def printable(text: str) -> str:
    """Return a stranger's text without what a terminal would obey or could not show."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def program() -> str:
    """Return what starts lapilli in the user's shell, on the PATH or not."""
    started = Path(sys.argv[0])
    if shutil.which("lapilli") is None:
        if started.name == "__main__.py":
            return f"{shlex.quote(sys.executable)} -m lapilli"
        if started.name == "lapilli":
            return shlex.quote(str(started))
    return "lapilli"


def run(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run one command and return its status; no exception leaves, except with --debug.

    With --json, standard output holds one JSON document, whatever happens: what others print
    there (a module of the user's) goes to standard error, and a refusal is
    `{"error": {"kind": ..., "message": ...}}`.
    """
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name need not be text
            stream.reconfigure(errors="backslashreplace")
    try:
        if "--json" not in arguments:
            return _finished(app, arguments, debug=debug)
        token = _answers.set(sys.stdout)
        try:
            with redirect_stdout(sys.stderr):
                return _finished(app, arguments, debug=debug)
        finally:
            _answers.reset(token)
    except BrokenPipeError:
        # The interpreter flushes once more when it ends: give it somewhere to write to.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())  # type: ignore[union-attr]
        return UNREAD


def _finished(app: typer.Typer, arguments: list[str], *, debug: bool) -> int:
    """Run the command, say how it ended, and write all of it out."""
    output = standard_output()
    try:
        status = _invoked(app, arguments)
    except BaseException as error:
        if debug or (isinstance(error, BrokenPipeError) and _is_unread(output)):
            raise
        if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):
            return UNREAD  # help: rich has noticed, and sends the rest nowhere
        status, kind, message = _ending(error, arguments)
        if _answers.get() is not None:
            print_json({"error": {"kind": kind, "message": message}})
        typer.echo(printable(f"lapilli: {message}"), err=True)
    output.flush()
    return status


def _invoked(app: typer.Typer, arguments: list[str]) -> int:
    _refuse_pipes_and_devices(arguments)
    command = typer.main.get_command(app)
    try:
        with command.make_context("lapilli", arguments) as context:
            command.invoke(context)
    except typer.Exit as left:
        return left.exit_code
    return 0


def _ending(error: BaseException, arguments: list[str]) -> tuple[int, str, str]:
    """Return the status, the kind and the sentence of what ended a command."""
    kind = type(error).__name__
    match error:
        case LapilliError():
            return REFUSED, kind, str(error)
        case _ClickError():
            return REFUSED, kind, _usage(error)
        case KeyboardInterrupt() | typer.Abort():
            return INTERRUPTED, "Interrupted", "interrupted"
        case ImportError() if sentence := missing(error.name):
            return REFUSED, SimulatorUnavailableError.__name__, sentence
        case OSError():
            return REFUSED, kind, _of_the_system(error)
        case MemoryError():
            detail = f" ({error})" if str(error) else ""
            return (
                REFUSED,
                "MemoryError",
                f"this takes more memory than there is{detail}; give it fewer or smaller images, "
                "or a smaller model",
            )
        case SystemExit():
            code = "" if error.code is None else f" with {error.code!r}"
            return REFUSED, kind, f"code that was asked to run ended the program{code}"
        case _:
            where = _log(error, arguments)
            return FAULT, "Fault", f"a fault of lapilli, not yours: {kind}: {error}; {where}"


def _usage(error: BaseException) -> str:
    """Return what is wrong with the command's arguments, and who says what they can be."""
    message = " ".join(str(getattr(error, "format_message", error.__str__)()).split())
    context = getattr(error, "ctx", None)
    known = "lapilli" if context is None else context.command_path
    return f"{message.rstrip('.')}; see `{known} --help`"


def _of_the_system(error: OSError) -> str:
    """Return what the operating system refused, of which file, and what to do."""
    said = error.strerror or str(error) or type(error).__name__
    names = [
        os.fsdecode(n) for n in (error.filename, error.filename2) if isinstance(n, str | bytes)
    ]
    advice = _ADVICE.get(error.errno or 0)
    sentence = ": ".join([*names[:1], said[:1].lower() + said[1:]])
    return f"{sentence}; {advice}" if advice else sentence


def _is_unread(stream: TextIO) -> bool:
    """Return whether nobody reads this stream any more; a worker's pipe is another matter."""
    if not hasattr(select, "poll"):  # Windows
        return True
    poll = select.poll()
    with suppress(OSError, ValueError):  # no file of the system's
        poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _log(error: BaseException, arguments: list[str]) -> str:
    """Write the traceback to a file of its own and return the words that say where."""
    text = "".join(traceback.format_exception(error))
    head = f"lapilli {__version__}, Python {platform.python_version()}, {platform.platform()}"
    try:
        number, name = tempfile.mkstemp(prefix="lapilli-fault-", suffix=".log")
        with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{head}\n{arguments!r}\n\n{text}")
    except OSError:
        return f"no log could be written, so here it is:\n{text}"
    return f"please report it with {name}"


def _refuse_pipes_and_devices(arguments: list[str]) -> None:
    """Refuse names of what is neither file nor folder: reading a pipe waits for ever.

    Raises:
        InputError: names the first.
    """
    for argument in arguments:
        value = argument.partition("=")[2] if argument.startswith("--") else argument
        for name in (value, value.rpartition(":")[0]):
            if name and not _is_ordinary(name):
                raise InputError(f"{name}: is a named pipe or a device, not a file: name a file")


def _is_ordinary(name: str) -> bool:
    """Return whether this is the name of a file, of a folder, or of nothing."""
    try:
        mode = Path(name).stat().st_mode
    except (OSError, ValueError):  # nothing there, or no file's name
        return True
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)
