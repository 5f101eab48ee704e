"""How long it still takes: what is told of progress, and the bars that show it."""

from __future__ import annotations

from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from typing_extensions import Self


class Narrator(Protocol):
    """Is told what happens."""

    def stage(self, title: str, total: int | None) -> None:
        """A stage begins; `total` steps if known."""
        ...

    def advance(self, done: int, total: int | None = None) -> None:
        """So many steps of the stage are done."""
        ...


class Bars:
    """Progress bars on standard error, so that standard output stays clean."""

    def __init__(self, *, quiet: bool) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=quiet,
            transient=True,
        )
        self.task = self.progress.add_task("", visible=False)

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def stage(self, title: str, total: int | None) -> None:
        """Begin another bar."""
        self.progress.reset(self.task, description=title, total=total, visible=True)

    def advance(self, done: int, total: int | None = None) -> None:
        """So far."""
        self.progress.update(self.task, completed=done, total=total)

    def lava(self, _: str, done: int, total: int) -> None:
        """What the Lava simulator reports."""
        self.advance(done, total)

    def hide(self) -> None:
        """Make room for a table."""
        self.progress.update(self.task, visible=False)
