"""What `maml runs show` and `maml runs diff` print."""

import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamlcli.cli.tables import SHOWN_STEPS, format_table, with_interval, wrapped
from mamlcli.escaping import visible
from mamlcli.plain import Row
from mamlcli.runs.catalogue import UNFINISHED

if TYPE_CHECKING:
    from mamlcli.results import RunDiff, RunShown
    from mamlcli.rows import CheckpointRow, RunRow, SessionRow

_MOST_SESSIONS, _MOST_FILES, _LONGEST = 5, 30, 60


def run_report(shown: "RunShown") -> str:
    """Say what a run is."""
    parts = [_head(shown.run), *_config_lines(shown)]
    parts += _session_lines(shown.sessions)
    if shown.inside:
        rows: list[Row] = [
            {"inside": Path(one["run"]).relative_to(shown.run["run"]).as_posix(), "status": one["status"]}
            | {"method": one["method"] or "", "steps": one["outer_steps"]}
            for one in shown.inside
        ]
        parts += ["", format_table(rows, left=("inside", "status", "method"))]
    parts += _checkpoint_lines(shown.checkpoints)
    if shown.evaluation:
        losses: list[Row] = [
            {
                "K": row["shots"],
                "inner steps": row["inner_steps"],
                "query loss": with_interval(row["mean"], row["ci95"]),
            }
            for row in shown.evaluation
            if row["inner_steps"] in SHOWN_STEPS
        ]
        at = shown.run["evaluated_at_step"]
        parts += ["", f"evaluated at step {at} (± is the 95% interval):", format_table(losses)]
    parts += ["", *_file_lines(shown)]
    return "\n".join([*parts, "", *_next_lines(shown)])


def _head(row: "RunRow") -> str:
    """The run in a few lines."""
    steps = "" if row["outer_steps"] is None else f" at step {row['outer_steps']}"
    of = f" of {row['steps']}" if steps and row["steps"] is not None else ""
    took = "" if row["wall_s"] is None else f", {duration(row['wall_s'])} of work"
    count = len(row["seeds"])
    seeds = f"{count} seed{'s' * (count != 1)}" if count else "seeds unknown"
    what = ", ".join(visible(one) for one in (row["name"], row["method"]) if one)
    began = "" if row["started"] is None else f"; begun {clock(row['started'])}"
    stands = f"{row['status']}: {row['problem']}" if row["problem"] else f"{row['status']}{steps}{of}{took}{began}"
    return "\n".join([visible(row["run"]), *([f"{what}, {seeds}"] if what else []), *wrapped(stands)])


def _config_lines(shown: "RunShown") -> list[str]:
    if shown.config_problem:
        return ["", *wrapped(f"its config cannot be read: {shown.config_problem}")]
    own = {key: value for key, value in shown.config.items() if key not in ("name", "seeds")}
    if not own:
        return []
    rows: list[Row] = [{"key": key, "value": _value(value)} for key, value in own.items()]
    return ["", "set in its config, all else is at its default:", *_indented(rows)]


def _session_lines(sessions: "Sequence[SessionRow]") -> list[str]:
    if not sessions:
        return []
    rows: list[Row] = [
        {
            "worked on": clock(one["started"]),
            "steps": _range(one["from_step"], one["to_step"]),
            "device": one["device"] or "",
            "threads": "" if one["threads"] is None else str(one["threads"]),
            "torch": one["versions"].get("torch", ""),
            "mamlcli": one["versions"].get("mamlcli", ""),
            "commit": _commit(one),
        }
        for one in sessions[-_MOST_SESSIONS:]
    ]
    more = len(sessions) - len(rows)
    earlier = [f"and {more} before"] if more else []
    return ["", format_table(rows, left=("worked on", "steps", "device", "torch", "mamlcli", "commit")), *earlier]


def _checkpoint_lines(checkpoints: "Sequence[CheckpointRow]") -> list[str]:
    if not checkpoints:
        return []
    rows: list[Row] = [
        {"checkpoint": f"step {one['step']}", "size": size(one["bytes"]), "": one["problem"] or "whole"}
        for one in checkpoints
    ]
    return ["", format_table(rows, left=("checkpoint", ""))]


