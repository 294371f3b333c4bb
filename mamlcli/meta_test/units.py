"""Results in the unit of each target: what a method and its baselines score, and whether they can be told apart.

Errors come in as the mean squared errors of tasks in the unit of a model, of S seeds, T tasks and each target. Where
seeds leave out different tasks (folds), a task is tested by the seeds that left it out, and counts once.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from mamlcli.rows import UnitRow, WorstRow
from mamlcli.statistics import crossed_half_width
from mamlcli.types import finite_or_none

Verdict: TypeAlias = Literal["better", "worse", "not told apart"]
Who: TypeAlias = tuple[str, int | None]
"""Whose errors: a name, and after how many inner steps; None for what makes none."""


class World(NamedTuple):
    """What errors are of."""

    names: tuple[str, ...]
    """Of the T tasks."""
    targets: tuple[str, ...]
    scales: Float[np.ndarray, "seeds outputs"]
    """What an error in the unit of a model is to be multiplied with, as a seed sees it."""
    diverged_above: float
    """A task counts as diverged where its error, in the unit of a model, is not finite or above this."""
    method: str
    """What the method is called among the rows."""
    reference: str
    """Whose error `fraction` is of."""


class Errors(NamedTuple):
    """What is measured at one K."""

    shots: int
    there: Bool[np.ndarray, "seeds tasks outputs"]
    """Whether a seed is tested on a task, which has a query row with the target."""
    of: Mapping[Who, Float[np.ndarray, "seeds tasks outputs"] | None]
    """Errors by who; None where there are none. What is not `there` is not read."""
    notes: Mapping[str, str]
    """What is to be said of a name."""


def unit_rows(world: World, errors: Errors) -> list[UnitRow]:
    """The rows of one K, target after target: the method's first, then those of the baselines in their order."""
    last = max(steps or 0 for name, steps in errors.of if name == world.method)
    rows = []
    for index, target in enumerate(world.targets):
        reference = in_unit(world, errors, (world.reference, None), index)
        for who, values in errors.of.items():
            row = _row(world, errors, who, index, target)
            if values is not None:
                against = _counterpart(world, who, last)
                row |= _scores(in_unit(world, errors, who, index), reference)  # type: ignore[typeddict-item]
                if against is not None:
                    pair = (in_unit(world, errors, one, index) for one in (who, against))
                    row |= _compared(*pair)  # type: ignore[typeddict-item]
            rows.append(row)
    return rows


def _counterpart(world: World, who: Who, last: int) -> Who | None:
    """What of the method a baseline is compared with: as many inner steps, or all of them where it makes none."""
    name, steps = who
    return None if name == world.method else (world.method, steps or last)


def in_unit(world: World, errors: Errors, who: Who, target: int) -> Float[np.ndarray, "rows tasks"]:
    """The squared errors of one target in its own unit, of tasks that count: a row for each seed, or one in all.

    Where every seed is tested on the same tasks, seeds and tasks are crossed. Else a task counts with the mean over the
    seeds that are tested on it.
    """
    there = errors.there[:, :, target]
    values = errors.of[who]
    assert values is not None
    with np.errstate(over="ignore"):
        squared = values[:, :, target] * np.square(world.scales[:, target, None])
    squared, counted = np.broadcast_to(squared, there.shape), there.any(axis=0)
    if there[:, counted].all():
        # A baseline without a seed says the same for each: it is one sample of it.
        alike = len(values) == 1 and (world.scales == world.scales[:1]).all()
        return squared[: 1 if alike else None, counted]
    with np.errstate(over="ignore"):
        means: NDArray[np.float64] = squared.sum(axis=0, where=there)[counted] / there.sum(axis=0)[counted]
    return means[None]


def _row(world: World, errors: Errors, who: Who, index: int, target: str) -> UnitRow:
    """A row without its numbers."""
    values, there = errors.of[who], errors.there[:, :, index]
    diverged = 0
    if values is not None:
        # A baseline without a seed diverges, if ever, once.
        over = np.broadcast_to(~(values[:, :, index] <= world.diverged_above), (len(values), there.shape[1]))
        diverged = int((over & there).sum() if len(values) == len(there) else (over & there.any(axis=0)).sum())
    return {
        "who": who[0],
        "target": target,
        "shots": errors.shots,
        "inner_steps": who[1],
        "mse": None,
        "ci95": None,
        "rmse": None,
        "rmse_low": None,
        "rmse_high": None,
        "fraction": None,
        "num_tasks": int(there.any(axis=0).sum()),
        "num_diverged": diverged,
        "difference": None,
        "difference_ci95": None,
        "verdict": None,
        "note": errors.notes.get(who[0]),
    }


