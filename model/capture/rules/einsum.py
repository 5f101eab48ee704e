"""Translate `einsum` of two operands: permute, sum what one has alone, one matrix product.

Of a constant with a matrix for each block of channels: one convolution in groups.
"""

from __future__ import annotations

import math
import string
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lapilli.model.capture import axes, program
from lapilli.model.capture.program import Call
from lapilli.model.capture.rules.elementwise import reduced
from lapilli.model.capture.rules.linear import by_matrix, product
from lapilli.model.capture.translation import OperatorRule, Translation, sizes, untouched

aten = torch.ops.aten


def _einsum(t: Translation) -> Call:
    equation, operands = t.argument(0), t.argument(1)
    ranks = [len(t.call(o).dims) if not t.is_constant(o) else t.constant(o).ndim for o in operands]
    inputs, output = parsed(equation, ranks)
    if any(len(set(letters)) != len(letters) for letters in inputs) or len(operands) > 2:
        raise t.error(f"einsum {equation!r}: two operands without a diagonal are supported")
    if len(operands) == 1:
        x, letters = _summed(t, t.call(operands[0]), inputs[0], output)
        return t.permuted(x, [letters.index(c) for c in output])
    (a, b), (left, right) = operands, inputs
    if t.is_constant(a):
        a, b, left, right = b, a, right, left
    if t.is_constant(b):
        return _with_matrix(t, t.call(a), left, t.constant(b), right, output)
    x, left = _summed(t, t.call(a), left, right + output)
    y, right = _summed(t, t.call(b), right, left + output)
    return _contracted(t, (x, left), (y, right), output)


def parsed(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Letters of each operand and of the result; an ellipsis becomes letters of its own.

    >>> parsed("...n,nm", [3, 2])
    (['abn', 'nm'], 'abm')
    """
    text = equation.replace(" ", "")
    given, arrow, result = text.partition("->")
    inputs = given.split(",")
    free = [c for c in string.ascii_letters if c not in text]
    hidden = [
        rank - len(letters.replace("...", "")) if "..." in letters else 0
        for letters, rank in zip(inputs, ranks, strict=True)
    ]
    ellipsis = "".join(free[: max(hidden)])
    inputs = [
        letters.replace("...", ellipsis[len(ellipsis) - count :])
        for letters, count in zip(inputs, hidden, strict=True)
    ]
    if not arrow:
        once = [c for c in sorted("".join(inputs)) if "".join(inputs).count(c) == 1]
        result = "..." + "".join(c for c in once if c not in ellipsis)
    return inputs, result.replace("...", ellipsis)


def _summed(t: Translation, x: Call, letters: str, kept: str) -> tuple[Call, str]:
    """Sum over what nobody else has."""
    alone = [i for i, c in enumerate(letters) if c not in kept]
    if not alone:
        return x, letters
    x = reduced(t, x, alone, keepdims=False, mean=False)
    return x, "".join(c for c in letters if c in kept)


def _with_matrix(
    t: Translation, x: Call, left: str, matrix: torch.Tensor, right: str, output: str
) -> Call:
    """One operand is a constant: a linear map over the letters that are summed."""
    over = [c for c in left if c in right and c not in output]
    fresh = [c for c in right if c not in left]
    shared = [c for c in left if c in right and c in output]
    if any(c not in output for c in fresh) or (shared and not over):
        raise t.error("einsum with a constant that shares letters with the result")
    if shared:
        return _with_matrices(t, (x, left), (matrix, right), (shared, over, fresh), output)
    stay = [c for c in left if c not in over]
    x = t.permuted(x, [left.index(c) for c in (*stay, *over)])
    shape = sizes(x)[: len(stay)]
    x = t.reshaped(x, (*shape, -(-math.prod(sizes(x)) // math.prod(shape))))
    order = [right.index(c) for c in (*over, *fresh)]
    wide = matrix.permute(order).reshape(sizes(x)[-1], -1)
    x = by_matrix(t, x, wide)
    x = t.reshaped(x, (*shape, *(matrix.shape[right.index(c)] for c in fresh)))
    has = "".join([*stay, *fresh])
    return t.permuted(x, [has.index(c) for c in output])


def _with_matrices(
    t: Translation,
    operand: tuple[Call, str],
    constant: tuple[torch.Tensor, str],
    letters: tuple[list[str], list[str], list[str]],
    output: str,
) -> Call:
    """A matrix for each block of channels: a convolution in as many groups, of windows of one."""
    (x, left), (matrix, right), (shared, over, fresh) = operand, constant, letters
    first = [c for c in left if axes.named(x.dims[left.index(c)])]
    rest = [c for c in left if c not in first + shared + over]
    untouched(x, [left.index(c) for c in (*shared, *over)])

    lengths = dict(zip(left, sizes(x), strict=True)) | {
        c: matrix.shape[right.index(c)] for c in fresh
    }
    groups, fan_in, out = (math.prod(lengths[c] for c in which) for which in letters)
    places = math.prod(lengths[c] for c in rest)
    y = t.permuted(x, [left.index(c) for c in (*first, *shared, *over, *rest)])
    y = t.reshaped(y, (math.prod(lengths[c] for c in first), groups * fan_in, places))
    weight = matrix.permute([right.index(c) for c in (*shared, *fresh, *over)])
    op = program.Synapse(
        weight=t.kept(weight.reshape(groups * out, fan_in, 1).contiguous().numpy()),
        bias=None,
        space=1,
        groups=groups,
    )
    y = t.step(op, (y.dims[0], *axes.anonymous(groups * out, places)), y)
    has = "".join([*first, *shared, *fresh, *rest])
    y = t.reshaped(y, [lengths[c] for c in has])
    return t.permuted(y, [has.index(c) for c in output])


def _contracted(t: Translation, a: tuple[Call, str], b: tuple[Call, str], output: str) -> Call:
    """Bring both to [common, own, summed] and multiply."""
    (x, left), (y, right) = a, b
    common = [c for c in output if c in left and c in right]
    over = [c for c in left if c in right and c not in output]
    own = [[c for c in letters if c not in common + over] for letters in (left, right)]
    x = t.permuted(x, [left.index(c) for c in (*common, *own[0], *over)])
    y = t.permuted(y, [right.index(c) for c in (*common, *over, *own[1])])
    first, n = sizes(x)[: len(common)], len(common)
    rows, columns = sizes(x)[n : n + len(own[0])], sizes(y)[n + len(over) :]
    summed = sizes(x)[n + len(own[0]) :]
    if not over and not own[0] and not own[1]:
        z = t.step(program.Mul(), axes.broadcast(x.dims, y.dims), x, y)
    else:
        x = t.reshaped(x, (*first, math.prod(rows), math.prod(summed)))
        y = t.reshaped(y, (*first, math.prod(summed), math.prod(columns)))
        z = t.reshaped(product(t, x, y), (*first, *rows, *columns))
    has = "".join([*common, *own[0], *own[1]])
    return t.permuted(z, [has.index(c) for c in output])


EINSUM: Mapping[Any, OperatorRule] = {aten.einsum.default: _einsum}
