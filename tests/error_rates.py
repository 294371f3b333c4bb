"""How often statements are wrong, and how often they are made: `python -m tests.error_rates` prints the table.

Tables of crossed normal effects of seeds and tasks are drawn whole, judged as the commands judge them, and counted. The
numbers are those of docs/statistics.md; the tests draw fewer.
"""

import sys
from collections import Counter
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mamlcli.statistics import crossed_half_width, half_width
from mamlcli.verdicts import (
    Difference,
    Statement,
    against,
    published_spread,
    spread_of,
    spread_of_trainings,
    spread_over_tasks,
    statement,
)

Kind = Literal["paired", "published, with an interval", "published, without one"]

SEEDS, TASKS, MARGIN = 5, 100, 1.0
# What seeds, tasks and the rest add to the variance of a mean of 5 seeds and 100 tasks, as shares of it.
SHARES = {
    "seeds dominate": (0.98, 0.01, 0.01),
    "tasks dominate": (0.01, 0.98, 0.01),
    "both weigh alike": (0.45, 0.45, 0.10),
    "the rest dominates": (0.01, 0.01, 0.98),
}


class World(NamedTuple):
    """What is drawn."""

    kind: Kind
    shares: tuple[float, float, float]
    difference: float
    """True, in margins."""
    error: float
    """Standard error of the mean of ours, in margins."""


def tables(world: World, draws: int, rng: np.random.Generator, seeds: int = SEEDS) -> NDArray[np.float64]:
    """Values of `draws` tables of seeds and tasks around zero."""
    counts = (SEEDS, TASKS, SEEDS * TASKS)
    deviations = [world.error * np.sqrt(share * count) for share, count in zip(world.shares, counts, strict=True)]
    shapes = ((draws, seeds, 1), (draws, 1, TASKS), (draws, seeds, TASKS))
    parts = (deviation * rng.standard_normal(shape) for deviation, shape in zip(deviations, shapes, strict=True))
    of_seeds, of_tasks, rest = parts
    drawn: NDArray[np.float64] = of_seeds + of_tasks + rest
    return drawn


def rates(world: World, draws: int) -> dict[Statement, float]:
    """How often each statement is made of such tables."""
    rng = np.random.default_rng(7)
    ours = tables(world, draws, rng) + world.difference * MARGIN
    if world.kind == "paired":
        halves = (crossed_half_width(ours, confidence=confidence) for confidence in (0.95, 0.90))
        found = [Difference(*map(float, row)) for row in zip(ours.mean(axis=(1, 2)), *halves, strict=True)]
    else:
        # One training of theirs on tasks of their own.
        theirs = tables(world, draws, rng, seeds=1)[:, 0]
        found = [_beside(world, one, other) for one, other in zip(ours, theirs, strict=True)]
    counted = Counter(statement(one, margin=MARGIN) for one in found)
    return {word: counted[word] / draws for word in ("equivalent", "better", "worse", "inconclusive")}


def _beside(world: World, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Difference:
    """As `maml reproduce` judges a number of one training."""
    known = world.kind == "published, with an interval"
    of_tasks = published_spread(float(half_width(theirs)), TASKS - 1) if known else spread_over_tasks(ours)
    spreads = (spread_of(ours), of_tasks, spread_of_trainings(ours, 1))
    return against(float(ours.mean()), float(theirs.mean()), *spreads)


KINDS: tuple[Kind, ...] = ("paired", "published, with an interval", "published, without one")


def wrong(kind: Kind, shares: tuple[float, float, float], draws: int, error: float = 0.3) -> dict[str, float]:
    """The rates of the mistakes: at a true difference of the margin on either side, and of zero."""
    at = {place: rates(World(kind, shares, place, error), draws) for place in (-1.0, 0.0, 1.0)}
    return {
        "equivalent at the margin": max(at[-1.0]["equivalent"], at[1.0]["equivalent"]),
        "better at 0": at[0.0]["better"],
        "worse at 0": at[0.0]["worse"],
    }


def main(draws: int = 10_000) -> None:
    """Print what docs/statistics.md says, in percent."""
    lines: list[str] = []
    lines.append("| what is compared | variance of the mean | equivalent at the margin | better at 0 | worse at 0 |")
    lines.append("|---|---|---|---|---|")
    for kind in KINDS:
        for name, shares in SHARES.items():
            found = wrong(kind, shares, draws)
            lines.append(f"| {kind} | {name} | {' | '.join(f'{100 * rate:.1f}' for rate in found.values())} |")
    lines.append("")
    lines.append(
        "| what is compared | standard error | equivalent at 0 | worse at half | worse at 1 | worse at 2 margins |"
    )
    lines.append("|---|---|---|---|---|---|")
    for kind in KINDS:
        for error in (0.05, 0.1, 0.2, 0.4):
            shares = SHARES["both weigh alike"]
            made = [rates(World(kind, shares, place, error), draws) for place in (0.0, 0.5, 1.0, 2.0)]
            powers = [made[0]["equivalent"], *(one["worse"] for one in made[1:])]
            lines.append(f"| {kind} | {error:g} margins | {' | '.join(f'{100 * rate:.0f}' for rate in powers)} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
