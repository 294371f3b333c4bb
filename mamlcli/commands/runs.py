"""`maml runs`: which runs there are, what one is, and what two differ in. Loads no torch."""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from mamlcli.config.changes import changes, not_default
from mamlcli.config.experiment import Config
from mamlcli.config.file import load_config
from mamlcli.config.reference import known_keys
from mamlcli.errors import CheckpointError, ConfigError, Remedy, UsageError
from mamlcli.results import RunDiff, RunList, RunShown
from mamlcli.rows import CheckpointRow, Difference, FileRow, LossPair, LossRow, RunRow, SessionRow
from mamlcli.runs.catalogue import Found, find_runs, started, status_of
from mamlcli.runs.checkpoint_files import damage, list_checkpoints, step_of
from mamlcli.runs.choosing import Purpose, no_run
from mamlcli.runs.described import run_row
from mamlcli.runs.evaluated import Evaluation, read_evaluation
from mamlcli.runs.info import OUTPUTS, UNRANKED
from mamlcli.runs.loose import count, flag, listing, mapping, text
from mamlcli.runs.pointed import FolderLike, folder_of

SortKey: TypeAlias = Literal["started", "name", "loss", "steps"]
STATUSES = ("running", "done", "interrupted", "killed", "diverged", "failed", "stopped", UNRANKED, "damaged")
_SHOWING = Purpose("showing", Remedy("mamlcli.show_run({run!r})", "maml runs show {run}"))
_COMPARING = Purpose("comparing", Remedy("mamlcli.diff_runs({run!r}, ...)", "maml runs diff {run} OTHER"))
_ENVIRONMENT = ("device", "device_name", "threads", "compiled", "inner_update", "commit", "dirty")
# Evaluated under other settings in one of these sections, losses are not of the same tasks.
_MEASURED = ("tasks", "evaluation")


def list_runs(
    root: str | Path = OUTPUTS,
    *,
    name: str | None = None,
    status: Sequence[str] = (),
    method: str | None = None,
    sort: SortKey = "started",
    reverse: bool = False,
    limit: int | None = None,
    inside: bool = False,
    shots: int | None = None,
    inner_steps: int | None = None,
) -> list[RunRow]:
    """List the runs in a folder, those begun last first.

    Args:
        root: The folder.
        name: Keep experiments of this name, or whose name has it in it; with `*` and `?` as in a shell.
        status: Keep runs that stand so, like `("done",)`; all if empty.
        method: Keep runs of methods that have this in their title.
        sort: By what: when they were `started` (last first), their `name`, their `loss` (least first; what has none
            comes last), or the `steps` they have made (most first).
        reverse: The other way around.
        limit: How many at most, >= 0; all if None.
        inside: Also the runs inside comparisons and reproductions, and those that were moved aside.
        shots: K of the loss; None takes the largest up to 10 that was measured.
        inner_steps: Steps of adaptation before it; None takes as many as meta-training makes, one where it makes none.

    Returns:
        A row for each, as in `maml runs ls --json`. A folder that is damaged is one of them, and says why.

    Raises:
        UsageError: If the folder is not there, or a choice is none.
    """
    return find_rows(
        root,
        name=name,
        status=status,
        method=method,
        sort=sort,
        reverse=reverse,
        limit=limit,
        inside=inside,
        shots=shots,
        inner_steps=inner_steps,
    ).runs


def find_rows(
    root: str | Path,
    *,
    name: str | None,
    status: Sequence[str],
    method: str | None,
    sort: SortKey,
    reverse: bool,
    limit: int | None,
    inside: bool,
    shots: int | None,
    inner_steps: int | None,
) -> RunList:
    """The same, with how many there are in all; only what is returned is read in full, where that suffices."""
    root = Path(root)
    _check(root, status, sort)
    found = [one for one in find_runs(root, inside=inside) if not status or status_of(one) in status]
    found.sort(key=started, reverse=True)
    if name is not None or method is not None or sort != "started":
        rows = [(one, run_row(one, shots, inner_steps, with_loss=sort == "loss")) for one in found]
        rows = [(one, row) for one, row in rows if _is_named(row, name) and _is_of(row, method)]
        found = [one for one, _ in _sorted(rows, sort)]
    if reverse:
        found = found[::-1]
    return RunList(root=root, total=len(found), runs=[run_row(one, shots, inner_steps) for one in found[:limit]])


