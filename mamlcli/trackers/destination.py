"""What a tracker is told of a run, and what it must be able to do."""

from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeAlias

Axis: TypeAlias = Literal["outer_step", "inner_steps"]
"""What the step of a scalar counts: meta-updates of a training, or inner steps of an evaluation."""


class About(NamedTuple):
    """A run, as its trackers know it."""

    folder: Path
    """The tracker's own folder below the run's; absolute."""
    experiment: str
    """The experiment's name."""
    run: str
    """The name of the run's folder."""
    run_id: str
    """Tells the run from all others, also after its folder was moved: letters, digits, '.', '_' and '-'."""
    started: float
    """When it was started, in seconds since 1970."""
    config: dict[str, str | float | int | bool]
    """The resolved config by dotted keys."""
    yaml: str
    """The same as a file."""


class Place(NamedTuple):
    """Where on the axes of its charts something is logged."""

    axis: Axis
    step: int
    time: float
    """Seconds since 1970; of a training the time that it has trained for, after its start."""


class Destination(Protocol):
    """A tracker of one run, in a process of its own; what it raises ends that process and nothing else."""

    def scalars(self, place: Place, values: dict[str, float]) -> None:
        """Add a point to the chart of each name; all values are finite."""

    def figure(self, place: Place, path: Path) -> None:
        """Add a PNG file under its stem."""

    def close(self, *, status: str) -> None:
        """Make all of it last, and say how the run ended, in the words of run.json."""
