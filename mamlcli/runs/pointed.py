"""The folder that is meant where one is looked at: a path, or what a command returned."""

from os import PathLike
from pathlib import Path
from typing import TypeAlias

from mamlcli.errors import UsageError
from mamlcli.results import ComparedRuns, Comparison, EvalResult, Reproduction, Sweep, TrainResult
from mamlcli.runs.link import followed

FolderLike: TypeAlias = (
    str | PathLike[str] | TrainResult | EvalResult | Comparison | ComparedRuns | Reproduction | Sweep
)
"""A run's folder of any kind, or what the command that made it returned."""


def folder_of(run: FolderLike) -> Path:
    """Where it is; of a link to the latest run, that run.

    Raises:
        UsageError: If it is something else.
    """
    match run:
        case str() | PathLike():
            return followed(Path(run))
        case TrainResult() | EvalResult() | Comparison() | ComparedRuns() | Reproduction() | Sweep():
            return run.run
    raise UsageError(f"a run is its folder, or what train, evaluate or the like returned; got {type(run).__name__}")
