"""What is said to who names no run, or a folder that only holds some: which there are, and what to type."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mamlcli.errors import CheckpointError, Remedy
from mamlcli.runs.catalogue import UNFINISHED, Found, find_runs, finished, newest_first, state, status_of

# How many folders a message names.
_NAMED = 5


class Purpose(NamedTuple):
    """What a run is wanted for."""

    doing: str
    """In words, like "evaluating"."""
    call: Remedy
    """How it is asked for, with `{run}` for the run: "mamlcli.evaluate({run!r})" and "maml eval {run}"."""
    kind: str = "train"
    unfinished: bool = False
    """Whether one that has not finished is wanted, to go on with."""

    def remedy(self, run: Path, before: str = "name one: ") -> Remedy:
        """What to call or to type for a run."""
        python, command_line = self.call
        shown = shlex.quote(str(run))
        return Remedy(before + python.format(run=str(run)), before + command_line.format(run=shown))


RESUMING = {
    "train": Purpose(
        "continuing",
        Remedy("mamlcli.train(config, out={run!r}, resume=True)", "maml train --resume {run}"),
        unfinished=True,
    ),
    "compare-orders": Purpose(
        "continuing",
        Remedy(
            "mamlcli.compare_orders(config, out={run!r}, resume=True)",
            "maml compare-orders --config FILE --resume {run}",
        ),
        kind="compare-orders",
        unfinished=True,
    ),
    "sweep": Purpose(
        "continuing",
        Remedy("mamlcli.sweep(config, axes, out={run!r}, resume=True)", "maml sweep --resume {run}"),
        kind="sweep",
        unfinished=True,
    ),
    "compare": Purpose(
        "continuing",
        Remedy("mamlcli.compare(out={run!r}, resume=True)", "maml compare --resume {run}"),
        kind="compare",
        unfinished=True,
    ),
}
"""To go on with a training, a comparison or a sweep."""


def no_run(path: Path, purpose: Purpose | None) -> CheckpointError:
    """The error of a folder that is no run: it names the runs below, the newest first, and what to type for one."""
    below = newest_first([one for one in find_runs(path) if one.path != path])
    if not below:
        return CheckpointError(f"{path}: not a run: it holds no run.json and config.yaml")
    said = f"{path}: not a run, but {'one is' if len(below) == 1 else f'{len(below)} are'} below it:"
    proposed = None if purpose is None else _proposed(below, purpose)
    remedy = Remedy("name one of them", "name one of them")
    if purpose is not None and proposed is not None:
        remedy = purpose.remedy(proposed.path)
    return CheckpointError("\n".join([said, *listed(below)]), remedy)


def of_another_kind(path: Path, kind: str, found: object, purpose: Purpose | None) -> CheckpointError:
    """The error of a folder that another command made: it names the runs in it, where one of them can be meant."""
    said = f"{path}: not a folder of maml {kind}: run.json says it is of {found!r}"
    runs = find_runs(path, inside=True)
    inside = newest_first([one for one in runs if one.path != path and one.kind == kind])
    if not inside:
        return CheckpointError(said)
    proposed = None if purpose is None else _proposed(inside, purpose)
    remedy = Remedy("name one of them", "name one of them")
    if purpose is not None and proposed is not None:
        remedy = purpose.remedy(proposed.path)
    return CheckpointError("\n".join([f"{said}, with these in it:", *listed(inside)]), remedy)


def listed(runs: Sequence[Found]) -> list[str]:
    """A line for each of the first few runs, and how many more there are."""
    lines = [f"  {one.path}: {state(one)}" for one in runs[:_NAMED]]
    return [*lines, f"  and {len(runs) - _NAMED} more"] if len(runs) > _NAMED else lines


def _proposed(below: Sequence[Found], purpose: Purpose) -> Found | None:
    """The run that is most likely meant."""
    usable = [one for one in below if one.kind == purpose.kind]
    if purpose.unfinished:
        open_ones = [one for one in usable if status_of(one) in UNFINISHED]
        return next(iter(open_ones or usable), None)
    return next(iter(finished(usable) or usable), None)
