"""Find the parameters in a file: the one dict of tensors, under the names of the bare model.

People save the same parameters in many ways (docs/checkpoints.md): within a dict that also holds
the epoch and the optimizer, from inside DataParallel, torch.compile or a Lightning module.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lapilli.ir.errors import CheckpointError

# Where the parameters are, best first: what timm, training scripts, PyTorch's tutorial,
# SpikingJelly's examples and exponential moving averages call them.
_NAMES = (
    "state_dict", "model", "model_state_dict", "net", "state_dict_ema", "model_ema", "ema",
)  # fmt: skip
_STATE_OF_TRAINING = ("optim", "scheduler", "scaler", "callbacks", "loops")
_WRAPPERS = ("module.", "_orig_mod.")  # DataParallel and torch.compile put these before every name
_COUNTS_OF_TOOLS = ("total_ops", "total_params")  # thop leaves them in each module it looked at
_AVERAGES = "n_averaged"  # of torch.optim.swa_utils.AveragedModel


@dataclass(frozen=True, slots=True)
class Found:
    """Parameters in a file.

    Attributes:
        state: by name, without the wrappers' prefixes.
        entry: of which entry of the file they are; empty where the file holds nothing else.
        others: entries that hold parameters, too, and were not taken.
    """

    state: Mapping[str, Tensor]
    entry: str = ""
    others: tuple[str, ...] = ()


def find_parameters(path: Path, content: object, key: str | None = None) -> Found:
    """Find the dict of tensors in what a file holds.

    Args:
        path: for messages.
        content: what the file holds; nested dicts are searched.
        key: the entry to take, dotted where it is nested; needed where no name is the usual one.

    Raises:
        CheckpointError: none is there, several are and no name says which, or no such `key`.
    """
    if not isinstance(content, Mapping):
        raise CheckpointError(
            path,
            f"holds no state_dict but a {type(content).__name__}; save the model's own: "
            "torch.save(model.state_dict(), 'weights.pth')",
        )
    entries = dict(_entries(content))
    if not entries:
        raise CheckpointError(path, _why_none(content))
    usual = [name for name in (key, "", *_NAMES) if name is not None and name in entries]
    if not usual and len(entries) > 1:
        raise CheckpointError(
            path, f"holds several sets of parameters: {_shown(entries)}; choose one with --key"
        )
    chosen = next(iter(usual or entries))
    state = _bare(entries[chosen])
    if key is not None and key != chosen:
        state = _named(path, state, key, [name for name in entries if name])
    return Found(state, chosen, tuple(name for name in entries if name != chosen))


def _named(
    path: Path, state: Mapping[str, Tensor], key: str, entries: Collection[str]
) -> Mapping[str, Tensor]:
    """The parameters of one module of several in a state_dict."""
    prefix = f"{key.rstrip('.')}."
    chosen = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if not chosen:
        parts = sorted({k.partition(".")[0] for k in state})
        raise CheckpointError(
            path, f"has no parameters under {key!r}; it has {_shown(entries or parts)}"
        )
    return chosen


def _entries(
    content: Mapping[object, object], path: str = "", depth: int = 0
) -> list[tuple[str, dict[str, Tensor]]]:
    """Every nested dict of tensors alone, with its dotted path; two levels deep."""
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if len(tensors) == len(content) and any(v.dim() for v in tensors.values()):
        return [(path, tensors)]  # without numbers alone, which are somebody's statistics
    found = []
    for name, value in content.items():
        training = any(word in str(name).lower() for word in _STATE_OF_TRAINING)
        if isinstance(value, Mapping) and depth < 2 and not training:
            found += _entries(value, f"{path}.{name}" if path else str(name), depth + 1)
    return found


def _bare(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Take off what PyTorch's own wrappers put before every name."""
    state = {k: v for k, v in state.items() if k != _AVERAGES}
    while state and (
        wrapper := next((w for w in _WRAPPERS if all(k.startswith(w) for k in state)), None)
    ):
        state = {k.removeprefix(wrapper): v for k, v in state.items()}
    return state


