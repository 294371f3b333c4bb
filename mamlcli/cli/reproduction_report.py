"""What `maml reproduce` prints."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mamlcli.cli.tables import WIDTH, format_table, located, wrapped
from mamlcli.escaping import visible
from mamlcli.types import AnyRow, Row

if TYPE_CHECKING:
    from mamlcli.config.published import PublishedRow
    from mamlcli.results import Reproduction


def rows_report(rows: "dict[str, PublishedRow]") -> str:
    """Say which rows there are."""
    lines = []
    for name, row in rows.items():
        lines += [name, *_indented(row.title), *_indented(f"source: {row.source}")]
    return "\n".join(lines)


def _indented(text: str) -> list[str]:
    return textwrap.wrap(visible(text), WIDTH, initial_indent="  ", subsequent_indent="  ")


def reproduction_report(result: "Reproduction") -> str:
    """Say what came back of what was published."""
    from mamlcli.pages.reproduction import count_reproduced
    from mamlcli.statistics import interval_over

    held = f"{count_reproduced(result.results)} reproduced; the report states the rule"
    parts = [
        *wrapped(
            f"query loss after N inner steps on K samples, mean over {len(result.seeds)} seed(s) and all meta-test "
            f"tasks; ±: half-width of the 95% interval of ours, {interval_over(len(result.seeds))}"
        ),
        format_table([_cells(row) for row in result.results], left=("row", "verdict")),
        "",
        *(line for said in _queries(result.results) for line in wrapped(said)),
        *wrapped(
            "ours is corrected for how hard these tasks are, by the zero predictor as control variate; the reports "
            "have the uncorrected means too, medians, and how many tasks diverged"
        ),
        "the trainings were cut short: the numbers mean nothing" if result.fast else held,
        located("report", result.run / "report.html"),
        located("", result.run / "report.md"),
    ]
    return "\n".join([*parts, *([located("figure", result.figure)] if result.figure else [])])


def _cells(row: AnyRow) -> Row:
    """The cells of a line that a terminal has room for."""
    from mamlcli.pages.reproduction import table_cells

    name, shots, steps, published, mean, half, *_, verdict = table_cells(row)
    ours = mean if half == "n/a" else f"{mean} ± {half}"
    return {"row": name, "K": shots, "N": steps, "published": published, "ours": ours, "verdict": verdict}


def _queries(results: Sequence[AnyRow]) -> list[str]:
    """On what each row was measured."""
    queries = dict.fromkeys(row["query"] for row in results if row["query"])
    rows = {query: dict.fromkeys(row["row"] for row in results if row["query"] == query) for query in queries}
    return [f"measured on {query}: {', '.join(names)}" for query, names in rows.items()]
