"""Runs measured in one place, as the baseline is tested: the losses of every run on the same seeds and tasks."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mamlcli.best import Chosen
from mamlcli.comparisons.alike import check_same_tasks, common_seeds, tested_as, tested_otherwise
from mamlcli.comparisons.cost import ms_per_step, peak_memory_of
from mamlcli.comparisons.entrants import Entrant
from mamlcli.config.experiment import Config
from mamlcli.config.file import Override
from mamlcli.experiment import Experiment, make_experiment
from mamlcli.groups import tested_seeds
from mamlcli.interrupts import StopRequest
from mamlcli.memory_check import check_meta_test
from mamlcli.meta_test.measure import of_the_first, threads_of_test
from mamlcli.meta_test.protocol import seed_steps, tested_config
from mamlcli.meta_test.together import meta_test_together
from mamlcli.ranks import Ranks
from mamlcli.reporting import Reporter
from mamlcli.rows import ComparedRun
from mamlcli.threads import Threads
from mamlcli.trainings.start import announce_device


class Contest(NamedTuple):
    """Runs that are to be measured alike."""

    baseline: str
    seeds: tuple[int, ...]
    """That all have."""
    entrants: Mapping[str, Entrant]
    """By name, the baseline among them."""
    experiments: Mapping[str, Experiment]
    """How each is tested, with those seeds."""

    @property
    def of_baseline(self) -> Experiment:
        """How the baseline is tested."""
        return self.experiments[self.baseline]

    @property
    def num_tested(self) -> int:
        """How many seeds stand in a table: with folds, repetitions."""
        return len(tested_seeds(self.of_baseline))


def alike_experiments(
    configs: Mapping[str, Config], baseline: str, overrides: Sequence[str | Override] = ()
) -> tuple[tuple[int, ...], dict[str, Experiment]]:
    """Say how runs are tested: as the baseline is, on the seeds that all of them have.

    Args:
        configs: Their own, by name.
        baseline: One of them.
        overrides: Changes of how all are tested, as `mamlcli.evaluate` takes them.

    Returns:
        The seeds, and by name how each is tested.

    Raises:
        UsageError: If they have no seed in common, or are of different tasks.
        ConfigError: If one cannot be tested so.
    """
    own = {name: tested_config(config, overrides) for name, config in configs.items()}
    seeds = common_seeds(own, baseline)
    first = make_experiment(own[baseline].model_copy(update={"seeds": seeds}))
    found = {}
    for name, config in own.items():
        if name == baseline:
            found[name] = first
            continue
        names = (name, baseline)
        found[name] = make_experiment(tested_as(config, own[baseline], names).model_copy(update={"seeds": seeds}))
        check_same_tasks(found[name], first, names)
    return seeds, found


def measure(contest: Contest, ranks: Ranks, reporter: Reporter) -> dict[str, dict[int, Tensor]]:
    """The meta-test losses of every run, by name and K; (S, T, N + 1).

    Raises:
        InterruptedRunError: If a signal asked to stop.
        DeviceError: If a meta-test does not fit into memory.
    """
    device = announce_device(contest.of_baseline.config, reporter)
    found = {}
    for name, experiment in contest.experiments.items():
        check_meta_test(experiment, device)
        chosen = chosen_of(contest, name)
        places = [contest.entrants[name].own.seeds.index(seed) for seed in contest.seeds]
        params = {key: theta[places] for key, theta in chosen.params.items()}
        tested = meta_test_together(experiment, params, device, ranks, reporter, doing=f"meta-test, {name}")
        found[name] = of_the_first(tested.losses)
    return found


def chosen_of(contest: Contest, name: str) -> Chosen:
    """The parameters that a run is tested with, of all of its seeds."""
    return contest.entrants[name].checkpoint.chosen(contest.experiments[name].config.run.keep)


def compared_run(
    contest: Contest, name: str, device: torch.device, stop: StopRequest, reporter: Reporter
) -> ComparedRun:
    """Say of a run what was compared, and measure what it costs.

    Raises:
        InterruptedRunError: If a signal asked to stop.
    """
    one, experiment = contest.entrants[name], contest.experiments[name]
    stop.raise_if_asked("interrupted while memory was measured; nothing was written")
    reporter.progress(f"memory of a meta-update, {name}", 0, 1)
    checkpoint, seeds, chosen = one.checkpoint, one.own.seeds, chosen_of(contest, name)
    steps = {found["seed"]: found for found in seed_steps(seeds, chosen)}
    with Threads(one.own.engine.threads, threads_of_test(experiment), reporter.note):
        peak = peak_memory_of(one.experiment, device, reporter)
    return {
        "run": name,
        "path": one.path,
        "method": experiment.method.title,
        "seeds": seeds,
        "seeds_left_out": tuple(seed for seed in seeds if seed not in contest.seeds),
        "seeds_diverged": tuple(seed for seed in contest.seeds if seed in checkpoint.frozen),
        "outer_steps": checkpoint.step,
        "parameters": chosen.which,
        "parameter_steps": [steps[seed] for seed in contest.seeds],
        "tested_otherwise": tested_otherwise(one.own, experiment.config),
        "ms_per_step": None if one.run is None else ms_per_step(one.run.metrics.read()),
        "peak_memory_bytes": peak,
    }
