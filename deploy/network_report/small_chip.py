"""What a report says of a chip that takes a whole network or nothing, and of what none holds."""

from __future__ import annotations

from lapilli.costs.obstacles import Obstacle, verdict
from lapilli.deploy.network_report.section import Column, Table
from lapilli.deploy.network_report.sources import Facts


def small_told(found: Facts) -> list[str]:
    """Say whether the network fits, and what nobody can say."""
    chip = found["chip"]
    if found["fits"]:
        return [f"{chip}: nothing that is known of it stands against the network.", *found["notes"]]
    return [f"{cannot(found)}.", *found["notes"]]


def cannot(found: Facts) -> str:
    """Say that a chip does not hold the network."""
    against = [Obstacle(told["node"], told["reason"]) for told in found["obstacles"]]
    return verdict(found["chip"], against)


def obstacles(found: Facts) -> list[Table]:
    """What a chip cannot hold or do, by layer; nothing if there is nothing."""
    if not found["obstacles"]:
        return []
    chip = found["chip"]
    columns = (Column("node", numeric=False), Column("what stands against it", numeric=False))
    return [
        Table(
            name=f"obstacles-{chip}",
            title=f"What {chip} cannot hold or do",
            columns=columns,
            rows=tuple((told["node"], told["reason"]) for told in found["obstacles"]),
            folded=True,
        )
    ]


def small_tables(found: Facts) -> list[Table]:
    """What each layer takes, and what the chip cannot hold or do."""
    chip, tables = found["chip"], []
    if found["layers"]:
        columns = (Column("layer", numeric=False), Column("core"), Column("takes", numeric=False))
        rows = tuple((told["layer"], told["core"], _takes(told)) for told in found["layers"])
        title = f"What each layer takes of {chip}"
        tables.append(Table(name=f"layers-{chip}", title=title, columns=columns, rows=rows))
    return [*tables, *obstacles(found)]


def _takes(told: Facts) -> str:
    """How much of what, and of how much there is."""
    return ", ".join(
        f"{count:,} {what}" + (f" of {told['room'][what]:,}" if what in told["room"] else "")
        for what, count in told["takes"].items()
    )
