"""The checkpoint that is meant: a file, or the newest whole one of a run."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mamlcli.config.experiment import Config
from mamlcli.errors import CheckpointError
from mamlcli.runs.checkpoints import Checkpoint, check_experiment, load_checkpoint, use_newest
from mamlcli.runs.choosing import Purpose
from mamlcli.runs.folder import RunFolder, open_run
from mamlcli.runs.latest import latest_run
from mamlcli.runs.link import followed


class Located(NamedTuple):
    """A checkpoint that was found."""

    checkpoint: Checkpoint
    config: Config
    """How it is tested by itself: the config of its run, or of the file."""
    run: RunFolder | None
    """The run; None where a file was named."""


def locate(target: str | Path | None, note: Callable[[str], None], purpose: Purpose) -> Located:
    """Find the checkpoint that is meant.

    Args:
        target: A run folder, a checkpoint file, or None for the run that finished last under `outputs/`.
        note: Hears which run that is, and of checkpoints that cannot be used.
        purpose: What the run is wanted for.

    Raises:
        CheckpointError: If the target is no run or checkpoint, or has none that can be used.
    """
    if target is not None and Path(target).is_file():
        stray = load_checkpoint(Path(target))
        return Located(stray, stray.config, None)
    named = None if target is None else followed(Path(target))
    run = latest_run() if named is None else open_run(named, purpose=purpose)
    if named is None:
        note(f"{purpose.doing} the run that finished last: {run.path}")
    elif named != Path(str(target)):
        note(f"{target} is {run.path}")
    own = run.config()

    def load(path: Path) -> Checkpoint:
        checkpoint = load_checkpoint(path)
        check_experiment(checkpoint, own)
        return checkpoint

    found = use_newest(run.checkpoints, load, note)
    if found is None:
        raise CheckpointError(f"{run.path}: it has no checkpoint yet")
    return Located(found[0], own, run)
