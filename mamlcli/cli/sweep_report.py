"""What `maml sweep` prints."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mamlcli.cli.tables import SHOWN_STEPS, WIDTH, format_table, located, with_interval, wrapped
from mamlcli.config.axes import short_keys, shown
from mamlcli.types import AnyRow, Row

if TYPE_CHECKING:
    from mamlcli.results import Sweep

# Members that the table shows; the file has them all.
_MOST_ROWS = 20


def sweep_report(result: "Sweep") -> str:
    """Say which settings are the best, how sure that is, and what the winner scores; of a part what was trained."""
    if result.winner is None:
        return _part_report(result)
    ranked = result.results[:_MOST_ROWS]
    axes = [axis["key"] for axis in result.axes if len(axis["values"]) > 1] or [axis["key"] for axis in result.axes]
    parts = [
        *wrapped(
            f"query loss on {result.tasks} meta-validation tasks ({result.adaptation()}), mean over "
            f"{len(result.seeds)} seed(s); ± is the 95% interval {result.interval}; behind: the paired difference from "
            "the winner"
        ),
        _table(ranked, axes),
    ]
    if len(result.results) > len(ranked):
        parts.append(f"and {len(result.results) - len(ranked)} more, in sweep.csv")
    parts += ["", *(line for note in result.notes for line in wrapped(note))]
    parts += _winner_lines(result)
    parts += ["", located("sweep", result.run), located("every member", result.run / "sweep.csv")]
    parts += [located("figure", figure) for figure in result.figures]
    return "\n".join([*parts, *_next_lines(result)])


def _part_report(result: "Sweep") -> str:
    shown = [line for row in result.results[:_MOST_ROWS] for line in wrapped(f"{row['member']}: {row['status']}")]
    if len(result.results) > _MOST_ROWS:
        shown.append(f"and {len(result.results) - _MOST_ROWS} more")
    notes = [line for note in result.notes for line in wrapped(note)]
    ranking = f"maml sweep --resume {shlex.quote(str(result.run))}"
    return "\n".join([*notes, "", *shown, "", located("sweep", result.run), located("to rank all", ranking)])


def _table(rows: Sequence[AnyRow], axes: Sequence[str]) -> str:
    """The members with their values in columns, or in one where there is no room for those."""
    names = short_keys(axes)
    several: list[Row] = [{name: shown(row["values"][key]) for key, name in names.items()} for row in rows]
    table = _cells(rows, several)
    left = ("training", *names.values(), "member")
    text = format_table(table, left=left)
    if max(map(len, text.splitlines())) <= WIDTH:
        return text
    joined: list[Row] = [
        {"member": ", ".join(f"{name}={value}" for name, value in values.items())} for values in several
    ]
    return format_table(_cells(rows, joined), left=left)


def _cells(rows: Sequence[AnyRow], values: Sequence[Row]) -> list[Row]:
    """The lines of the table; the last column is there where a training did not end as the others."""
    marks = [_mark(row) for row in rows]
    return [
        {"#": str(row["rank"] or "-"), **one, "loss": with_interval(row["mean"], row["ci95"]), "behind": _behind(row)}
        | ({"training": mark} if any(marks) else {})
        for row, one, mark in zip(rows, values, marks, strict=True)
    ]


def _behind(row: AnyRow) -> str:
    if row["rank"] == 1:
        return ""
    return with_interval(row["difference"], row["difference_ci95"])


def _mark(row: AnyRow) -> str:
    if row["num_diverged_seeds"]:
        return f"{row['num_diverged_seeds']} seed(s) frozen"
    return "" if row["status"] == "done" else str(row["status"])


def _winner_lines(result: "Sweep") -> list[str]:
    steps = [row for row in result.winner_test if row["inner_steps"] in SHOWN_STEPS]
    rows: list[Row] = [
        {
            "K": row["shots"],
            "inner steps": row["inner_steps"],
            "mean": with_interval(row["mean"], row["ci95"]),
            "median": row["median"],
        }
        for row in steps
    ]
    return [
        "",
        *wrapped(
            f"the winner, {result.winner}, on {result.test_tasks} meta-test tasks, which had no part in the choice:"
        ),
        format_table(rows),
    ]


def _next_lines(result: "Sweep") -> list[str]:
    if result.picked is not None:
        command = f"maml train --config {shlex.quote(str(result.picked))}"
        return ["", located("picked", result.picked), located("next: ", command, gap=6)]
    if result.winner_run is None:
        return []
    return ["", located("next: ", f"maml eval {shlex.quote(str(result.winner_run))}", gap=6)]
