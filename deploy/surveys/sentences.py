"""The sentences with which code refuses, read off its source: what varies is `…`."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

VARIES = "…"
_MOST = 6  # ways in which one place may put its sentence; more become `…`
_DEPTH = 4  # names that stand for names
_FEWEST = 6  # letters that are always there: with fewer, another place's sentence is passed on
_CALLED = ("Unsupported", "BadParameter", "error")  # beside classes called ...Error
_NO_REFUSALS = (
    "AssertionError",
    "FileNotFoundError",
    "ImportError",
    "MemoryError",
    "MismatchError",  # a comparison that fails: docs/tutorials/divergence.md
    "NotImplementedError",
    "OverflowError",
    "RuntimeError",
    "TypeError",  # of a call in Python, named by the interpreter's own rules
    "UnpicklingError",
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence, and where it is said.

    Attributes:
        file: relative to the package; line: in it.
        text: what is said, with `…` for what varies.
    """

    file: str
    line: int
    text: str


def sentences(file: Path, name: str) -> list[Sentence]:
    """Read the sentences of one file of source, in their order, each once.

    Args:
        file: to be read.
        name: it is called by, in the sentences.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found: dict[str, Sentence] = {}
    for call, names in _refusals(tree, _Names({}).with_those_of(tree.body)):
        for text in _spoken(call, names):
            if sum(c.isalpha() for c in text) >= _FEWEST:
                found.setdefault(text, Sentence(name, call.lineno, text))
    return sorted(found.values(), key=lambda sentence: sentence.line)


@dataclass(frozen=True, slots=True)
class _Names:
    """What names stand for, in a file and in a function of it."""

    known: dict[str, list[ast.expr]] = field(default_factory=dict)

    def with_those_of(self, body: Sequence[ast.stmt]) -> _Names:
        """Add what is assigned in a body, functions and classes in it left out."""
        added: dict[str, list[ast.expr]] = {}
        waiting: list[ast.AST] = list(body)
        while waiting:
            node = waiting.pop(0)
            if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and node.value:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    for one, value in _paired(target, node.value):
                        added.setdefault(one, []).append(value)
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                waiting += ast.iter_child_nodes(node)
        return _Names({**self.known, **added})


def _paired(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, other in zip(target.elts, value.elts, strict=False):
            yield from _paired(one, other)


def _refusals(node: ast.AST, names: _Names) -> Iterator[tuple[ast.Call, _Names]]:
    """Yield calls that make a refusal, each with the names that it sees."""
    for child in ast.iter_child_nodes(node):
        inner = names
        if isinstance(child, ast.FunctionDef):
            inner = names.with_those_of(child.body)
        elif isinstance(child, ast.Call) and _makes_refusal(child.func):
            yield child, names
        yield from _refusals(child, inner)


def _makes_refusal(called: ast.expr) -> bool:
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name in _CALLED or (name.endswith("Error") and name not in _NO_REFUSALS)


def _spoken(call: ast.Call, names: _Names) -> list[str]:
    """The sentences that the last argument, or one called `reason` or `problem`, can be."""
    given = [*call.args, *(k.value for k in call.keywords if k.arg in ("reason", "problem"))]
    if not given:
        return []
    texts = _texts(given[-1], names, _DEPTH)
    return [_tidy(text) for text in texts]


def _texts(node: ast.expr, names: _Names, depth: int) -> list[str]:
    """Every text that an expression can be, `…` where nobody knows."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=values):
            return _joined([_part(part, names, depth) for part in values])
        case ast.BinOp(op=ast.Add()):
            return _joined([_texts(side, names, depth) for side in (node.left, node.right)])
        case ast.IfExp():
            both = [*_texts(node.body, names, depth), *_texts(node.orelse, names, depth)]
            return both if len(both) <= _MOST else [VARIES]
        case ast.Name(id=name) if depth and name in names.known:
            ways = [t for value in names.known[name] for t in _texts(value, names, depth - 1)]
            return ways if len(ways) <= _MOST else [VARIES]
    return [VARIES]


def _part(node: ast.expr, names: _Names, depth: int) -> list[str]:
    if isinstance(node, ast.FormattedValue):
        return [VARIES] if node.format_spec else _texts(node.value, names, depth)
    return _texts(node, names, depth)


def _joined(parts: Sequence[list[str]]) -> list[str]:
    ways = list(itertools.islice(itertools.product(*parts), _MOST + 1))
    if len(ways) > _MOST:
        ways = list(itertools.product(*(p if len(p) == 1 else [VARIES] for p in parts)))
    return ["".join(way) for way in ways]


def _tidy(text: str) -> str:
    """One line, without `…` beside `…`."""
    line = " ".join(text.split())
    while VARIES * 2 in line:
        line = line.replace(VARIES * 2, VARIES)
    return line
