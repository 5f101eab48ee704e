"""What the shapes of parameters tell of the arguments that their class was made with.

Names are those that published spiking transformers use. What is read here is a guess until a
module made with it has every parameter, each of the same shape.
"""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from torch import Tensor

_CLASSES = ("num_classes", "n_classes", "classes", "num_class")
_WIDTHS = ("embed_dims", "embed_dim", "dim", "embedding_dim", "d_model")
_DEPTHS = ("depths", "depth", "num_layers", "layers", "num_blocks")
_CHANNELS = ("in_channels", "in_chans", "in_channel")
_RATIOS = ("mlp_ratios", "mlp_ratio")
SPELLINGS = tuple(names[0] for names in (_CLASSES, _WIDTHS, _DEPTHS, _RATIOS, _CHANNELS))
_IMAGE = 4  # channels that an image has at most
_HEAD = re.compile(r"(?:.*\.)?(?:head|fc|classifier)\.weight")
_HIDDEN = re.compile(r".*\bmlp\.(?:.*\.)?(?:fc1|mlp1|linear1|conv1)[^.]*(?:\.conv|\.0)?\.weight")
_BLOCK = re.compile(r"((?:.*?\.)?(?:blocks?|layers?|stage)\d*)\.(\d+)\.")


def told_by_shapes(state: Mapping[str, Tensor]) -> Mapping[str, object]:
    """Arguments under each of their usual names; those that no shape tells are left out."""
    told: dict[str, object] = {}
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    if heads := [s for k, s in shapes.items() if _HEAD.fullmatch(k) and len(s) == 2]:
        classes, width = heads[-1]
        told |= dict.fromkeys(_CLASSES, classes)
        if any(s[0] == width for s in shapes.values() if len(s) > 1):  # else a map was flattened
            told |= dict.fromkeys(_WIDTHS, width)
    if counts := _depths(shapes):
        told |= dict.fromkeys(_DEPTHS, counts[0] if len(counts) == 1 else counts)
    if channels := _channels([s for s in shapes.values() if len(s) == 4 and s[2] > 1]):
        told |= dict.fromkeys(_CHANNELS, channels)
    if hidden := [s for k, s in shapes.items() if _HIDDEN.fullmatch(k)]:
        ratio = hidden[0][0] / hidden[0][1]
        told |= dict.fromkeys(_RATIOS, int(ratio) if ratio.is_integer() else ratio)
    return told


def _depths(keys: Iterable[str]) -> tuple[int, ...]:
    """Lengths of the lists of blocks, in the order of their names."""
    lists = defaultdict[str, dict[int, set[str]]](lambda: defaultdict(set))
    for key in keys:
        if found := _BLOCK.match(key):
            lists[found[1]][int(found[2])].add(key[found.end() :])
    return tuple(len(lists[name]) for name in sorted(lists) if _are_blocks(lists[name]))


def _are_blocks(entries: Mapping[int, set[str]]) -> bool:
    """Whether entries of a list are blocks of modules, alike, and not layers in a row.

    Some of a stage's blocks have what others lack, such as a shortcut of another width: more than
    half of what the largest has is in all of them.
    """
    most = max(entries.values(), key=len)
    alike = set.intersection(*entries.values())
    modules = all(any("." in name for name in names) for names in entries.values())
    return modules and 2 * len(alike) > len(most) and max(entries) + 1 == len(entries)


def _channels(kernels: Sequence[tuple[int, ...]]) -> int:
    """Those of the image, which the first kernel hears, and which are the fewest; 0: no telling.

    A kernel of one channel hears a grey image, or each channel for itself: the first one that has
    more of them than any image has channels is of a grey one.
    """
    first = kernels[0] if kernels else (0, 0)
    if first[1] == 1:
        return int(first[0] > _IMAGE)
    return first[1] if first[1] == min((s[1] for s in kernels if s[1] > 1), default=0) else 0


def told_arguments(
    factory: Callable[..., object], state: Mapping[str, Tensor], given: Mapping[str, object]
) -> dict[str, object]:
    """Arguments that a class or factory takes, that are not given, and that shapes tell.

    One number tells nothing of an argument whose default is a list, one for each stage.
    """
    known, found = told_by_shapes(state), {}
    for name, parameter in _parameters(factory).items():
        if name not in known or name in given or parameter.default == known[name]:
            continue
        listed = isinstance(parameter.default, tuple | list)
        if parameter.default is parameter.empty or listed == isinstance(known[name], tuple):
            found[name] = known[name]
    return found


def needed_arguments(
    factory: Callable[..., object], given: Mapping[str, object]
) -> tuple[str, ...]:
    """Arguments without a default that are not given."""
    positional = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return tuple(
        name
        for name, parameter in _parameters(factory).items()
        if parameter.kind in positional and parameter.default is parameter.empty
        if name not in given
    )


def _parameters(factory: Callable[..., object]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory).parameters
    except (ValueError, TypeError):
        return {}
