"""The report of a reproduction, as Markdown and as one HTML page with its figure inside."""

from collections.abc import Sequence
from pathlib import Path

from mamlcli.config.published import VERDICT_RULE, PublishedRow
from mamlcli.escaping import markdown, page
from mamlcli.statistics import interval_over
from mamlcli.types import AnyRow

_COLUMNS = ("row", "K", "steps", "published", "ours", "±", "uncorrected", "median", "diverged", "verdict")
CORRECTION_NOTE = (
    "Ours is corrected for how hard the tasks at hand are: a model that always says zero scores more or less on them "
    "than over all tasks, where its loss is known analytically, and ours moves with it (a control variate, whose "
    "coefficient is the slope over tasks of each row's losses). The uncorrected mean stands beside it; it is the same "
    "where adaptations diverged, and of the zero predictor itself."
)
_SIGNS = {"equals": "", "at_most": "at most ", "at_least": "at least "}
_FAST = "A fast run: trainings of 1,000 steps at most. It shows that everything runs; the numbers mean nothing."
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; font-size: 0.9rem; display: block; overflow-x: auto; }
th, td { padding: 0.3rem 0.6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child, th:last-child, td:last-child { text-align: left; white-space: normal; }
tr.yes td:last-child { color: #00684b; } tr.no td:last-child { color: #a63d00; }
svg { width: 100%; height: auto; } dt { font-weight: 600; margin-top: 0.8rem; } dd { margin: 0; }
"""


def table_cells(row: AnyRow) -> list[str]:
    """The cells of a line of the table, under the columns of the report."""
    published = "none"
    if row["published"] is not None:
        spread = "" if row["published_ci95"] is None else f" ± {row['published_ci95']:g}"
        published = f"{_SIGNS[row['relation']]}{row['published']:g}{spread}"
    mean, ci95, plain, median = (_number(row[name]) for name in ("mean", "ci95", "plain_mean", "median"))
    if row["control_coefficient"] is None and row["mean"] is not None:
        plain = "same"
    diverged = "n/a" if row["num_diverged"] is None else str(row["num_diverged"])
    where = [row["row"], str(row["shots"]), str(row["inner_steps"])]
    return [*where, published, mean, ci95, plain, median, diverged, row["verdict"]]


def table_columns() -> list[str]:
    """The columns of the table."""
    return list(_COLUMNS)


def count_reproduced(results: Sequence[AnyRow]) -> str:
    """How many of the published numbers came back, in words."""
    judged = [row["verdict"] for row in results if row["published"] is not None]
    return f"{judged.count('reproduced')} of {len(judged)} published numbers are"


def _number(value: float | None) -> str:
    if value is None:
        return "n/a"
    return f"{value:.3f}" if value < 1e4 else f"{value:.2e}"


def _introduction(results: Sequence[AnyRow], seeds: Sequence[int], *, fast: bool) -> list[str]:
    return [
        _FAST if fast else f"{count_reproduced(results)} reproduced with seeds {', '.join(map(str, seeds))}.",
        "Query loss (mean squared error) on fixed meta-test tasks after so many inner steps on K support samples; "
        f"means over seeds and tasks; ± is the half-width of the 95% interval of ours, {interval_over(len(seeds))}. "
        "Tasks that diverged stay in the mean.",
        CORRECTION_NOTE,
        f"The rule of the verdict. {VERDICT_RULE[0].upper()}{VERDICT_RULE[1:]}",
    ]


def _measured_on(results: Sequence[AnyRow], name: str) -> str:
    measured = [row for row in results if row["row"] == name and row["query"]]
    said = [
        f"Measured on {row['query']}, where zero scores {_number(row['control_mean'])}, and "
        f"{_number(row['control_expected'])} over all tasks."
        for row in measured
    ]
    for how in dict.fromkeys(row["correction"] for row in measured):
        steps = [str(row["inner_steps"]) for row in measured if row["correction"] == how]
        some = f"After {', '.join(steps)} inner step(s) " if len(steps) < len(measured) else ""
        said.append(f"{some}{how}." if some else f"{how[0].upper()}{how[1:]}.")
    return " ".join(dict.fromkeys(said))


def _described(name: str, row: PublishedRow, results: Sequence[AnyRow]) -> str:
    return f"{row.title}. Source: {row.source}. Open: {row.ambiguous} {_measured_on(results, name)}"


def markdown_report(
    rows: dict[str, PublishedRow], results: Sequence[AnyRow], figure: Path | None, *, fast: bool, seeds: Sequence[int]
) -> str:
    """Write the report as Markdown, with the figure beside it."""
    lines = ["# Reproduction", ""]
    for paragraph in _introduction(results, seeds, fast=fast):
        lines += [paragraph, ""]
    lines += [" | ".join(["", *_COLUMNS, ""]).strip(), "|" + "---|" * len(_COLUMNS)]
    lines += [" | ".join(["", *map(markdown, table_cells(row)), ""]).strip() for row in results]
    if figure is not None:
        lines += ["", f"![Query loss against inner steps]({figure.name})"]
    lines += ["", "## The rows", ""]
    for name, row in rows.items():
        lines += [f"- **{markdown(name)}**: {markdown(_described(name, row, results))}"]
    return "\n".join(lines) + "\n"


def html_report(
    rows: dict[str, PublishedRow], results: Sequence[AnyRow], svg: str | None, *, fast: bool, seeds: Sequence[int]
) -> str:
    """Write the report as one page that needs no other file; `svg` is the figure's text."""
    body = ["<h1>Reproduction</h1>"]
    body += [f"<p>{page(paragraph)}</p>" for paragraph in _introduction(results, seeds, fast=fast)]
    head = "".join(f"<th>{page(column)}</th>" for column in _COLUMNS)
    body.append(f"<table><thead><tr>{head}</tr></thead><tbody>")
    for row in results:
        cells = "".join(f"<td>{page(cell)}</td>" for cell in table_cells(row))
        kind = "yes" if row["verdict"] == "reproduced" else "no" if row["verdict"].startswith("not re") else "open"
        body.append(f'<tr class="{kind}">{cells}</tr>')
    body.append("</tbody></table>")
    if svg is not None:
        body.append(f"<h2>Loss against inner steps</h2><figure>{svg[svg.index('<svg') :]}</figure>")
    body.append("<h2>The rows</h2><dl>")
    for name, published in rows.items():
        body.append(f"<dt>{page(name)}</dt><dd>{page(_described(name, published, results))}</dd>")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Reproduction</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body>\n'
        + "\n".join([*body, "</dl>"])
        + "\n</body></html>\n"
    )
