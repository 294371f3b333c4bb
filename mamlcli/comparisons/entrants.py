"""Who takes part in a comparison: runs that were trained, and what each is called."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from mamlcli.config.experiment import Config
from mamlcli.errors import Remedy, UsageError
from mamlcli.experiment import Experiment, make_experiment
from mamlcli.runs.checkpoints import Checkpoint, check_fits, check_size
from mamlcli.runs.choosing import Purpose
from mamlcli.runs.data_record import check_same_data
from mamlcli.runs.folder import RunFolder
from mamlcli.runs.located import locate

_COMPARING = Purpose("comparing", Remedy("mamlcli.compare({run!r}, ...)", "maml compare {run} RUN"))


class Entrant(NamedTuple):
    """A run that takes part."""

    path: Path
    """Its folder, or the checkpoint file."""
    run: RunFolder | None
    """None where a file was named."""
    checkpoint: Checkpoint
    experiment: Experiment
    """Its own, with all of its seeds."""

    @property
    def own(self) -> Config:
        """Its own config."""
        return self.experiment.config


def entrant(path: Path, note: Callable[[str], None]) -> Entrant:
    """Find the newest whole checkpoint of a run, and check that it is of the run's experiment.

    Args:
        path: A run folder or a checkpoint file.
        note: Hears of checkpoints that cannot be used.

    Raises:
        CheckpointError: If it is none, or cannot be used.
        UsageError: If the data of its tasks are no longer what it was trained with.
    """
    checkpoint, own, run = locate(path, note, _COMPARING)
    experiment = make_experiment(own)
    check_same_data(checkpoint.record, experiment.family.record)
    check_size(checkpoint, experiment.method.num_params * len(own.seeds))
    check_fits(checkpoint, experiment.initial_state(torch.device("cpu")).params)
    return Entrant(path if run is None else run.path, run, checkpoint, experiment)


def check_different(paths: Sequence[Path]) -> None:
    """Raise UsageError if a run is named twice: it does not differ from itself."""
    found = [path.resolve() for path in paths]
    for path, place in zip(paths, found, strict=True):
        if found.count(place) > 1:
            raise UsageError(f"{path} is named twice: a run does not differ from itself")


def names_of(entrants: Sequence[Entrant]) -> list[str]:
    """What runs are called: by their experiments, or by what tells all of them apart."""
    candidates = [
        [one.own.name for one in entrants],
        [one.experiment.method.title for one in entrants],
        [one.path.name for one in entrants],
    ]
    paths = [str(one.path) for one in entrants]
    return next((names for names in candidates if len(set(names)) == len(names)), paths)
