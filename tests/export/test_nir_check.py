"""The rules of `lapilli check`, held against the frameworks: every sample is really imported.

A sample is a small graph around one node. It is imported into a framework and run beside NIR's
own equations (`_euler`, in float64). What comes out must be what the rules have said.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest

from lapilli.ir.errors import FormatError, InputError

for package in ("nir", "nirtorch", "torch", "snntorch", "spikingjelly", "norse", "sinabs",
                "rockpool", "snn_mlir"):  # fmt: skip
    pytest.importorskip(package)

import nir  # noqa: E402
import torch  # noqa: E402

from lapilli.export.nir.check.check import check, check_file  # noqa: E402
from lapilli.export.nir.check.frameworks import IMPORTERS, Verdict  # noqa: E402
from lapilli.export.nir.check.predicates import DT  # noqa: E402

pytestmark = pytest.mark.torch

Array: TypeAlias = npt.NDArray[np.float64]
_T, _N = 40, 6


def _full(value: float, shape: tuple[int, ...] = (_N,)) -> Array:
    return np.full(shape, value, np.float64)


def _w(*shape: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(0).integers(-3, 4, shape).astype(dtype)


def _if(
    theta: Any = 4.5, r: float = 1 / DT, reset: float = 0, shape: tuple[int, ...] = (_N,)
) -> Any:
    threshold = np.broadcast_to(np.asarray(theta, np.float64), shape).copy()
    return nir.IF(r=_full(r, shape), v_threshold=threshold, v_reset=_full(reset, shape))


def _lif(theta: Any = 4.3, tau: float = 2, r: float | None = None, leak: float = 0,
         reset: float = 0) -> Any:  # fmt: skip
    threshold = np.broadcast_to(np.asarray(theta, np.float64), (_N,)).copy()
    return nir.LIF(tau=_full(tau * DT), r=_full(tau if r is None else r), v_leak=_full(leak),
                   v_threshold=threshold, v_reset=_full(reset))  # fmt: skip


def _cuba(theta: Any = 4.3, syn: float = 1, mem: float = 2, r: float | None = None,
          w_in: float | None = None, leak: float = 0, reset: float = 0) -> Any:  # fmt: skip
    threshold = np.broadcast_to(np.asarray(theta, np.float64), (_N,)).copy()
    return nir.CubaLIF(tau_syn=_full(syn * DT), tau_mem=_full(mem * DT),
                       r=_full(mem if r is None else r), v_leak=_full(leak), v_threshold=threshold,
                       v_reset=_full(reset), w_in=_full(syn if w_in is None else w_in))  # fmt: skip


def _conv(groups: int = 1, dtype: Any = np.float32) -> Any:
    weight = _w(4, 4 // groups, 3, 3, dtype=dtype)
    return nir.Conv2d(input_shape=(4, 4), weight=weight, stride=(1, 1), padding=(1, 1),
                      dilation=(1, 1), groups=groups, bias=_w(4, dtype=dtype))  # fmt: skip


def _conv1d(dtype: Any = np.float32) -> Any:
    return nir.Conv1d(input_shape=6, weight=_w(4, 4, 3, dtype=dtype), stride=1, padding=1,
                      dilation=1, groups=1, bias=_w(4, dtype=dtype))  # fmt: skip


def _pool(kind: Any, kernel: int, padding: int = 0) -> Any:
    two = np.array([kernel, kernel])
    return kind(kernel_size=two, stride=two, padding=np.array([padding, padding]))


_ROW, _LINE, _MAP = (_N,), (4, 6), (4, 4, 4)
_BIG = (4, 14, 14)
# Name -> the node, the shape of its input, the shape of its output.
SAMPLES: dict[str, tuple[Callable[[], Any], tuple[int, ...], tuple[int, ...]]] = {
    "affine": (lambda: nir.Affine(_w(5, _N), _w(5)), _ROW, (5,)),
    "affine int8": (lambda: nir.Affine(_w(5, _N, dtype=np.int8), _w(5, dtype=np.int8)), _ROW, (5,)),
    "linear": (lambda: nir.Linear(_w(5, _N)), _ROW, (5,)),
    "linear int8": (lambda: nir.Linear(_w(5, _N, dtype=np.int8)), _ROW, (5,)),
    "conv1d": (_conv1d, _LINE, _LINE),
    "conv1d int8": (lambda: _conv1d(np.int8), _LINE, _LINE),
    "conv2d": (_conv, _MAP, _MAP),
    "conv2d int8": (lambda: _conv(dtype=np.int8), _MAP, _MAP),
    "conv2d in groups": (lambda: _conv(2), _MAP, _MAP),
    "conv2d depthwise": (lambda: _conv(4), _MAP, _MAP),
    "sum pool 2": (lambda: _pool(nir.SumPool2d, 2), _MAP, (4, 2, 2)),
    "sum pool 7": (lambda: _pool(nir.SumPool2d, 7), _BIG, (4, 2, 2)),
    "sum pool padded": (lambda: _pool(nir.SumPool2d, 2, 1), _MAP, (4, 3, 3)),
    "avg pool 2": (lambda: _pool(nir.AvgPool2d, 2), _MAP, (4, 2, 2)),
    "avg pool 7": (lambda: _pool(nir.AvgPool2d, 7), _BIG, (4, 2, 2)),
    "flatten": (
        lambda: nir.Flatten(input_type={"input": np.array(_MAP)}, start_dim=0), _MAP, (64,)
    ),
    "scale": (lambda: nir.Scale(_full(3)), _ROW, _ROW),
    "delay": (lambda: nir.Delay(_full(2 * DT)), _ROW, _ROW),
    "threshold": (lambda: nir.Threshold(_full(1.5)), _ROW, _ROW),
    "i": (lambda: nir.I(r=_full(1 / DT)), _ROW, _ROW),
    "li": (lambda: nir.LI(tau=_full(2 * DT), r=_full(1), v_leak=_full(0)), _ROW, _ROW),
    "li r 2": (lambda: nir.LI(tau=_full(2 * DT), r=_full(2), v_leak=_full(0)), _ROW, _ROW),
    "cuba li": (
        lambda: nir.CubaLI(tau_syn=_full(DT), tau_mem=_full(2 * DT), r=_full(2), v_leak=_full(0)),
        _ROW, _ROW,
    ),
    "if": (_if, _ROW, _ROW),
    "if r 1": (lambda: _if(4.5e-4, r=1), _ROW, _ROW),
    "if tie": (lambda: _if(4), _ROW, _ROW),
    "if uneven": (lambda: _if(np.arange(_N) + 1.5), _ROW, _ROW),
    "if reset 2": (lambda: _if(reset=2), _ROW, _ROW),
    "lif": (_lif, _ROW, _ROW),
    "lif r 1": (lambda: _lif(1.3, r=1), _ROW, _ROW),
    "lif r 3": (lambda: _lif(r=3), _ROW, _ROW),
    "lif tau dt": (lambda: _lif(tau=1), _ROW, _ROW),
    "lif tau 5": (lambda: _lif(7.2, tau=5), _ROW, _ROW),
    "lif tie": (lambda: _lif(4), _ROW, _ROW),
    "lif uneven": (lambda: _lif(np.arange(_N) + 1.3), _ROW, _ROW),
    "lif leak to 1": (lambda: _lif(leak=1), _ROW, _ROW),
    "lif reset 2": (lambda: _lif(reset=2), _ROW, _ROW),
    "cuba": (_cuba, _ROW, _ROW),
    "cuba no memory": (lambda: _cuba(mem=1), _ROW, _ROW),
    "cuba no leak": (lambda: _cuba(mem=2**30), _ROW, _ROW),
    "cuba current": (lambda: _cuba(syn=2), _ROW, _ROW),
    "cuba r 1": (lambda: _cuba(r=1), _ROW, _ROW),
    "cuba w_in 1": (lambda: _cuba(syn=2, w_in=1), _ROW, _ROW),
    "cuba tau 5": (lambda: _cuba(7.2, mem=5), _ROW, _ROW),
    "cuba tie": (lambda: _cuba(4), _ROW, _ROW),
    "cuba uneven": (lambda: _cuba(np.arange(_N) + 1.3), _ROW, _ROW),
    "cuba leak to 1": (lambda: _cuba(leak=1), _ROW, _ROW),
    "cuba reset 2": (lambda: _cuba(reset=2), _ROW, _ROW),
}  # fmt: skip


def _graph(sample: str) -> tuple[Any, Any]:
    make, shape, out = SAMPLES[sample]
    node = make()
    nodes = {"input": nir.Input(np.array(shape)), "x": node, "output": nir.Output(np.array(out))}
    return nir.NIRGraph(
        nodes, [("input", "x"), ("x", "output")], type_check=getattr(node, "groups", 1) == 1
    ), node


def _given(sample: str) -> Array:
    """Small integers (T, *shape): ties and resets happen."""
    shape = (_T, *SAMPLES[sample][1])
    return np.random.default_rng(1).integers(-3, 13, shape).astype(np.float64)


def _euler(node: Any, given: Array) -> Array:
    """NIR's equations, step by step, in float64."""
    kind = type(node).__name__
    x = torch.from_numpy(given)

    def parameter(name: str) -> Any:
        return torch.from_numpy(np.asarray(getattr(node, name), np.float64))

    f = torch.nn.functional

    def pair(name: str) -> tuple[int, int]:
        first, second = np.broadcast_to(getattr(node, name), 2).tolist()
        return first, second

    stateless: dict[str, Callable[[], Any]] = {
        "Affine": lambda: x @ parameter("weight").T + parameter("bias"),
        "Linear": lambda: x @ parameter("weight").T,
        "Scale": lambda: x * parameter("scale"),
        "Threshold": lambda: (x > parameter("threshold")).double(),
        "Flatten": lambda: x.flatten(1),
        "Conv1d": lambda: f.conv1d(x, parameter("weight"), parameter("bias"), padding=1),
        "Conv2d": lambda: f.conv2d(x, parameter("weight"), parameter("bias"), padding=1,
                                   groups=node.groups),
        "SumPool2d": lambda: f.avg_pool2d(x, pair("kernel_size"), pair("stride"),
                                          pair("padding"), divisor_override=1),
        "AvgPool2d": lambda: f.avg_pool2d(x, pair("kernel_size"), pair("stride"),
                                          pair("padding")),
    }  # fmt: skip
    if kind in stateless:
        y: Array = stateless[kind]().numpy()
        return y
    if kind == "Delay":
        steps = int(np.rint(node.delay.flat[0] / DT))
        return np.concatenate([np.zeros_like(given[:steps]), given[:-steps]])
    out = []
    v, i = np.zeros(given.shape[1:]), np.zeros(given.shape[1:])
    for s in given:
        i = i + DT / node.tau_syn * (node.w_in * s - i) if kind.startswith("Cuba") else s
        if kind in ("I", "IF"):
            v = v + DT * node.r * i
        else:
            tau = node.tau_mem if kind.startswith("Cuba") else node.tau
            v = v + DT / tau * (node.v_leak - v + node.r * i)
        if hasattr(node, "v_threshold"):
            fired = v > node.v_threshold
            v = np.where(fired, node.v_reset, v)
            out.append(fired.astype(np.float64))
        else:
            out.append(v)
    return np.stack(out)


