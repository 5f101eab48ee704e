"""`lapilli conformance`: hold any simulator, a stranger's too, to the shipped suite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from lapilli.deploy.cli.files import AsJson
from lapilli.deploy.cli.frame import print_json, printable


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one case.

    Attributes:
        result: "exact", "refused" (the simulator declines with a reason, as it may) or "fails".
        compared: values that agreed with the reference.
        reason: why it is refused, or where it fails.
    """

    case: str
    result: str
    compared: int = 0
    reason: str = ""

    def __str__(self) -> str:
        told = f"{self.compared:,} values" if self.result == "exact" else self.reason
        return f"{self.case:34} {self.result}: {told}"


def conformance(
    simulator: Annotated[
        str, typer.Argument(help="FILE.py:NAME, PACKAGE.MODULE:NAME, or a name of lapilli's own.")
    ],
    as_json: AsJson = False,
) -> None:
    """Run the conformance suite on a simulator; status 1 if a case fails, or none is taken.

    FILE.py and PACKAGE.MODULE are imported: their code runs. NAME, called without arguments,
    gives a simulator as `lapilli.simulators.protocol` describes it.
    """
    outcomes = _outcomes(simulator, quiet=as_json)
    total = {r: sum(o.result == r for o in outcomes) for r in ("exact", "refused", "fails")}
    compared = sum(o.compared for o in outcomes)
    if as_json:
        cases = [
            {f: getattr(o, f) for f in ("case", "result", "compared", "reason")} for o in outcomes
        ]
        print_json({"simulator": simulator, **total, "compared": compared, "cases": cases})
    else:
        counts = ", ".join(f"{count} {result}" for result, count in total.items())
        typer.echo(f"{len(outcomes)} cases: {counts}; {compared:,} values compared")
    if total["fails"] or not total["exact"]:
        raise typer.Exit(1)


def _outcomes(name: str, *, quiet: bool) -> list[Outcome]:
    from lapilli.deploy.comparison.targets import target
    from lapilli.ir.errors import SimulatorUnavailableError, UnsupportedError
    from lapilli.simulators.conformance import CASES, check

    simulator = target(name)
    outcomes = []
    for case in CASES:
        try:
            outcome = Outcome(case.name, "exact", check(simulator, case))
        except UnsupportedError as error:
            outcome = Outcome(case.name, "refused", reason="; ".join(map(str, error.reasons)))
        except (SimulatorUnavailableError, MemoryError):
            raise
        except Exception as error:  # a stranger's simulator may raise anything, and fails then
            outcome = Outcome(case.name, "fails", reason=f"{type(error).__name__}: {error}")
        outcomes.append(outcome)
        if not quiet:
            typer.echo(printable(str(outcome)))
    return outcomes
