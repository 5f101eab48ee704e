"""A model that was trained with its classes in another order than the data's folders have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lapilli.ir.tensor import IntArray


def order_hint(labels: IntArray, answers: Sequence[int], names: Sequence[str]) -> str:
    """Say in which order of classes the answers would fit the labels, where that is another one.

    That is: the images of each class mostly have one answer, no two classes the same one, and by
    these at least twice as many images are right.

    Args:
        labels: (count,) numbers of the classes as the data's names are sorted.
        answers: (count,) of the model in float.
        names: of the classes, in the order of the labels' numbers.

    Returns:
        A sentence; empty where there is nothing to say.

    >>> order_hint(np.array([0, 1, 2, 2]), [1, 2, 0, 0], ("a", "b", "c")).split("? ")[1]
    'Then --class-names c,a,b'
    """
    met = np.zeros((len(names), len(names)), np.int64)
    np.add.at(met, (labels, np.array(answers)), 1)
    usual = met.argmax(1)
    right, others = int(met.trace()), int(met.max(1).sum())
    told_apart = len(set(usual.tolist())) == len(names) and bool(met.any(1).all())
    if not told_apart or others < 2 * max(1, right):
        return ""
    order = ",".join(names[int(label)] for label in np.argsort(usual))
    return (
        f"the model in float answers {right} of {len(labels)} as these folders are numbered, and "
        f"{others} with classes in the order {order}: was it trained so? Then --class-names {order}"
    )