def _check(root: Path, status: Sequence[str], sort: str) -> None:
    if not root.is_dir() and root != OUTPUTS:
        raise UsageError(f"{root}: there is no such folder")
    for one in status:
        if one not in STATUSES:
            raise UsageError(f"no run's status is {one!r}; there are: {', '.join(STATUSES)}")
    if sort not in get_args(SortKey):
        raise UsageError(f"runs are not sorted by {sort!r}; by: {', '.join(get_args(SortKey))}")


def _is_named(row: RunRow, pattern: str | None) -> bool:
    if pattern is None:
        return True
    name = row["name"] or ""
    return fnmatchcase(name, pattern) if any(letter in pattern for letter in "*?[") else pattern in name


def _is_of(row: RunRow, method: str | None) -> bool:
    return (method or "").lower() in (row["method"] or "").lower()


def _sorted(rows: list[tuple[Found, RunRow]], sort: SortKey) -> list[tuple[Found, RunRow]]:
    """Sort what comes with the newest first, and stays so where the rest is equal."""
    keys: dict[SortKey, Callable[[RunRow], Any]] = {
        "started": lambda _: 0,
        "name": lambda row: row["name"] or "",
        "steps": lambda row: -(row["outer_steps"] or 0),
        "loss": lambda row: (row["loss"] is None, row["loss"] or 0.0),
    }
    return sorted(rows, key=lambda pair: keys[sort](pair[1]))


def show_run(run: FolderLike) -> RunShown:
    """Say what a run is: its config, how it stands, who worked on it, its checkpoints, evaluation and files.

    Args:
        run: Its folder, of a training, a comparison or a reproduction; one that is damaged is shown as far as it can.

    Raises:
        CheckpointError: If it is none; it names the runs that are below it.
    """
    found = _found(run, _SHOWING)
    config = _config(found)
    evaluation = read_evaluation(found.path)
    inside = [one for one in find_runs(found.path, inside=True) if one.path != found.path]
    return RunShown(
        run=run_row(found),
        config=not_default(config) if isinstance(config, Config) else {},
        config_problem=config if isinstance(config, str) else None,
        sessions=_sessions(found),
        checkpoints=_checkpoints(found.path / "checkpoints"),
        evaluation=_losses(evaluation),
        inside=[run_row(one) for one in sorted(inside, key=lambda one: one.path)],
        files=_files(found.path, [one.path for one in inside]),
    )


def diff_runs(first: FolderLike, second: FolderLike) -> RunDiff:
    """Say what two runs differ in: their configs, what computed them, and their losses side by side.

    Raises:
        CheckpointError: If one is no run; it names the runs that are below it.
    """
    both = [_found(run, _COMPARING) for run in (first, second)]
    configs = [_config(found) for found in both]
    notes = [f"{one.path}: {config}" for one, config in zip(both, configs, strict=True) if isinstance(config, str)]
    evaluations = [read_evaluation(found.path) for found in both]
    notes += [f"{one.path}: not evaluated" for one, by in zip(both, evaluations, strict=True) if by is None]
    pairs = _pairs(*evaluations)
    if pairs and _measured(evaluations[0]) != _measured(evaluations[1]):
        notes.append("they were evaluated under other settings: the losses are not of the same tasks")
    one, other = configs
    return RunDiff(
        runs=[run_row(found) for found in both],
        config=_config_differences(one, other) if isinstance(one, Config) and isinstance(other, Config) else [],
        environment=_environment_differences(*(_sessions(found) for found in both)),
        losses=pairs,
        notes=notes,
    )


