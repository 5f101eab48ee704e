"""How long it still takes: what is told of progress, and the bars that show it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
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
        console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=quiet or not console.is_terminal,  # a log wants lines, not bars
            transient=True,
        )
        self.task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hide()

    @property
    def shown(self) -> bool:
        """Whether anybody sees bars."""
        return not self.progress.disable

    def stage(self, title: str, total: int | None) -> None:
        """Begin another bar in the place of the last."""
        self.hide()
        self.task = self.progress.add_task(title, total=total)
        self.progress.start()

    def advance(self, done: int, total: int | None = None) -> None:
        """So far."""
        if self.task is not None:
            self.progress.update(self.task, completed=done, total=total)

    def staged(self, title: str) -> Callable[[int, int], None]:
        """What begins a stage when it is first told of one, and goes on from there."""
        begun = False

        def tell(done: int, total: int) -> None:
            nonlocal begun
            if not begun:
                self.stage(title, total)
                begun = True
            self.advance(done, total)

        return tell

    def lava(self, title: str, done: int, total: int) -> None:
        """What the Lava simulator reports, in a bar of its own if there is none."""
        if self.task is None:
            self.stage(title, total)
        self.advance(done, total)

    def hide(self) -> None:
        """Make room for what is printed."""
        if self.task is not None:
            self.progress.stop()
            self.progress.remove_task(self.task)
            self.task = None
