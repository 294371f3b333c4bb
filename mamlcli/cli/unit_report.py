"""What a meta-test found in the unit of each target, to text of at most 80 columns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mamlcli.cli.tables import format_table, located, wrapped
from mamlcli.escaping import shorten, visible
from mamlcli.plain import AnyRow, Row

if TYPE_CHECKING:
    from mamlcli.results import EvalResult

# Tables beyond so many are in the file alone; so are longer names.
_MOST_TABLES = 6
_LONGEST_NAME = 26
_LONGEST_TASK = 32


def summary_lines(result: "EvalResult") -> list[str]:
    """The sentence for the top."""
    return wrapped(result.summary) if result.summary else []


def unit_lines(result: "EvalResult") -> list[str]:
    """Say how the method and its baselines score in the targets' units, and which tasks are worst."""
    if not result.units:
        return []
    method = result.units[0]["who"]
    last = max(row["inner_steps"] or 0 for row in result.units if row["who"] == method)
    places = list(dict.fromkeys((row["shots"], row["target"]) for row in result.units))
    if len(places) > _MOST_TABLES:
        largest = max(shots for shots, _ in places)
        places = [place for place in places if place[0] == largest][:_MOST_TABLES]
    lines = ["", *wrapped(_EXPLAINED)]
    for place in places:
        own = [row for row in result.units if (row["shots"], row["target"]) == place]
        shown = [row for row in own if (row["inner_steps"] or last) == last]
        # Before its steps, a network that is not meta-learned is a baseline; the method is not.
        shown = [row for row in shown if row["who"] != method or row["inner_steps"] == last]
        steps = f"after {last} inner step{'s' * (last != 1)}"
        count = own[0]["num_tasks"]
        title = f"{visible(shorten(place[1], 24))}, K = {place[0]}, {steps}, {count} task{'s' * (count != 1)}:"
        lines += ["", title, format_table([_unit_row(row, method) for row in shown], left=("", "method is"))]
        lines += [line for row in shown if row["note"] for line in wrapped(f"{row['who']}: {row['note']}")]
    lines += ["", located("all of it", result.run / "baselines.csv")]
    return lines + _worst_lines(result.worst or [])


_EXPLAINED = (
    "in the unit of each target: the root of the mean squared error, and the ends of its 95% interval; share: of the "
    "pooled mean's squared error; whether the method is better than a baseline is told from their difference on the "
    "same tasks:"
)


def _unit_row(row: AnyRow, method: str) -> Row:
    name = row["who"].replace("initialisation", "init")
    if row["who"] == method and len(name) > _LONGEST_NAME:
        name = "the method"
    return {
        "": name,
        "RMSE": short(row["rmse"]),
        "low": short(row["rmse_low"]),
        "high": short(row["rmse_high"]),
        "share": _share(row["fraction"]),
        "method is": row["verdict"] or "",
    }


def short(value: float | None) -> str:
    """A number >= 0 to three digits or to whole ones, in at most eight characters.

    >>> [short(value) for value in (0.123456, 12345.6, 1.5e-7, None)]
    ['0.123', '12346', '1.5e-07', 'n/a']
    """
    if value is None:
        return "n/a"
    return f"{value:.0f}" if 100 <= value < 1e6 else f"{value:.3g}"


def _share(value: float | None) -> str:
    if value is None:
        return "n/a"
    return ">999" if value > 999 else f"{value:.3f}" if value < 10 else f"{value:.0f}"


def _worst_lines(rows: Sequence[AnyRow]) -> list[str]:
    if not rows:
        return []
    shown: list[Row] = [
        {
            "worst tasks": visible(shorten(row["name"], _LONGEST_TASK)),
            "target": visible(shorten(row["target"], 16)),
            "RMSE": short(row["rmse"]),
            "share": _share(row["fraction"]),
        }
        for row in rows
    ]
    return ["", format_table(shown, left=("worst tasks", "target"))]
