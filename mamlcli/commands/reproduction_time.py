"""How long a reproduction takes, told before it begins, and one bar over all of its rows.

What a row costs stands in its file, as measured; so the time is that of the machine where it was measured.
"""

import heapq
from collections.abc import Mapping
from typing import NamedTuple

from mamlcli.commands.reproduction_rows import Planned, is_trained
from mamlcli.reporting import Reporter, Silent
from mamlcli.runs.folder import RunFolder

# Seconds of a process until its first meta-update, as it imports and compiles; and what a measured row has that says
# nothing of itself.
_START_S, _MS_PER_STEP = 6.0, 1.0
# Of so many seeds, tasks, K, inner steps and samples, multiplied, a meta-test measures these a second on one core.
_TESTED_PER_S = 2.3e6
_MEASURED_SEEDS = 5
DOING = "all rows, seconds of work"


class Cost(NamedTuple):
    """Seconds of one core."""

    per_step: float
    steps: int
    """Meta-updates, of all that it is to make."""
    test: float
    is_known: bool
    """Whether it was measured."""

    @property
    def train(self) -> float:
        """Of its whole training."""
        return _START_S + self.per_step * self.steps if self.steps else 0.0


def cost_of(name: str, plan: Planned) -> Cost:
    """What a row costs; its training counts for the row by whose name it goes."""
    row, evaluation, seeds = plan.row, plan.tested.evaluation, len(plan.trained.seeds)
    trains = is_trained(row) and plan.run == name
    samples = (evaluation.grid or evaluation.query_shots) + 3 * max(evaluation.shots)
    measured = seeds * evaluation.tasks * len(evaluation.shots) * (evaluation.inner_steps + 1) * samples
    per_step = (row.ms_per_step or _MS_PER_STEP) / 1000 * seeds / _MEASURED_SEEDS
    steps = plan.trained.outer.steps if trains else 0
    return Cost(per_step, steps, measured / _TESTED_PER_S, row.ms_per_step is not None or not trains)


def about(costs: Mapping[str, Cost], made: Mapping[str, int], jobs: int) -> float:
    """Seconds until all is done: trainings side by side, the longest first, and then the tests.

    Args:
        costs: By row.
        made: Meta-updates that are made already, by row.
        jobs: How many rows train at a time.
    """
    busy = [0.0] * jobs
    left = {name: cost.steps - made.get(name, 0) for name, cost in costs.items()}
    waits = [_START_S + costs[name].per_step * steps for name, steps in left.items() if steps]
    for seconds in sorted(waits, reverse=True):
        heapq.heapreplace(busy, busy[0] + seconds)
    return max(busy) + sum(cost.test for cost in costs.values())


def steps_made(names: Mapping[str, Cost], folder: RunFolder) -> dict[str, int]:
    """The meta-updates that runs of an earlier process have made."""
    return {
        name: min(RunFolder(folder.path / "runs" / name).metrics.last_step(), cost.steps)
        for name, cost in names.items()
        if cost.steps
    }


class Bar:
    """One bar over all rows: trainings, then tests, each as long as it takes."""

    def __init__(self, costs: Mapping[str, Cost], reporter: Reporter) -> None:
        self.costs, self.reporter = costs, reporter
        self.total = max(2, round(sum(cost.train + cost.test for cost in costs.values())))
        self.before = 0.0
        """Seconds of what is done and will not change."""

    def training(self, steps: Mapping[str, int]) -> None:
        """Hear how many meta-updates each row has made."""
        self._show(sum(self.costs[name].train * made / max(1, self.costs[name].steps) for name, made in steps.items()))

    def trained(self) -> None:
        """Hear that no more is trained."""
        self.before = sum(cost.train for cost in self.costs.values())
        self._show(0.0)

    def testing(self, name: str) -> Reporter:
        """Who hears of the test of a row."""
        return _OfTest(self, self.costs[name].test)

    def tested(self, name: str) -> None:
        """Hear that a row is done."""
        self.before += self.costs[name].test
        self._show(0.0)

    def _show(self, seconds: float) -> None:
        self.reporter.progress(DOING, min(self.total, round(self.before + seconds)), self.total)


class _OfTest(Silent):
    """Hears of one test, as a part of the bar."""

    def __init__(self, bar: Bar, seconds: float) -> None:
        self.bar, self.seconds = bar, seconds

    def note(self, message: str) -> None:
        self.bar.reporter.note(message)

    def progress(self, doing: str, done: int, total: int) -> None:  # noqa: ARG002
        self.bar._show(self.seconds * done / max(1, total))
