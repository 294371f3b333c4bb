"""All that a run folder holds, as values: for a page, which is made of them alone."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from mamlcli.config.experiment import Config
from mamlcli.errors import CheckpointError
from mamlcli.figures.drawing import Drawing
from mamlcli.reading import read_file
from mamlcli.results import ComparedRuns, Comparison, EvalResult, Reproduction, Result, Sweep
from mamlcli.runs.data_record import NAME as TASKS
from mamlcli.runs.drawings import drawings, read_drawing
from mamlcli.runs.files import read_json
from mamlcli.runs.folder import RunFolder
from mamlcli.runs.info import KINDS
from mamlcli.runs.lock import is_held
from mamlcli.types import ORDERS, Row

_MAX_BYTES = 2**28
_MAX_CONFIG_BYTES = 2**20
_MOST_ENTRIES = 200
_Result = TypeVar("_Result", bound=Result)


class Plot(NamedTuple):
    """A figure of a run."""

    stem: str
    """Of its files' names."""
    drawing: Drawing | None
    """What draws it again; None for one that is drawn by a method of a user's own."""
    png: Path | None
    """None where it is not written."""


class Entry(NamedTuple):
    """A file of a run, or one of its folders as a whole."""

    name: str
    """From the run folder on; a folder's ends with a slash."""
    files: int
    size: int
    """In bytes."""


class Contents(NamedTuple):
    """What a run folder holds at one moment."""

    path: Path
    kind: str
    info: dict[str, Any]
    """run.json."""
    is_held: bool
    """Whether a process works in it: of a run that says it is running, False if that process was killed."""
    config: Config | None
    """None where it cannot be read, as without a plugin that it needs."""
    config_text: str
    """config.yaml, as it stands there; empty where there is none."""
    metrics: list[Row]
    evaluations: dict[str, EvalResult]
    """By folder, "." for the run's own settings, which comes first."""
    comparison: Comparison | None
    """Of both orders."""
    compared: ComparedRuns | None
    reproduction: Reproduction | None
    sweep: Sweep | None
    parts: "dict[str, Contents]"
    """The runs inside, by name: of a comparison one for each order, or one for each that it trained."""
    plots: list[Plot]
    tasks: dict[str, Any] | None
    """tasks.json: what is known of the data."""
    entries: list[Entry]
    problems: list[str]
    """What is there and cannot be read, in words."""


def read_contents(path: Path) -> Contents:
    """Read a run folder of any kind, finished or not.

    Raises:
        CheckpointError: If it is none.
    """
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such run folder")
    run = RunFolder(path)
    info = run.read_info()
    kind = info.get("kind")
    if kind not in KINDS:
        raise CheckpointError(f"{path}: not a run: run.json does not say what made it")
    problems: list[str] = []
    text, config = _config(run, problems)
    comparison = path / "comparison.json"
    return Contents(
        path=path,
        kind=kind,
        info=info,
        is_held=info.get("status") == "running" and is_held(path),
        config=config,
        config_text=text,
        metrics=run.metrics.read(),
        evaluations=_evaluations(path, problems),
        comparison=_result(Comparison, comparison, problems) if kind == "compare-orders" else None,
        compared=_result(ComparedRuns, comparison, problems) if kind == "compare" else None,
        reproduction=_result(Reproduction, path / "reproduction.json", problems),
        sweep=_result(Sweep, path / "sweep.json", problems),
        parts={inside.name: read_contents(inside) for inside in _parts(path, kind)},
        plots=_plots(path, problems),
        tasks=_object(path / TASKS, problems),
        entries=_entries(path),
        problems=problems,
    )


def _parts(path: Path, kind: str) -> list[Path]:
    """The folders of the runs that a comparison has trained itself, as far as they are there."""
    inside = [path / order for order in ORDERS] if kind == "compare-orders" else []
    if kind == "compare":
        inside = sorted(path.glob("runs/*"))
    return [folder for folder in inside if (folder / "run.json").exists()]


def signature(path: Path) -> tuple[tuple[str, int, int], ...]:
    """What changes when anything in a run folder does: names, times and sizes of its files."""
    found = []
    for file in sorted(path.rglob("*")):
        with suppress(OSError):  # it was there a moment ago
            if not _is_passing(file) and file.is_file():
                found.append((str(file), (state := file.stat()).st_mtime_ns, state.st_size))
    return tuple(found)


def _is_passing(file: Path) -> bool:
    """Whether a file is about to get its name, or is a lock."""
    return file.name.startswith(".")


def _config(run: RunFolder, problems: list[str]) -> tuple[str, Config | None]:
    if not (run.path / "config.yaml").exists():
        return "", None
    try:
        text = read_file(run.path / "config.yaml", _MAX_CONFIG_BYTES).decode()
    except (OSError, ValueError) as error:
        problems.append(f"config.yaml: cannot be read: {error}")
        return "", None
    try:
        return text, run.config()
    except CheckpointError as error:
        problems.append(str(error))
        return text, None


def _object(path: Path, problems: list[str]) -> dict[str, Any] | None:
    """A JSON object; None where there is none."""
    if not path.exists():
        return None
    try:
        found = read_json(read_file(path, _MAX_BYTES))
    except (OSError, ValueError) as error:
        problems.append(f"{path.name}: cannot be read: {error}")
        return None
    if not isinstance(found, dict):
        problems.append(f"{path.name}: it holds no object")
        return None
    return found


def _result(model: type[_Result], path: Path, problems: list[str]) -> _Result | None:
    """What a command found and wrote, less what it only printed."""
    found = _object(path, problems)
    if found is None:
        return None
    if "figures" in model.model_fields:
        found |= {"figures": []}
    try:
        return model.model_validate_json(json.dumps(found))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        problems.append(f"{path.name}: not what this version writes: {where}: {first['msg']}".replace(": : ", ": "))
        return None


def _evaluations(path: Path, problems: list[str]) -> dict[str, EvalResult]:
    """Evaluations by the folder that they are in: the run's own, then those by other settings."""
    files = [path / "evaluation.json", *sorted(path.glob("evaluation*/**/evaluation.json"))]
    found = {str(file.parent.relative_to(path)): _result(EvalResult, file, problems) for file in files}
    return {name: result for name, result in found.items() if result is not None}


def _plots(path: Path, problems: list[str]) -> list[Plot]:
    """The figures of a folder: those that can be drawn again, and those that are only there as they were drawn."""
    again = drawings(path)
    pictures = {file.stem: file for file in sorted(path.glob("*.png"))}
    plots = []
    for stem in dict.fromkeys((*again, *pictures)):
        drawing = None
        if stem in again:
            try:
                drawing = read_drawing(again[stem])
            except CheckpointError as error:
                problems.append(str(error))
        plots.append(Plot(stem, drawing, pictures.get(stem)))
    return plots


def _entries(path: Path) -> list[Entry]:
    entries = []
    for one in sorted(path.iterdir(), key=lambda one: (one.is_dir(), one.name))[:_MOST_ENTRIES]:
        with suppress(OSError):
            if not _is_passing(one):
                inside = [file.stat().st_size for file in one.rglob("*") if file.is_file()] if one.is_dir() else []
                is_folder = one.is_dir()
                size = sum(inside) if is_folder else one.stat().st_size
                entries.append(Entry(f"{one.name}/" if is_folder else one.name, len(inside) if is_folder else 1, size))
    return entries
