"""What a report says of a chip that takes a whole network or nothing."""

from __future__ import annotations

from lapilli.deploy.network_report.section import Column, Table, counted
from lapilli.deploy.network_report.sources import Facts


def small_told(found: Facts) -> list[str]:
    """Say whether the network fits, and what nobody can say."""
    chip, nodes = found["chip"], {o["node"] for o in found["obstacles"]}
    if found["fits"]:
        return [f"{chip}: nothing that is known of it stands against the network.", *found["notes"]]
    sentence = f"{chip} cannot hold it: {counted(len(nodes), 'node')} stand against it."
    return [sentence, *found["notes"]]


def small_tables(found: Facts) -> list[Table]:
    """What each layer takes, and what the chip cannot hold or do."""
    chip, tables = found["chip"], []
    if found["layers"]:
        columns = (Column("layer", numeric=False), Column("core"), Column("takes", numeric=False))
        rows = tuple((told["layer"], told["core"], _takes(told)) for told in found["layers"])
        title = f"What each layer takes of {chip}"
        tables.append(Table(name=f"layers-{chip}", title=title, columns=columns, rows=rows))
    if found["obstacles"]:
        tables.append(
            Table(
                name=f"obstacles-{chip}",
                title=f"What {chip} cannot hold or do",
                columns=(
                    Column("node", numeric=False),
                    Column("what stands against it", numeric=False),
                ),
                rows=tuple((told["node"], told["reason"]) for told in found["obstacles"]),
                folded=True,
            )
        )
    return tables


def _takes(told: Facts) -> str:
    """How much of what, and of how much there is."""
    return ", ".join(
        f"{count:,} {what}" + (f" of {told['room'][what]:,}" if what in told["room"] else "")
        for what, count in told["takes"].items()
    )