Run: TypeAlias = Callable[[Any, Array], Array]


def _stepwise(module: Any, given: Array, batched: bool) -> Array:
    state, out = None, []
    for x in given:
        row = torch.from_numpy(x.astype(np.float32))
        y, state = module(row[None] if batched else row, state)
        out.append((y[0] if batched else y).numpy().astype(np.float64))
    return np.stack(out)


def _snntorch(graph: Any, given: Array) -> Array:
    from snntorch.import_nir import import_from_nir

    return _stepwise(import_from_nir(graph), given, batched=False)


def _spikingjelly(graph: Any, given: Array) -> Array:
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return _stepwise(import_from_nir(graph), given, batched=True)


def _nirtorch(graph: Any, given: Array) -> Array:
    import nirtorch

    return _stepwise(nirtorch.nir_to_torch(graph, {}), given, batched=False)


def _norse(graph: Any, given: Array) -> Array:
    import norse.torch

    return _stepwise(norse.torch.from_nir(graph, dt=DT), given, batched=False)


def _sinabs(graph: Any, given: Array) -> Array:
    import sinabs.nir

    module = sinabs.nir.from_nir(graph, num_timesteps=len(given))
    y, _ = module(torch.from_numpy(given.astype(np.float32)))
    out: Array = y.numpy().astype(np.float64)
    return out


