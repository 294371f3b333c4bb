"""The checkpoint that is meant: a file, or the newest whole one of a run."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import NamedTuple, TypeAlias

from mamlcli.config.experiment import Config
from mamlcli.errors import CheckpointError, UsageError
from mamlcli.results import ComparedRuns, Comparison, TrainResult
from mamlcli.runs.checkpoints import Checkpoint, check_experiment, load_checkpoint, use_newest
from mamlcli.runs.choosing import Purpose
from mamlcli.runs.folder import RunFolder, open_run
from mamlcli.runs.latest import latest_run
from mamlcli.runs.link import followed

RunLike: TypeAlias = str | PathLike[str] | TrainResult | None
"""A run folder, a checkpoint file, what `train` returned, or None for the run that finished last."""


class Located(NamedTuple):
    """A checkpoint that was found."""

    checkpoint: Checkpoint
    config: Config
    """How it is tested by itself: the config of its run, or of the file."""
    run: RunFolder | None
    """The run; None where a file was named."""


def locate(target: RunLike, note: Callable[[str], None], purpose: Purpose) -> Located:
    """Find the checkpoint that is meant.

    Args:
        target: A run folder, a checkpoint file, what `train` returned, or None for the run that finished last under
            `outputs/`.
        note: Hears which run that is, and of checkpoints that cannot be used.
        purpose: What the run is wanted for.

    Raises:
        UsageError: If the target is something else.
        CheckpointError: If the target is no run or checkpoint, or has none that can be used.
    """
    path = path_of(target)
    if path is not None and path.is_file():
        stray = load_checkpoint(path)
        return Located(stray, stray.config, None)
    named = None if path is None else followed(path)
    run = latest_run() if named is None else open_run(named, purpose=purpose)
    if named is None:
        note(f"{purpose.doing} the run that finished last: {run.path}")
    elif named != path:
        note(f"{path} is {run.path}")
    own = run.config()

    def load(path: Path) -> Checkpoint:
        checkpoint = load_checkpoint(path)
        check_experiment(checkpoint, own)
        return checkpoint

    found = use_newest(run.checkpoints, load, note)
    if found is None:
        raise CheckpointError(f"{run.path}: it has no checkpoint yet")
    return Located(found[0], own, run)


def path_of(run: RunLike) -> Path | None:
    """Where a run is; None for the one that finished last.

    Raises:
        UsageError: If it is no run.
    """
    match run:
        case None:
            return None
        case TrainResult():
            return run.run
        case str() | PathLike():
            return Path(run)
        case Comparison():
            raise UsageError("a comparison holds two runs: pass its runs['first'] or its runs['second']")
        case ComparedRuns():
            raise UsageError("a comparison holds several runs: pass the path of one of its runs")
    wanted = "a run is its folder, a checkpoint file, what train returned, or None for the one that finished last"
    raise UsageError(f"{wanted}; got {type(run).__name__}")
