"""The trackers of one run: opened from what its folder holds, told what is new, and left behind where they fail."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Self

from mamlcli.config.changes import flat
from mamlcli.config.experiment import Config
from mamlcli.config.file import dump_config
from mamlcli.errors import MamlError, Remedy, RunFolderError, UsageError
from mamlcli.reading import read_file
from mamlcli.reporting import Reporter
from mamlcli.runs.files import read_json
from mamlcli.runs.folder import RunFolder
from mamlcli.trackers.destination import About, Place
from mamlcli.trackers.process import Process
from mamlcli.trackers.scalars import evaluation_scalars, training_scalars
from mamlcli.types import Row

FOLDERS = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlruns"}
"""Each tracker's folder in a run's."""
_MAX_BYTES = 2**28


def check_installed(config: Config) -> None:
    """Raise UsageError if a package is missing that a config logs with."""
    missing = [name for name in config.run.log_to if (spec := find_spec(name)) is None or spec.origin is None]
    if missing:
        install = f"pip install 'mamlcli[{','.join(missing)}]'"
        raise UsageError(f"run.log_to: {' and '.join(missing)} not installed", Remedy(install, install))


class Trackers:
    """Those of `run.log_to`; without any, all of this does nothing. None of it raises, whatever a tracker does."""

    def __init__(self, run: RunFolder, config: Config, reporter: Reporter) -> None:
        self.run, self.config, self.reporter = run, config, reporter
        self.processes: dict[str, Process] = {}
        self.started = 0.0
        self.step = 0
        self.drawn: dict[Path, int] = {}

    def open(self) -> None:
        """Start them, and tell them what the run folder holds."""
        names = self.config.run.log_to
        if not names:
            return
        try:
            self.started = datetime.fromisoformat(self.run.read_info()["started"]).timestamp()
            history = [*_training(self.run, self.started), *_evaluation(self.run)]
            self.step = max((place.step for place, _ in history if place.axis == "outer_step"), default=0)
        except Exception as error:
            self.reporter.note(f"warning: nothing is logged to {' and '.join(names)}: {error}")
            return
        for name in names:
            self._try(name, lambda name=name: self._start(name))  # type: ignore[misc]
        for place, values in history:
            self._each(lambda process, place=place, values=values: process.scalars(place, values))  # type: ignore[misc]
        self.figures()
        if self.processes:
            folders = ", ".join(f"{FOLDERS[name]}/" for name in self.processes)
            self.reporter.note(f"logging to {folders} in the run folder too")

    def log(self, rows: Sequence[Row]) -> None:
        """Tell them the rows of a logged step, as in metrics.jsonl."""
        if self.processes:
            self.step = rows[0]["step"]
            place, values = _place(rows, self.started), training_scalars(rows)
            self._each(lambda process: process.scalars(place, values))

    def figures(self) -> None:
        """Hand them the figures of the run folder that are new, or have been drawn again."""
        for path in sorted(self.run.path.glob("*.png")) if self.processes else []:
            with suppress(OSError):
                at = path.stat().st_mtime_ns
                if self.drawn.get(path) != at:
                    self.drawn[path] = at
                    place = Place("outer_step", self.step, at / 1e9)
                    self._each(lambda process, place=place, path=path: process.figure(place, path))  # type: ignore[misc]

    def close(self, status: str) -> None:
        """Wait until they are done.

        Args:
            status: How the run ended, as in run.json.
        """
        self._each(lambda process: process.close(status=status))
        self.processes.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        by_kind = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        self.close("done" if kind is None else error.status if isinstance(error, MamlError) else by_kind)

    def _start(self, name: str) -> None:
        config, info = self.config, self.run.read_info()
        about = About(
            folder=(self.run.path / FOLDERS[name]).absolute(),
            experiment=config.name,
            run=self.run.path.absolute().name,
            run_id=f"{config.name[:40]}-{hashlib.sha256(str(info['started']).encode()).hexdigest()[:8]}",
            started=self.started,
            config={key: _plain(value) for key, value in flat(config.model_dump()).items()},
            yaml=dump_config(config),
        )
        self.processes[name] = Process(name, about)

    def _each(self, act: Callable[[Process], None]) -> None:
        for name, process in list(self.processes.items()):
            self._try(name, lambda process=process: act(process))  # type: ignore[misc]

    def _try(self, name: str, act: Callable[[], None]) -> None:
        """Do something with a tracker; one that fails is said, and left behind."""
        try:
            act()
        except BaseException as error:
            if process := self.processes.pop(name, None):
                process.stop()
            if not isinstance(error, Exception):
                raise
            self.reporter.note(f"warning: logging to {name} has ended: {error}; metrics.jsonl goes on and has it all")


def mirror(run: RunFolder, reporter: Reporter) -> None:
    """Make the trackers of a run that is not being trained show what its folder holds by now."""
    config = run.config()
    if not config.run.log_to:
        return
    trackers = Trackers(run, config, reporter)
    try:
        with run.locked():
            trackers.open()
            trackers.close(run.read_info().get("status", "failed"))
    except RunFolderError as error:
        reporter.note(f"warning: the evaluation is not logged to {' and '.join(config.run.log_to)} yet: {error}")


def _training(run: RunFolder, started: float) -> Iterator[tuple[Place, dict[str, float]]]:
    for _, group in groupby(run.metrics.read(), key=lambda row: row["step"]):
        rows = list(group)
        yield _place(rows, started), training_scalars(rows)


def _place(rows: Sequence[Row], started: float) -> Place:
    return Place("outer_step", rows[0]["step"], started + (rows[0].get("wall_s") or 0.0))


def _evaluation(run: RunFolder) -> Iterator[tuple[Place, dict[str, float]]]:
    """The run's own evaluation, if there is one that can be read."""
    path = run.path / "evaluation.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        at = path.stat().st_mtime
        for steps, values in evaluation_scalars(read_json(read_file(path, _MAX_BYTES))["results"]).items():
            yield Place("inner_steps", steps, at), values


def _plain(value: object) -> str | float | int | bool:
    """A value of a config as every tracker can hold it."""
    return value if isinstance(value, str | float | int) else "null" if value is None else str(_listed(value))


def _listed(value: object) -> object:
    return [_listed(item) for item in value] if isinstance(value, tuple | list) else value
