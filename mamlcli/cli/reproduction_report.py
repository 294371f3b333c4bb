"""What `maml reproduce` prints."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mamlcli.cli.tables import WIDTH, format_table, located, with_interval, wrapped
from mamlcli.escaping import visible
from mamlcli.types import AnyRow, Row

if TYPE_CHECKING:
    from mamlcli.config.published import PublishedRow
    from mamlcli.results import Reproduction


def rows_report(rows: "dict[str, PublishedRow]") -> str:
    """Say which rows there are."""
    from mamlcli.pages.reproduction import protocol

    lines = []
    for name, row in rows.items():
        lines += [
            f"{name} ({', '.join(row.groups)})",
            *_indented(row.title),
            *_indented(f"protocol: {protocol(row)}"),
            *_indented(f"source: {row.source}"),
        ]
    return "\n".join(lines)


def _indented(text: str) -> list[str]:
    return textwrap.wrap(visible(text), WIDTH, initial_indent="  ", subsequent_indent="  ")


def reproduction_report(result: "Reproduction") -> str:
    """Say what came back of what was published."""
    from mamlcli.pages.reproduction import FAST, counted
    from mamlcli.statistics import interval_over

    stamp = [*wrapped(FAST), ""] if result.fast else []
    parts = [
        *stamp,
        *wrapped(
            f"query loss after N inner steps on K samples, mean over {len(result.seeds)} seed(s) and all meta-test "
            f"tasks; ±: half-width of the 95% interval of ours, {interval_over(len(result.seeds))}"
        ),
        format_table([_cells(row) for row in result.results], left=("row", "verdict")),
        "",
        *_pairs(result),
        *(line for said in _queries(result.results) for line in wrapped(said)),
        *wrapped(
            "ours is corrected for how hard these tasks are, by the zero predictor as control variate; the reports "
            "have the uncorrected means too, medians, and how many tasks diverged"
        ),
        *(line for said in _margins(result.results) for line in wrapped(said)),
        *wrapped("the trainings were cut short: the numbers mean nothing" if result.fast else counted(result.results)),
        located("report", result.run / "report.html"),
        located("", result.run / "report.md"),
    ]
    return "\n".join([*parts, *([located("figure", result.figure)] if result.figure else [])])


def _cells(row: AnyRow) -> Row:
    """The cells of a line that a terminal has room for."""
    from mamlcli.pages.reproduction import table_cells

    name, shots, steps, published, mean, half, verdict, *_ = table_cells(row)
    ours = mean if half == "n/a" else f"{mean} ± {half}"
    verdict += f", {row['num_diverged']} diverged" if row["num_diverged"] else ""
    return {"row": name, "K": shots, "N": steps, "published": published, "ours": ours, "verdict": verdict}


def _pairs(result: "Reproduction") -> list[str]:
    """Rows beside the one that they are a variant of."""
    from mamlcli.pages.reproduction import short

    if not result.pairs:
        return []
    lines = [
        {
            "row": pair["row"],
            "K": pair["shots"],
            "N": pair["inner_steps"],
            "less": pair["beside"],
            "difference": with_interval(pair["difference"], pair["ci95"]),
            "verdict": short(pair["verdict"]),
        }
        for pair in result.pairs
    ]
    return ["rows beside each other, paired by seed and task", format_table(lines, left=("row", "less", "verdict")), ""]


def _margins(results: Sequence[AnyRow]) -> list[str]:
    """Which differences do not matter."""
    shares: dict[str, dict[str, None]] = {}
    for row in results:
        if row.get("margin") is not None and row["published"]:
            shares.setdefault(f"{100 * row['margin'] / abs(row['published']):.3g}%", {})[row["row"]] = None
    if len(shares) <= 1:
        return [f"margin: {share} of the published number" for share in shares]
    return [f"margin: {share} of the published number of {', '.join(names)}" for share, names in shares.items()]


def _queries(results: Sequence[AnyRow]) -> list[str]:
    """On what each row was measured."""
    queries = dict.fromkeys(row["query"] for row in results if row["query"])
    rows = {query: dict.fromkeys(row["row"] for row in results if row["query"] == query) for query in queries}
    return [f"measured on {query}: {', '.join(names)}" for query, names in rows.items()]