def _scores(
    squared: Float[np.ndarray, "rows tasks"], reference: Float[np.ndarray, "others tasks"]
) -> dict[str, float | None]:
    mean, half = _mean(squared), float(crossed_half_width(squared))
    with np.errstate(invalid="ignore", divide="ignore"):
        ends = np.sqrt([max(mean - half, 0.0), mean + half]) if np.isfinite(half) else (np.nan, np.nan)
        numbers = {
            "mse": mean,
            "ci95": half,
            "rmse": np.sqrt(mean),
            "rmse_low": ends[0],
            "rmse_high": ends[1],
            "fraction": np.float64(mean) / _mean(reference),
        }
    return {name: finite_or_none(value) for name, value in numbers.items()}


def _compared(
    baseline: Float[np.ndarray, "rows tasks"], method: Float[np.ndarray, "others tasks"]
) -> dict[str, float | str | None]:
    with np.errstate(invalid="ignore"):
        differences = baseline - method
    mean, half = _mean(differences), float(crossed_half_width(differences))
    return {
        "difference": finite_or_none(mean),
        "difference_ci95": finite_or_none(half),
        "verdict": verdict(mean, half, baseline=_mean(baseline), method=_mean(method)),
    }


def verdict(difference: float, half: float, *, baseline: float, method: float) -> Verdict:
    """Say how the method does against a baseline: better where the whole interval of the difference is above zero.

    One whose error is not finite does worse than one whose is.

    >>> verdict(0.5, 0.4, baseline=1.5, method=1.0), verdict(0.5, 0.6, baseline=1.5, method=1.0)
    ('better', 'not told apart')
    """
    if np.isfinite(baseline) != np.isfinite(method):
        return "better" if np.isfinite(method) else "worse"
    if difference - half > 0:
        return "better"
    return "worse" if difference + half < 0 else "not told apart"


def _mean(values: NDArray[np.float64]) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(values.mean()) if values.size else float("nan")


def worst_rows(world: World, errors: Errors, count: int) -> list[WorstRow]:
    """The tasks with the largest errors after the last inner step, in parts of a target's scale for targets to compare.

    Args:
        world: What the errors are of.
        errors: Of the K that is meant.
        count: Rows, at most: a task with several targets can have several.
    """
    last = max(steps or 0 for name, steps in errors.of if name == world.method)
    rows: list[tuple[float, WorstRow]] = []
    # One scale for all seeds: where each has its own, errors in the unit of a model would be in another order.
    scale = np.square(world.scales).mean(axis=0)
    for index, target in enumerate(world.targets):
        counted = np.flatnonzero(errors.there[:, :, index].any(axis=0))
        who = (world.method, last)
        columns = [
            in_unit(world, errors, who, index),
            in_unit(world, errors, (world.reference, None), index),
        ]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            squared, reference = (values.mean(axis=0) for values in columns)
            badness = squared / scale[index]
            table = np.stack([np.sqrt(squared), squared / reference]).T
        for task, (rmse, fraction), bad in zip(
            counted, table, np.where(np.isnan(badness), np.inf, badness), strict=True
        ):
            numbers: WorstRow = {
                "name": world.names[task],
                "target": target,
                "rmse": finite_or_none(rmse),
                "fraction": finite_or_none(fraction),
            }
            rows.append((float(bad), numbers))
    return [row for _, row in sorted(rows, key=lambda pair: -pair[0])[:count]]


def summarise_verdicts(world: World, rows: Sequence[UnitRow]) -> str:
    """Say in a sentence against which baselines the method loses, which it beats, and which it is not told apart from.

    A baseline stands where the method does worst against it: one that is better at any K or on any target is named
    first, with the place. Only those of the last inner step, and those that make none, are spoken of.
    """
    last = max(row["inner_steps"] or 0 for row in rows if row["who"] == world.method)
    spoken = [row for row in rows if row["verdict"] and (row["inner_steps"] or last) == last]
    found: dict[str, list[str]] = {"worse": [], "not told apart": [], "better": []}
    for who in dict.fromkeys(row["who"] for row in spoken):
        own = [row for row in spoken if row["who"] == who]
        verdicts = {row["verdict"] for row in own}
        kind = next(kind for kind in found if kind in verdicts)
        places = [row for row in own if row["verdict"] == kind]
        found[kind].append(who if len(places) == len(own) else f"{who} ({_places(world, places)})")
    words = {"worse": "worse than", "better": "better than", "not told apart": "not told apart from"}
    parts = [f"{word} {_listed(found[kind])}" for kind, word in words.items() if found[kind]]
    start = f"after {last} inner step{'s' * (last != 1)} {world.method} is "
    return start + _listed(parts, "; and ") if parts else start + "compared with nothing"


def _places(world: World, rows: Sequence[UnitRow]) -> str:
    """At which K, and on which targets where there are several."""
    by_target: dict[str, list[str]] = {}
    for row in rows:
        by_target.setdefault(row["target"], []).append(str(row["shots"]))
    several = len(world.targets) > 1
    return "; ".join(f"K = {', '.join(shots)}" + f" on {name}" * several for name, shots in by_target.items())


def _listed(words: Sequence[str], last: str = " and ") -> str:
    # Names hold commas.
    return last.join(["; ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