def _rockpool(graph: Any, given: Array) -> Array:
    from rockpool.nn.modules.torch.nir import from_nir

    y, _ = from_nir(graph)(torch.from_numpy(given.astype(np.float32))[None])
    out: Array = y[0].numpy().astype(np.float64)
    return out


RUNS: dict[str, Run] = {
    "snntorch": _snntorch,
    "spikingjelly": _spikingjelly,
    "nirtorch": _nirtorch,
    "norse": _norse,
    "sinabs": _sinabs,
    "rockpool": _rockpool,
}


_NOTHING_LEFT = "input of an empty graph"  # says nirtorch, when the only node was dropped


def _reality(framework: str, graph: Any, given: Array, want: Array) -> Verdict:
    """Import and run; what became of it."""
    try:
        with (
            torch.no_grad(),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            got = RUNS[framework](graph, given)
    except Exception as error:  # whatever a framework raises: a refusal is a refusal
        return Verdict.DROPPED if _NOTHING_LEFT in str(error) else Verdict.REFUSED
    if got.shape == want.shape and np.array_equal(got, want):
        return Verdict.EXACT
    if got.shape == given.shape and np.array_equal(got, given):
        return Verdict.DROPPED
    return Verdict.APPROXIMATE


@pytest.mark.parametrize("framework", RUNS)
@pytest.mark.parametrize("sample", SAMPLES)
def test_the_rules_say_what_happens(framework: str, sample: str) -> None:
    graph, node = _graph(sample)
    given = _given(sample)
    want = _euler(node, given)
    assert not np.array_equal(want, given)
    if hasattr(node, "v_threshold"):
        assert 0 < want.mean() < 1
    (said,) = (f for f in check(graph, framework) if f.node == "x")

    assert _reality(framework, graph, given, want) is said.verdict, said.reason


@pytest.mark.parametrize(
    ("sample", "field", "framework"),
    [
        ("if", "r", "spikingjelly"), ("if", "r", "norse"),
        ("lif", "r", "spikingjelly"), ("lif", "v_leak", "spikingjelly"), ("lif r 1", "r", "norse"),
        ("cuba", "r", "spikingjelly"), ("cuba", "w_in", "spikingjelly"), ("cuba", "r", "snntorch"),
        ("cuba", "w_in", "snn-mlir"),
    ],
)  # fmt: skip
def test_what_an_importer_takes_for_equal_is_not_exact(
    sample: str, field: str, framework: str
) -> None:
    graph, node = _graph(sample)
    value = getattr(node, field)
    setattr(node, field, np.where(value == 0, 1e-13, value * (1 + 2.0**-30)))
    (said,) = (f for f in check(graph, framework) if f.node == "x")
    assert said.verdict is Verdict.APPROXIMATE, said.reason


@pytest.mark.parametrize("sample", SAMPLES)
def test_snn_mlir_says_so_itself(sample: str) -> None:
    import snn_mlir

    graph, _ = _graph(sample)
    (said,) = (f for f in check(graph, "snn-mlir") if f.node == "x")
    (told,) = (n for n in snn_mlir.check(graph).nodes if n.name == "x")
    assert told.ok is (said.verdict is not Verdict.REFUSED), told.findings


def _times(factor: int) -> Any:
    return nir.Affine(factor * np.eye(_N, dtype=np.float32), np.zeros(_N, np.float32))


def _branches() -> Any:
    """input -> a, input -> b -> b2, both into c: a depth-first search reaches c too early."""
    nodes = {"input": nir.Input(np.array([_N])), "a": _times(1), "b": _times(2), "b2": _times(1),
             "c": _times(1), "output": nir.Output(np.array([_N]))}  # fmt: skip
    edges = [("input", "a"), ("input", "b"), ("b", "b2"), ("a", "c"), ("b2", "c"), ("c", "output")]
    return nir.NIRGraph(nodes, edges)


@pytest.mark.parametrize("framework", RUNS)
def test_where_branches_meet(framework: str) -> None:
    given = np.random.default_rng(1).integers(1, 9, (_T, _N)).astype(np.float64)
    found = check(_branches(), framework)
    (said,) = (f for f in found if f.node == "c")
    if framework == "nirtorch":  # its Affine has a bias that nobody set, branches or not
        assert {f.verdict for f in found if f.kind == "Affine"} == {Verdict.APPROXIMATE}
        return

    assert _reality(framework, _branches(), given, 3 * given) is said.verdict


def test_a_dropped_node_in_the_middle() -> None:
    """No exception, no warning: the threshold is not there."""
    nodes = {"input": nir.Input(np.array([_N])), "a": _times(1), "x": nir.Threshold(_full(1.5)),
             "b": _if(0.5), "output": nir.Output(np.array([_N]))}  # fmt: skip
    graph = nir.NIRGraph(nodes, [("input", "a"), ("a", "x"), ("x", "b"), ("b", "output")])
    given = np.full((_T, _N), 1.0)

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        out = _norse(graph, given)

    assert out.all()  # 1 > 0.5, and nobody asks whether 1 > 1.5
    verdicts = {f.node: f.verdict for f in check(graph, "norse")}
    assert verdicts.pop("x") is Verdict.DROPPED
    assert set(verdicts.values()) == {Verdict.EXACT}


def _chain(*names: str, edges: list[tuple[str, str]] | None = None, ends: int = 1) -> Any:
    row = np.array([_N])
    nodes: dict[str, Any] = {"input": nir.Input(row), **{n: nir.Linear(np.eye(_N)) for n in names}}
    nodes |= {f"output{i}": nir.Output(row) for i in range(ends)}
    path = ["input", *names, "output0"]
    between = list(pairwise(path))
    return nir.NIRGraph(nodes, between + (edges or []), type_check=False)


def test_what_is_wrong_with_the_whole() -> None:
    def verdicts(graph: Any) -> dict[str, str]:
        bad = (f for f in check(graph, "snntorch") if f.verdict is not Verdict.EXACT)
        return {f.node: f.reason for f in bad}

    assert verdicts(_chain("a")) == {}
    twins = verdicts(_chain("a.b", "a_b"))
    assert twins.keys() == {"a.b", "a_b"}
    assert all("'.' becomes '_'" in reason for reason in twins.values())
    loop = verdicts(_chain("a", "b", edges=[("b", "a")]))
    assert loop.keys() == {"a", "b"}
    two = verdicts(_chain("a", edges=[("a", "output1")], ends=2))
    assert two.keys() == {"output0", "output1"}
    late = verdicts(_chain("a", "b", edges=[("a", "output0")]))
    assert "nobody adds them up" in late["output0"]


def test_nodes_of_a_nested_graph_are_judged() -> None:
    inner, _ = _graph("threshold")
    row = np.array([_N])
    graph = nir.NIRGraph(
        {"input": nir.Input(row), "block": inner, "output": nir.Output(row)},
        [("input", "block"), ("block", "output")],
        type_check=False,
    )
    (found,) = (f for f in check(graph, "snntorch") if f.kind == "Threshold")
    assert (found.node, found.verdict) == ("block.x", Verdict.REFUSED)


def test_what_cannot_be_checked(tmp_path: Path) -> None:
    graph, _ = _graph("affine")
    with pytest.raises(InputError, match="no rules for 'spyx'; there are snntorch"):
        check(graph, "spyx")
    (tmp_path / "no.nir").write_bytes(b"nothing")
    with pytest.raises(FormatError):
        check_file(tmp_path / "no.nir", "snntorch")


@pytest.mark.parametrize(
    ("sample", "framework"),
    [
        ("conv1d int8", "snntorch"),
        ("conv2d int8", "spikingjelly"),
        ("sum pool padded", "spikingjelly"),
        ("li", "sinabs"),
        ("cuba reset 2", "snn-mlir"),
    ],
)
def test_a_file_is_judged_as_its_graph(tmp_path: Path, sample: str, framework: str) -> None:
    graph, _ = _graph(sample)
    nir.write(tmp_path / "a.nir", graph)

    found = check_file(tmp_path / "a.nir", framework)

    assert sorted(map(str, found)) == sorted(map(str, check(graph, framework)))
    assert any(f.verdict is not Verdict.EXACT for f in found)


def test_every_framework_has_a_run() -> None:
    assert IMPORTERS.keys() == RUNS.keys() | {"snn-mlir"}