def _file_lines(shown: "RunShown") -> list[str]:
    files = shown.files[:_MOST_FILES]
    rows: list[Row] = [{"file": _cut(one["path"]), "size": size(one["bytes"])} for one in files]
    more = len(shown.files) - len(files)
    return [format_table(rows, left=("file",)), *([f"and {more} more"] if more else [])] if rows else []


def _next_lines(shown: "RunShown") -> list[str]:
    """The commands that go on with a run, and evaluate it or, where that is done, make a page of it."""
    row = shown.run
    folder = shlex.quote(row["run"])
    if row["status"] == "damaged":
        return []
    if row["kind"] != "train":
        config = f"--config {folder}/config.yaml " if row["kind"] == "compare-orders" else ""
        if row["status"] in UNFINISHED:
            return [f"go on:     maml {row['kind']} {config}--resume {folder}"]
        return [f"a page:    maml report {folder}"] if row["status"] == "done" else []
    goes_on = [f"go on:     maml train --resume {folder}"] if row["status"] in UNFINISHED else []
    if row["evaluated_at_step"] is not None and row["evaluated_at_step"] == row["outer_steps"]:
        return [*goes_on, f"a page:    maml report {folder}"]
    return goes_on + ([f"evaluate:  maml eval {folder}"] if shown.checkpoints else [])


def diff_report(diff: "RunDiff") -> str:
    """Say what two runs differ in; they are called first and second."""
    first, second = diff.runs
    lines = [f"first   {_in_line(first)}", f"second  {_in_line(second)}"]
    for title, differences in (("config", diff.config), ("computed by", diff.environment)):
        rows: list[Row] = [
            {title: one["what"], "first": _value(one["values"][0]), "second": _value(one["values"][1])}
            for one in differences
        ]
        lines += ["", format_table(rows, left=(title, "first", "second")) if rows else f"{title}: no difference"]
    if diff.losses:
        losses: list[Row] = [
            {
                "K": row["shots"],
                "inner steps": row["inner_steps"],
                "first": with_interval(row["first"], row["first_ci95"]),
                "second": with_interval(row["second"], row["second_ci95"]),
            }
            for row in diff.losses
            if row["inner_steps"] in SHOWN_STEPS
        ]
        lines += ["", "query loss, ± its 95% interval; each by itself, not paired by task:", format_table(losses)]
    return "\n".join([*lines, *([""] if diff.notes else []), *(line for note in diff.notes for line in wrapped(note))])


def _in_line(row: "RunRow") -> str:
    return f"{visible(row['run'])} ({row['status']})"


def _value(value: Any) -> str:
    """A value as YAML writes it on a line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return _cut(f"[{', '.join(map(_value, value))}]")
    if isinstance(value, dict):
        return _cut("{" + ", ".join(f"{key}: {_value(one)}" for key, one in value.items()) + "}")
    return _cut(visible(str(value)))


def _indented(rows: Sequence[Row]) -> list[str]:
    width = max(len(row["key"]) for row in rows)
    return [f"  {row['key']:<{width}}  {row['value']}" for row in rows]


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}…{text[-_LONGEST // 2 :]}"


def _range(first: int | None, last: int | None) -> str:
    if first is None and last is None:
        return ""
    return f"{'?' if first is None else first} to {'?' if last is None else last}"


def _commit(session: "SessionRow") -> str:
    return "" if session["commit"] is None else session["commit"][:7] + ("+" if session["dirty"] else "")


def clock(moment: str | None) -> str:
    """A moment to the minute, in UTC.

    >>> clock("2026-11-26T01:54:47.123456+00:00")
    '2026-11-26 01:54'
    """
    try:
        return "" if moment is None else f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M}"
    except ValueError:
        return visible(str(moment))[:16]


def duration(seconds: float) -> str:
    """How long something took.

    >>> [duration(seconds) for seconds in (0.4, 75, 7260, 200000)]
    ['0.4 s', '1 min 15 s', '2 h 1 min', '2 d 7 h']
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    index = next(index for index, (_, size) in enumerate(units) if seconds >= size)
    (big, one), (little, other) = units[index], units[index + 1]
    return f"{int(seconds // one)} {big} {int(seconds % one // other)} {little}"


def size(count: int) -> str:
    """A size in the unit that suits it.

    >>> [size(count) for count in (0, 900, 1536, 3 * 2**20)]
    ['0 B', '900 B', '1.5 KiB', '3.0 MiB']
    """
    for unit, one in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count} B"
