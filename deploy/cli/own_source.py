"""Code of the user's by name, `FILE.py:NAME` or `PACKAGE.MODULE:NAME`: a model, or a data set."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class OwnSource(NamedTuple):
    """Where code of the user's is.

    Attributes:
        place: a file, or a module with dots.
        name: of a class, a function or an object there.
    """

    place: str
    name: str

    @classmethod
    def split(cls, text: str) -> OwnSource:
        """Split at the last colon; `own_source` says whether it is a name of code at all."""
        place, _, name = text.rpartition(":")
        return cls(place, name)

    @property
    def in_file(self) -> bool:
        """Whether the place is a file."""
        return self.place.endswith(".py")

    @property
    def absolute(self) -> str:
        """The place, which a change of the working folder does not move."""
        return str(Path(self.place).resolve()) if self.in_file else self.place


def own_source(text: str) -> OwnSource | None:
    """Read a name of code; None where the text is none, but a path.

    >>> own_source("a/b.py:Net"), own_source("package.module:Net")
    (OwnSource(place='a/b.py', name='Net'), OwnSource(place='package.module', name='Net'))
    >>> [own_source(s) for s in ("a.pth", "a/b:Net", "a.py:", "C:/x.pth")]
    [None, None, None, None]
    """
    found = OwnSource.split(text)
    is_module = all(part.isidentifier() for part in found.place.split("."))
    return found if found.name.isidentifier() and (found.in_file or is_module) else None
