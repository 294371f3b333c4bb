"""What a reproduction found, as parts of a page: published numbers beside ours."""

from collections.abc import Sequence

from mamlcli.config.published import VERDICT_RULE, PublishedRow
from mamlcli.pages.blocks import Block, Cell, Column, Facts, Section, Table, Text, Tone
from mamlcli.results import Reproduction
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
_WORDS = ("row", "verdict")


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
        some = f"After {', '.join(steps)} step(s) " if len(steps) < len(measured) else ""
        said.append(f"{some}{how}." if some else f"{how[0].upper()}{how[1:]}.")
    return " ".join(dict.fromkeys(said))


def described(row: PublishedRow) -> str:
    """What a row is, where it was published and what its source leaves open."""
    return f"{row.title}. Source: {row.source}. Open: {row.ambiguous}"


def reproduction_blocks(result: Reproduction) -> list[Block]:
    """The table with its rule, and what each row is."""
    columns = [Column(name, is_number=name not in _WORDS) for name in _COLUMNS]
    said = [Text(paragraph) for paragraph in _introduction(result.results, result.seeds, fast=result.fast)]
    rows = {name: f"{text} {_measured_on(result.results, name)}".strip() for name, text in result.described.items()}
    table = Table(columns, [_line(row) for row in result.results])
    return [said[0], table, *said[1:], *([Section("The rows", [Facts(list(rows.items()))])] if rows else [])]


def _line(row: AnyRow) -> list[Cell]:
    values = (None, row["shots"], row["inner_steps"], row["published"], row["mean"], row["ci95"], row["plain_mean"])
    orders = (*values, row["median"], row["num_diverged"], None)
    cells = zip(_COLUMNS, table_cells(row), orders, strict=True)
    return [Cell(text, "" if name in _WORDS else order, _tone(name, text)) for name, text, order in cells]


def _tone(name: str, text: str) -> Tone:
    if name != "verdict":
        return "plain"
    return "good" if text == "reproduced" else "bad" if text.startswith("not re") else "plain"
