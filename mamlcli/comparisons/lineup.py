"""Who is compared with whom: runs that are there, and experiments that are checked before they are trained."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mamlcli.comparisons.asked import Asked
from mamlcli.comparisons.entrants import Entrant, check_different, entrant, names_of
from mamlcli.comparisons.measured import Contest, alike_experiments
from mamlcli.config.experiment import Config
from mamlcli.config.file import Override
from mamlcli.errors import CheckpointError, Remedy, UsageError
from mamlcli.runs.link import followed


class Lineup(NamedTuple):
    """What a comparison is of."""

    baseline: str
    runs: Mapping[str, Entrant]
    """Those that are there, by what each is called."""
    configs: Mapping[str, Config]
    """Those that are to be trained."""


def line_up(asked: Asked, overrides: Sequence[str | Override], note: Callable[[str], None]) -> Lineup:
    """Find the runs and the baseline, and see that all can be tested alike, also those that are not trained yet.

    Args:
        asked: What is to be compared.
        overrides: What is changed of how it is tested.
        note: Hears of checkpoints that cannot be used.

    Raises:
        UsageError: If there are fewer than two, one is named twice, or they cannot be compared.
        CheckpointError: If one is no run.
    """
    paths = [Path(run) for run in asked.runs]
    trained = list(asked.configs)
    found = [entrant(path, note) for path in paths]
    if asked.baseline is not None and not _is_among(asked.baseline, [*_names(found, trained), *trained], found):
        found.insert(0, entrant(followed(Path(asked.baseline)), note))
    check_different([one.path for one in found])
    runs = dict(zip(_names(found, trained), found, strict=True))
    names = [*runs, *trained]
    if len(names) < 2:
        raise UsageError(
            "one run alone cannot be compared", Remedy("pass another", "name another: maml compare RUN RUN")
        )
    baseline = names[0]
    if asked.baseline is not None and _is_among(asked.baseline, names, []):
        baseline = asked.baseline
    elif asked.baseline is not None:
        baseline = next(name for name, one in runs.items() if _is_at(one, asked.baseline))
    alike_experiments({name: one.own for name, one in runs.items()} | dict(asked.configs), baseline, overrides)
    return Lineup(baseline, runs, asked.configs)


def begin_contest(
    lineup: Lineup,
    trained: Mapping[str, Path],
    failed: Mapping[str, str],
    overrides: Sequence[str | Override],
    note: Callable[[str], None],
) -> Contest:
    """What is measured, once all are trained.

    Args:
        lineup: Who was to take part.
        trained: The runs of its experiments.
        failed: Why some of them could not be trained; these are left out.
        overrides: As for `line_up`.
        note: The same.

    Raises:
        CheckpointError: If the baseline failed, or fewer than two runs are left.
    """
    entrants = dict(lineup.runs) | {name: entrant(path, note) for name, path in trained.items() if name not in failed}
    if lineup.baseline not in entrants or len(entrants) < 2:
        lines = [f"  {name}: {reason}" for name, reason in failed.items()]
        raise CheckpointError("\n".join(["too few runs are left to be compared; these could not be trained:", *lines]))
    seeds, experiments = alike_experiments(
        {name: one.own for name, one in entrants.items()}, lineup.baseline, overrides
    )
    return Contest(lineup.baseline, seeds, entrants, experiments)


def _names(runs: Sequence[Entrant], trained: Sequence[str]) -> list[str]:
    """What runs are called, none like another, nor like an experiment."""
    names = names_of(runs)
    return names if not set(names) & set(trained) else [str(one.path) for one in runs]


def _is_among(baseline: str, names: Sequence[str], runs: Sequence[Entrant]) -> bool:
    return baseline in names or any(_is_at(one, baseline) for one in runs)


def _is_at(one: Entrant, place: str) -> bool:
    return one.path.resolve() == followed(Path(place)).resolve()