def _found(run: FolderLike, purpose: Purpose) -> Found:
    path = folder_of(run)
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such run folder")
    here = next((one for one in find_runs(path, inside=True) if one.path == path), None)
    if here is None:
        raise no_run(path, purpose)
    return here


def _config(found: Found) -> Config | str | None:
    """The config of a run, or what is wrong with it; None for what has none of its own."""
    if found.kind in ("compare", "reproduce"):
        return None
    try:
        return load_config(found.path / "config.yaml")
    except ConfigError as error:
        return error.problems[0]


def _sessions(found: Found) -> list[SessionRow]:
    return [_session(one) for one in found.info.get("sessions") or []]


def _session(said: Mapping[str, Any]) -> SessionRow:
    git, versions = mapping(said.get("git")), mapping(said.get("versions"))
    return {
        "started": text(said.get("started")),
        "ended": text(said.get("ended")),
        "from_step": count(said.get("from_step")),
        "to_step": count(said.get("to_step")),
        "device": text(said.get("device")),
        "device_name": text(said.get("device_name")),
        "threads": count(said.get("threads")),
        "compiled": flag(said.get("compiled")),
        "inner_update": text(said.get("inner_update")),
        "commit": text(git.get("commit")),
        "dirty": flag(git.get("dirty")),
        "versions": {str(name): str(version) for name, version in versions.items()},
        "command": [str(one) for one in listing(said.get("argv"))],
    }


def _checkpoints(folder: Path) -> list[CheckpointRow]:
    return [
        {"step": step_of(path), "bytes": path.stat().st_size, "problem": damage(path)}
        for path in list_checkpoints(folder)
    ]


def _files(folder: Path, inside: Sequence[Path]) -> list[FileRow]:
    """The files of a run by name, less those that begin with a dot."""
    others = {folder / "checkpoints", *inside}
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    return [
        {"path": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size}
        for path in paths
        if others.isdisjoint(path.parents)
    ]


def _losses(evaluation: Evaluation | None) -> list[LossRow]:
    rows = [] if evaluation is None else evaluation.rows
    return [{name: row[name] for name in ("shots", "inner_steps", "mean", "ci95")} for row in rows]  # type: ignore[misc]


def _pairs(first: Evaluation | None, second: Evaluation | None) -> list[LossPair]:
    other = {(row["shots"], row["inner_steps"]): row for row in _losses(second)}
    return [
        {
            "shots": row["shots"],
            "inner_steps": row["inner_steps"],
            "first": row["mean"],
            "first_ci95": row["ci95"],
            "second": beside["mean"],
            "second_ci95": beside["ci95"],
        }
        for row in _losses(first)
        if (beside := other.get((row["shots"], row["inner_steps"])))
    ]


def _measured(evaluation: Evaluation | None) -> list[Any]:
    return [] if evaluation is None else [evaluation.measured.get(name) for name in _MEASURED]


def _config_differences(first: Config, second: Config) -> list[Difference]:
    """The keys that differ; a key that one of them does not have is said as "absent"."""
    keys = [set(known_keys(one)) for one in (first, second)]
    return [
        {"what": key, "values": tuple(v if key in own else ABSENT for v, own in zip(values, keys, strict=True))}  # type: ignore[typeddict-item]
        for key, values in changes(first, second).items()
        if key != "name"
    ]


def _environment_differences(first: Sequence[SessionRow], second: Sequence[SessionRow]) -> list[Difference]:
    if not first or not second:
        return []
    one, other = _flat(first[-1]), _flat(second[-1])
    keys = dict.fromkeys((*one, *other))
    return [{"what": key, "values": (one.get(key), other.get(key))} for key in keys if one.get(key) != other.get(key)]


def _flat(session: SessionRow) -> dict[str, Any]:
    named = {name: session[name] for name in _ENVIRONMENT}  # type: ignore[literal-required]
    return named | {f"versions.{name}": version for name, version in session["versions"].items()}


ABSENT = "absent"
"""Said of a key that a run's family, model or method does not have."""
