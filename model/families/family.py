"""What a family of models is: its configuration, its class, and the keys of its files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

NORMS = r"^block\.\d+\.norm[12]\.(weight|bias)$"  # in official files; called by no forward pass
SURROGATE = r"\.act_fun\.alpha$"  # STEP: steepness of the surrogate gradient

# Keys that tell families apart.
TALKING_HEADS = r"\.attn\.talking_heads\.weight$"
QKV_LINEAR = r"\.attn\.[qkv]_linear\.weight$"
ROUTER = r"\.attn\.router1\."
TOKENS_3 = r"\.attn\.k_conv\.weight 3$"  # attention by 1-d convolutions over tokens
TOKENS_4 = r"\.attn\.k_conv\.weight 4$"  # attention by 2-d convolutions
QK_ATTENTION = r"\.tssa\."
REP_CONV = r"\.q_conv\.0\.body\."
POSITION = r"^patch_embed\.rpe_conv\."
NEURON_FIRST = r"^patch_embed\.(block|proj)4_conv\.|\.mlp1_conv\."  # Spikingformer's names
STEM_NEURON = r"^patch_embed\.proj_lif\."  # those of later stages have a digit
LATER_NEURON = r"^patch_embed\.proj_lif\d\."
OTHER_FAMILIES = (ROUTER, QK_ATTENTION, NEURON_FIRST)

BSA_ASSUMES = "heads, tau and thresholds of the host"
SEMM_ASSUMES = "4 experts, widths, tau and thresholds; attention and order of neurons of the host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """By which keys a file is known. A key of a `k_conv.weight` is followed by " 3" or " 4" axes.

    Attributes:
        has: patterns; some key matches each of them.
        lacks: patterns that no key matches.
    """

    has: tuple[str, ...]
    lacks: tuple[str, ...] = ()

    def fit(self, lines: str) -> bool:
        """Whether these keys, a line each, are such a file's."""
        return not self.missing(lines) and not any(_first(p, lines) for p in self.lacks)

    def missing(self, lines: str) -> tuple[str, ...]:
        """The patterns of `has` that no key matches."""
        return tuple(p for p in self.has if not _first(p, lines))

    def decisive(self, lines: str) -> str:
        """The first keys that match, or the one that should not be there."""
        keys = (_first(p, lines) for p in self.has)
        return " and ".join(repr(k) for k in keys if k)

    def excluded(self, lines: str) -> str | None:
        """A key that such a file has not."""
        return next((key for p in self.lacks if (key := _first(p, lines))), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One family.

    Attributes:
        name: as files of ours and `inspect` say it.
        config, model: the model is built of one configuration.
        recognises: alternatives, one for each way in which its files are written; none where
            another family has the same keys.
        unused: patterns of keys that official files carry and no forward pass reads.
        renamed: (pattern, replacement): other spellings of keys, of older or other code.
        heads: pattern of a key whose first axis is the number of heads; empty if none is.
        presets: every published size by name: what its checkpoint does not say.
        assumed: what nobody published, and presets whose names begin so assume.
        small: untrained models that exactness is tried on: configuration, height and width.
    """

    name: str
    config: type[Any]
    model: Callable[[Any], nn.Module]
    recognises: tuple[Keys, ...] = ()
    unused: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    heads: str = ""
    presets: Mapping[str, Any] = field(default_factory=dict)
    assumed: Mapping[str, str] = field(default_factory=dict)
    small: Mapping[str, tuple[Any, int]] = field(default_factory=dict)


def lines_of(state: Mapping[str, Tensor]) -> str:
    """The keys of a file, a line each; with the number of axes where that tells families apart."""
    return "\n".join(
        f"{key} {value.dim()}" if key.endswith("k_conv.weight") else key
        for key, value in state.items()
    )


def shown(patterns: Iterable[str]) -> str:
    """Patterns as a reader takes them: without what only regular expressions need."""
    plain = (p.replace("\\.", ".").replace("\\d", "0").strip("^$") for p in patterns)
    return ", ".join(repr(p) for p in plain)


def _first(pattern: str, lines: str) -> str | None:
    found = re.search(pattern, lines, re.MULTILINE)
    if found is None:
        return None
    start, end = lines.rfind("\n", 0, found.start() + 1) + 1, lines.find("\n", found.end())
    return lines[start : end if end >= 0 else len(lines)].partition(" ")[0]
