"""One run's folder, which appears whole, is written by one process at a time, and explains itself."""

import secrets
import shutil
import sys
from contextlib import AbstractContextManager, ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mamlcli.config.experiment import Config
from mamlcli.config.file import dump_config, load_config
from mamlcli.errors import CheckpointError, ConfigError, Remedy, RunFolderError
from mamlcli.runs.choosing import Purpose, no_run, of_another_kind
from mamlcli.runs.files import csv_text, flush_folder, json_text, write_atomic
from mamlcli.runs.info import KINDS, OUTPUTS, are_objects, read_info
from mamlcli.runs.link import move_on
from mamlcli.runs.lock import locked
from mamlcli.runs.provenance import by_an_earlier_version
from mamlcli.runs.row_log import RowLog

if TYPE_CHECKING:
    from mamlcli.figures.drawing import Drawing


class RunFolder(NamedTuple):
    """A folder with config.yaml, run.json, metrics.jsonl, checkpoints/ and what commands add."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> RowLog:
        """The metrics: a row for each seed and logged step."""
        return RowLog(self.path / "metrics.jsonl")

    @property
    def cosines(self) -> RowLog:
        """Of a comparison: the cosines between both meta-gradients."""
        return RowLog(self.path / "cosines.jsonl")

    def config(self) -> Config:
        """Read the resolved config."""
        try:
            return load_config(self.path / "config.yaml")
        except ConfigError as error:
            lines = [f"{self.path}: not a run that can be used: " + "\n".join(error.problems)]
            lines += [by_an_earlier_version()] if error.has_foreign_keys else []
            is_there = (self.path / "config.yaml").exists()
            remedy = (self._plugins_remedy() or error.remedy) if is_there else None
            raise CheckpointError("\n".join(lines), remedy) from None

    def _plugins_remedy(self) -> Remedy | None:
        """Name the plugins that a run was trained with, none of which it imports."""
        with suppress(CheckpointError):
            plugins = self.read_info().get("plugins", [])
            names = [str(one.get("name")) for one in plugins] if are_objects(plugins) else []
            if names:
                return Remedy(
                    f"it was trained with load_plugins({names})",
                    f"it was trained with {' '.join(f'--plugin {name}' for name in names)}",
                )
        return None

    def read_info(self) -> dict[str, Any]:
        """Read run.json."""
        return read_info(self.path)

    def write_info(self, info: dict[str, Any]) -> None:
        """Replace run.json."""
        self.write_text("run.json", json_text(info))

    def write_text(self, name: str, text: str) -> Path:
        """Write a file whole or not at all."""
        write_atomic(self.path / name, text.encode())
        return self.path / name

    def save_figure(self, stem: str, drawing: "Drawing") -> Path:
        """Write a figure as PNG and SVG, the data behind it as CSV, and what draws it again; returns the PNG."""
        from mamlcli.runs.drawings import DRAWING, write_drawing
        from mamlcli.runs.named import write_figure

        figure = drawing.drawn()
        self.write_text(f"{stem}.csv", csv_text(drawing.rows))
        write_drawing(self.path / f"{stem}{DRAWING}", drawing)
        for suffix in ("png", "svg"):
            write_figure(self.path / f"{stem}.{suffix}", figure)
            figure.set_layout_engine("none")  # what is laid out once stays so: that takes as long as drawing
        return self.path / f"{stem}.png"

    def locked(self) -> AbstractContextManager[None]:
        """Hold the folder for this process; the lock ends with the process, however it ends.

        Raises:
            RunFolderError: If another process holds it, or has just put another folder in its place.
        """
        return locked(self.path)


def default_path(name: str) -> Path:
    """A new folder's path: the experiment's name, the UTC time and four random hex digits."""
    return OUTPUTS / name / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def create_run(path: Path, config: Config, info: dict[str, Any], held: ExitStack) -> RunFolder:
    """Make a run folder with its config and run.json, whole or not at all, and hold it for this process.

    Args:
        path: The folder to make; parents are made too.
        config: The resolved config.
        info: What run.json says.
        held: The folder is held until this ends.

    Raises:
        RunFolderError: If the folder exists, or cannot be made.
    """
    if path.exists():
        raise _exists(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        (temporary / "checkpoints").mkdir(parents=True)
        run = RunFolder(temporary)
        run.write_text("config.yaml", dump_config(config))
        run.write_info(info)
        _put_in_place(run, path, info, held)
        flush_folder(path.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        refusal = RunFolderError(f"{path}: cannot make it: {error.strerror or error}")
        raise _exists(path) if path.exists() else refusal from None
    return RunFolder(path)


def _put_in_place(made: RunFolder, path: Path, info: dict[str, Any], held: ExitStack) -> None:
    """Give a folder its name, and hold it; fails if another process made one meanwhile: a run's is never empty."""
    if sys.platform != "win32":
        # The lock is there before the folder appears: nobody can move it aside or continue it in between.
        held.enter_context(made.locked())
        made.path.rename(path)
        return
    # Windows renames no folder in which a file is open, as the lock's is. So it is taken as soon as the folder is
    # there; who was faster is at work in it, or has moved it aside and made another.
    made.path.rename(path)
    held.enter_context(RunFolder(path).locked())
    if RunFolder(path).read_info() != info:
        raise RunFolderError(f"{path}: another process is working in this folder")


