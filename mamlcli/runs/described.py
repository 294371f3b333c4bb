"""A run in a row: what it is, how it stands, and the loss that it is known by. Loads no torch."""

import re
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from mamlcli.reading import read_file
from mamlcli.rows import RunRow
from mamlcli.runs.catalogue import Found, find_runs, status_of, steps_made
from mamlcli.runs.evaluated import read_evaluation
from mamlcli.runs.loose import count, listing, mapping, text

_MAX_CONFIG_BYTES = 2**18


def run_row(
    found: Found, shots: int | None = None, inner_steps: int | None = None, *, with_loss: bool = True
) -> RunRow:
    """Describe a run.

    Args:
        found: The run.
        shots: K of its loss; None takes the largest up to 10.
        inner_steps: Steps of adaptation before that loss; None takes as many as meta-training makes, or one where it
            makes none.
        with_loss: Whether its evaluation is read too, which takes the longest.
    """
    info, status = found.info, status_of(found)
    known = {} if found.problem is not None or "method" in info else _from_config(found.path)
    row: RunRow = {
        "run": str(found.path),
        "kind": info.get("kind"),
        "name": text(info.get("name") or known.get("name")),
        "method": text(info.get("method") or known.get("method")),
        "status": status,
        "problem": found.problem,
        "seeds": [seed for seed in listing(info.get("seeds")) if count(seed) is not None],
        "outer_steps": _steps(found, status),
        "steps": count(info.get("steps", known.get("steps"))),
        "started": text(info.get("started")),
        "wall_s": _wall_s(found, status),
        "shots": None,
        "inner_steps": None,
        "loss": None,
        "ci95": None,
        "evaluated_at_step": None,
        "inside": found.inside,
    }
    evaluation = read_evaluation(found.path) if with_loss and found.kind == "train" else None
    if evaluation is None:
        return row
    row["evaluated_at_step"] = evaluation.step
    trained = count(info.get("inner_steps", mapping(evaluation.measured.get("algorithm")).get("inner_steps")))
    if at := evaluation.at(shots, inner_steps, max(1, trained or 0)):
        row |= {"shots": at["shots"], "inner_steps": at["inner_steps"], "loss": at["mean"], "ci95": at["ci95"]}
    return row


def _steps(found: Found, status: str) -> int | None:
    """Meta-updates made; of a comparison of orders or a sweep as many as all its runs have; of others, no number.

    Of a sweep some may not have begun.
    """
    if found.problem is not None or found.kind in ("compare", "reproduce"):
        return None
    if found.kind == "train":
        return steps_made(found, status)
    parts = [one for one in find_runs(found.path, inside=True) if one.path != found.path and one.kind == "train"]
    if len(parts) < (count(found.info.get("members")) or 0):
        return 0
    return min((steps_made(one, status) for one in parts), default=0)


def _wall_s(found: Found, status: str) -> float | None:
    """Seconds that processes have worked on a run; of one that was killed until its last logged step."""
    info = found.info
    sessions = listing(info.get("sessions")) or [info]
    total = None
    for index, session in enumerate(sessions):
        begun, ended = _time(session.get("started")), _time(session.get("ended"))
        if ended is None and index == len(sessions) - 1:
            ended = _time(info.get("ended")) or _last_moment(found.path, status)
        if begun is not None and ended is not None:
            total = (total or 0.0) + max(0.0, (ended - begun).total_seconds())
    return total if total is None else round(total, 3)


def _last_moment(folder: Path, status: str) -> datetime | None:
    if status == "running":
        return datetime.now(UTC)
    with suppress(OSError):
        return datetime.fromtimestamp((folder / "metrics.jsonl").stat().st_mtime, UTC)
    return None


def _from_config(folder: Path) -> dict[str, Any]:
    """What a run of an earlier version does not say in run.json, from the sections of its config that hold it."""
    try:
        config = read_file(folder / "config.yaml", _MAX_CONFIG_BYTES).decode("utf-8", "replace")
    except OSError:
        return {}
    algorithm, outer, name = (_section(config, key) for key in ("algorithm", "outer", "name"))
    words = [f"{algorithm['order']}-order"] if isinstance(algorithm.get("order"), str) else []
    method = " ".join([*words, str(algorithm["name"])]) if "name" in algorithm else None
    return {"name": name.get("name"), "method": method, "steps": outer.get("steps")}


def _section(config: str, key: str) -> dict[str, Any]:
    """One key of the first level, as `maml` writes it: a value on its line, or a block below it."""
    found = re.search(rf"^{key}:(.*\n(?:[ -].*\n)*)", config, re.MULTILINE)
    try:
        value = yaml.load(found[0], _loader()) if found else {}
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    inside = mapping(value).get(key)
    return inside if isinstance(inside, dict) else {key: inside}


@cache
def _loader() -> Any:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _time(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
