"""What trackers hear of rows: names of charts, and a number for each."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TypeGuard

from mamlcli.types import AnyRow, Row

# Charts with more curves than this are read by nobody, and ten thousand seeds would be a million numbers at every step.
_MOST_SEEDS = 50
# What says where a row belongs, and what is the same for all seeds.
_PLACES, _SHARED = ("step", "seed", "diverged_at_step", "wall_s"), ("lr",)


def training_scalars(rows: Sequence[Row]) -> dict[str, float]:
    """Name the numbers of a logged step: those of the first seeds, and the mean of all that have not diverged.

    What is not finite has no point; nor has a mean where a number of a healthy seed is not finite.

    Args:
        rows: One for each seed, as in metrics.jsonl.

    >>> common = {"step": 4, "lr": 0.01, "diverged_at_step": None}
    >>> rows = [common | {"seed": seed, "grad_norm": 1.5 + seed} for seed in (0, 1)]
    >>> training_scalars(rows)
    {'lr': 0.01, 'grad_norm/mean': 2.0, 'grad_norm/seed-0': 1.5, 'grad_norm/seed-1': 2.5}
    """
    healthy = [row for row in rows if row["diverged_at_step"] is None]
    found: dict[str, float] = {}
    for name in dict.fromkeys(name for row in rows for name in row if name not in _PLACES):
        if name in _SHARED:
            found |= _numbers({name: rows[0][name]})
            continue
        values = [row.get(name) for row in healthy]
        numbers = [value for value in values if _is_number(value)]
        if numbers and len(numbers) == len(values):
            found[f"{name}/mean"] = sum(numbers) / len(numbers)
        found |= _numbers({f"{name}/seed-{row['seed']}": row.get(name) for row in rows[:_MOST_SEEDS]})
    return found


def evaluation_scalars(rows: Sequence[AnyRow]) -> dict[int, dict[str, float]]:
    """Name the mean query losses of an evaluation, for each number of inner steps.

    Args:
        rows: As in evaluation.json; those over all seeds are there where there are several.

    >>> rows = [{"seed": 0, "shots": 5, "inner_steps": steps, "mean": 4.0 - steps} for steps in (0, 1)]
    >>> evaluation_scalars(rows)[1]
    {'evaluation/K-5/seed-0': 3.0, 'evaluation/K-5/mean': 3.0}
    """
    seeds = list(dict.fromkeys(row["seed"] for row in rows if row["seed"] != "all"))
    found: dict[int, dict[str, float]] = {}
    for row in rows:
        chart = "/".join(["evaluation", f"K-{row['shots']}", *([row["model"]] if "model" in row else [])])
        values = {f"{chart}/seed-{row['seed']}": row["mean"]} if row["seed"] in seeds[:_MOST_SEEDS] else {}
        if row["seed"] == "all" or len(seeds) == 1:
            values[f"{chart}/mean"] = row["mean"]
        found.setdefault(row["inner_steps"], {}).update(_numbers(values))
    return found


def _numbers(values: Mapping[str, object]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if _is_number(value)}


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