def _exists(path: Path) -> RunFolderError:
    """Say what can be done about a folder that is there already; a run could be continued, and is never lost."""
    if not _is_ours(path):
        return RunFolderError(f"{path} exists already and is no run; name another folder")
    remedy = Remedy(
        "pass overwrite=True to move it aside, or resume=True to continue it",
        "use --overwrite to move it aside, or --resume to continue it",
    )
    return RunFolderError(f"{path} exists already", remedy)


def _is_ours(path: Path) -> bool:
    """Whether a path is a folder that a command of ours made."""
    try:
        return RunFolder(path).read_info().get("kind") in KINDS
    except CheckpointError:
        return False


def move_aside(path: Path) -> Path | None:
    """Give a run's folder the name `<name>.old-<time>`; nothing is ever deleted.

    Returns:
        Where it is now; None if there was nothing.

    Raises:
        RunFolderError: If what is there is no run, a process is working in it, or it cannot be moved.
    """
    if not path.exists():
        return None
    if not _is_ours(path):
        raise RunFolderError(f"{path}: cannot move it aside: it is no run; name another folder")
    if Path.cwd().is_relative_to(path.resolve()):
        raise RunFolderError(f"{path}: cannot move it aside: the working directory is in it")
    aside = path.with_name(f"{path.name}.old-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    try:
        with RunFolder(path).locked():
            if sys.platform != "win32":
                path.rename(aside)
        if sys.platform == "win32":  # which renames no folder in which a file is open: neither ours, nor another's
            path.rename(aside)
    except RunFolderError:
        raise
    except OSError as error:
        raise RunFolderError(f"{path}: cannot move it aside: {error.strerror}") from None
    move_on(path)
    return aside


def check_new(path: Path) -> None:
    """Refuse what is there already, before work is done for it.

    Raises:
        RunFolderError: If it is.
    """
    if path.exists():
        raise RunFolderError(f"{path} exists already; name a new folder")


def make_folder(path: Path, *, may_exist: bool) -> RunFolder:
    """Make a folder for results.

    Raises:
        RunFolderError: If it exists and may not, or cannot be made.
    """
    if not (may_exist and path.is_dir()):
        check_new(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot make it: {error.strerror}") from None
    return RunFolder(path)


def open_run(path: Path, kind: str = "train", purpose: Purpose | None = None) -> RunFolder:
    """Open an existing run folder.

    Args:
        path: The folder.
        kind: What made it, one of `mamlcli.runs.info.KINDS` that keep a config.
        purpose: What it is wanted for, so that an error can say how to ask for another.

    Raises:
        CheckpointError: If it is none, or one of another kind; it names the runs that are below it.
    """
    run = RunFolder(path)
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such run folder")
    if not (path / "run.json").exists():
        raise no_run(path, purpose)
    if (found := run.read_info().get("kind")) != kind:
        raise of_another_kind(path, kind, found, purpose)
    if not (path / "config.yaml").exists():
        raise no_run(path, purpose)
    return run
