"""What the evaluation of a run says of it, read back from evaluation.json. Loads no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import from_json  # several times as fast as json, which tells in a list of thousands

from mamlcli.plain import Row
from mamlcli.reading import read_file
from mamlcli.runs.loose import count, mapping

_MAX_BYTES = 2**28
USUAL_SHOTS = 10
"""K of the loss that a run is known by, where nothing else is asked for."""


class Evaluation(NamedTuple):
    """A meta-test of a run under its own settings."""

    rows: Sequence[Row]
    """Those that speak for the whole run: of the predictor that it is measured by, over seeds or of its only seed."""
    step: int | None
    """Meta-updates behind the checkpoint that was tested."""
    measured: Mapping[str, Any]
    """The sections of the config that say what was measured."""

    def at(self, shots: int | None, inner_steps: int | None, trained_steps: int) -> Row | None:
        """The row that a run is known by.

        Args:
            shots: K; None takes the largest up to 10, or the smallest where all are more.
            inner_steps: Steps of adaptation; None takes as many as meta-training makes, or the most there are below.
            trained_steps: Those of meta-training, where they are wanted.

        Returns:
            None where that was not measured.
        """
        known = sorted({row["shots"] for row in self.rows})
        if shots is None:
            shots = max((one for one in known if one <= USUAL_SHOTS), default=min(known, default=0))
        rows = [row for row in self.rows if row["shots"] == shots]
        if inner_steps is None:
            steps = [row["inner_steps"] for row in rows if row["inner_steps"] <= trained_steps]
            inner_steps = max(steps, default=0)
        return next((row for row in rows if row["inner_steps"] == inner_steps), None)


def read_evaluation(folder: Path) -> Evaluation | None:
    """Read the evaluation of a run; None if it was not evaluated, or what stands there cannot be read."""
    try:
        found = from_json(read_file(folder / "evaluation.json", _MAX_BYTES), allow_inf_nan=False)
        rows, protocol = found["results"], found["protocol"]
        first = next(iter(rows)).get("model")
        rows = [row for row in rows if row.get("model") == first]
        seeds = {row["seed"] for row in rows} - {"all"}
        rows = [row for row in rows if (row["seed"] == "all") == (len(seeds) > 1)]
        whole = all(count(row["shots"]) is not None and count(row["inner_steps"]) is not None for row in rows)
        numbers = all(isinstance(row[key], float | int | None) for row in rows for key in ("mean", "ci95"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return None
    if not whole or not numbers:
        return None
    return Evaluation(rows, count(found.get("outer_steps")), mapping(mapping(protocol).get("config")))
