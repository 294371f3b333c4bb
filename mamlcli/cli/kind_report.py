"""What a meta-test found of each kind of tasks, to text of at most 80 columns."""

from typing import TYPE_CHECKING

from mamlcli.cli.tables import format_table, with_interval, wrapped
from mamlcli.escaping import shorten
from mamlcli.plain import Row

if TYPE_CHECKING:
    from mamlcli.results import EvalResult
    from mamlcli.rows import KindRow

# Lines of the table; where there would be more, those of the K in the middle alone.
_MOST_LINES = 30
_LONGEST_NAME = 17


def kind_lines(result: "EvalResult") -> list[str]:
    """Say how the tasks of each kind fare, before adaptation and after the last step."""
    from mamlcli.meta_test.measure import over_seeds

    if not result.kinds:
        return []
    rows = over_seeds(result.kinds)
    last = max(row["inner_steps"] for row in rows)
    ends = {_where(row): row for row in rows if row["inner_steps"] == last}
    if len(ends) > _MOST_LINES:
        shots = sorted({row["shots"] for row in rows})
        ends = {at: row for at, row in ends.items() if row["shots"] == shots[len(shots) // 2]}
    begun = {_where(row): row for row in rows if row["inner_steps"] == 0}
    shown = [_line(begun[at], row, last) for at, row in ends.items()]
    title = f"query loss by kind of task (± is the 95% interval {rows[0]['interval']}):"
    return ["", *wrapped(title), format_table(shown, left=("kind", "model"))]


def _where(row: "KindRow") -> tuple[str, str, int]:
    return row["kind"], row.get("model", ""), row["shots"]


def _line(before: "KindRow", after: "KindRow", last: int) -> Row:
    has_model = "model" in after
    return {
        "kind": shorten(after["kind"], _LONGEST_NAME),
        "tasks": after["num_tasks"],
        **({"model": after["model"]} if has_model else {}),
        "K": after["shots"],
        "0 inner steps": with_interval(before["mean"], before["ci95"]),
        f"{last} inner step{'s' * (last != 1)}": with_interval(after["mean"], after["ci95"]),
        **({} if has_model else {"diverged": after["num_diverged"]}),
    }
