"""Names and comments that C takes, whatever a node is called."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lapilli.ir.errors import InputError

_KEYWORDS = frozenset(
    {"auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else"}
    | {"enum", "extern", "float", "for", "goto", "if", "inline", "int", "long", "register"}
    | {"restrict", "return", "short", "signed", "sizeof", "static", "struct", "switch", "typedef"}
    | {"union", "unsigned", "void", "volatile", "while", "main", "golden"}
)  # of C99, and the names of our own other files
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_LONGEST = 31  # characters that C99 promises to tell apart in a name that other files see


def check_name(name: str) -> None:
    """Refuse a name for the network that cannot begin the names of its functions and files.

    Raises:
        InputError: it is no identifier of C, is a word of C's, or is longer than 15 characters.
    """
    if not _IDENTIFIER.fullmatch(name) or name in _KEYWORDS or len(name) > _LONGEST // 2:
        raise InputError(
            f"{name!r} cannot name a network in C: take a letter, then at most "
            f"{_LONGEST // 2 - 1} letters, digits or underscores, and no word of C's"
        )


def identifiers(names: Iterable[str]) -> dict[str, str]:
    """An identifier for each name, all different, as near to the name as C allows.

    >>> identifiers(["fc1.lif", "fc1_lif", "2"])
    {'fc1.lif': 'fc1_lif', 'fc1_lif': 'fc1_lif_2', '2': 'n2'}
    """
    found: dict[str, str] = {}
    taken = set(_KEYWORDS)  # in small letters: macros have but large ones
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "node"
        plain = plain if plain[0].isalpha() else f"n{plain}"
        chosen, count = plain, 1
        while chosen.lower() in taken:
            count += 1
            chosen = f"{plain}_{count}"
        taken.add(chosen.lower())
        found[name] = chosen
    return found


def in_comment(text: str) -> str:
    """Text for a comment: ASCII, without what ends or continues one.

    >>> in_comment("a*/b")
    'a* /b'
    """
    plain = text.encode("ascii", "backslashreplace").decode()
    plain = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in plain)
    return plain.replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?").rstrip("\\")


def in_string(text: str) -> str:
    """Text between quotation marks of C."""
    plain = in_comment(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}"'