def _why_none(content: Mapping[object, object]) -> str:
    inside = next((n for n in _NAMES if isinstance(content.get(n), Mapping) and content[n]), None)
    held = content[inside] if inside else content
    where = f" in {inside!r}" if inside else ""
    if not isinstance(held, Mapping) or not held or all(_is_nothing(v) for v in held.values()):
        return "holds no state_dict"
    odd = next((name for name, value in held.items() if not isinstance(value, Tensor)), None)
    return (
        f"holds no state_dict: entry {str(odd)!r} is not a tensor{where}, and no other entry is a "
        "dict of tensors; save the model's own: torch.save(model.state_dict(), 'weights.pth')"
    )


def _is_nothing(value: object) -> bool:
    return isinstance(value, Tensor) or value == {}


def is_count_of_a_tool(key: str) -> bool:
    """Whether this is a number that a profiler left in a module, and no parameter."""
    return key.rpartition(".")[2] in _COUNTS_OF_TOOLS


@dataclass(frozen=True, slots=True)
class Prefix:
    """What is before every name on one side.

    Attributes:
        text: with its last dot.
        of_file: the file's names have it and the model's not; otherwise the other way round.
    """

    text: str
    of_file: bool


def common_prefix(path: Path, names: Collection[str], wanted: Collection[str]) -> Prefix | None:
    """Find by which one prefix all `wanted` names differ from those of a file.

    Args:
        path: for messages.
        names: those of the file.
        wanted: those of the model; all of them are in the file after the prefix.

    Returns:
        None if some of them are equal as they are, or if no one prefix does it.

    Raises:
        CheckpointError: several do: the file holds the model more than once.
    """
    names = set(names)
    if not wanted or not names.isdisjoint(wanted):
        return None
    fitting = prefixes(names, wanted)
    if len(fitting) > 1:
        raise CheckpointError(
            path, f"holds the model more than once, as {_shown(fitting)}; choose one with --key"
        )
    if fitting:
        return Prefix(fitting[0], of_file=True)
    first = min(wanted)
    missing = {first.removesuffix(n) for n in names if first.endswith(f".{n}")}
    added = next((p for p in sorted(missing) if all(w.startswith(p) for w in wanted)), None)
    if added is not None and all(w.removeprefix(added) in names for w in wanted):
        return Prefix(added, of_file=False)
    return None


def prefixes(names: Collection[str], wanted: Collection[str]) -> list[str]:
    """Each prefix, with its last dot, after which all `wanted` names are among `names`."""
    names, first = set(names), min(wanted)
    candidates = {n.removesuffix(first) for n in names if n.endswith(f".{first}")}
    return sorted(c for c in candidates if all(c + w in names for w in wanted))


def without_prefix(state: Mapping[str, Tensor], prefix: Prefix) -> dict[str, Tensor]:
    """The parameters under the model's own names."""
    if prefix.of_file:
        return {k.removeprefix(prefix.text): v for k, v in state.items()}
    return {prefix.text + k: v for k, v in state.items()}


def prefix_hint(names: Collection[str], wanted: Collection[str]) -> str:
    """Say by which prefix names differ that share none; empty if they do not differ so."""
    names, wanted = set(names), set(wanted)
    if not names or not wanted or not names.isdisjoint(wanted):
        return ""
    for of_file, some, others in ((True, names, wanted), (False, wanted, names)):
        first = min(some)
        for i in (i + 1 for i, c in enumerate(first) if c == "."):
            bare = {n.removeprefix(first[:i]) for n in some}
            if all(n.startswith(first[:i]) for n in some) and not bare.isdisjoint(others):
                side = "file" if of_file else "module"
                return f"; all differ by the prefix {first[:i]!r}, which the {side}'s names have"
    return ""


def _shown(names: Collection[str]) -> str:
    return ", ".join(repr(n) for n in names) or "none"
