"""The meta-test as a piece of a command, for which the other processes of a launcher are asked to help."""

from typing import NamedTuple

import torch

from mamlcli.config.experiment import Config
from mamlcli.data import share_data
from mamlcli.devices import resolve_device
from mamlcli.experiment import Experiment, make_shared_experiment
from mamlcli.meta_test.described import DataResults, describe
from mamlcli.meta_test.measure import Losses, meta_test, threads_of_test
from mamlcli.ranks import Ranks
from mamlcli.reporting import Reporter, Silent
from mamlcli.threads import Threads
from mamlcli.types import Params


class Tested(NamedTuple):
    """What a meta-test has found."""

    losses: Losses
    described: DataResults | None
    """What is said of tasks that have names; None where nothing was asked."""
    threads: int
    """Of torch, in the first process."""


def meta_test_together(
    experiment: Experiment,
    params: Params,
    device: torch.device,
    ranks: Ranks,
    reporter: Reporter,
    *,
    doing: str = "meta-test",
    is_described: bool = False,
) -> Tested:
    """Measure an experiment as `meta_test` does, in all processes.

    Args:
        experiment: What is tested; it is what its config describes.
        params: Meta-parameters of every seed.
        device: Where this process computes.
        ranks: The processes, of which this is the first; asked whether to stop.
        reporter: Hears which part of the tasks has been measured.
        doing: What it hears this called.
        is_described: Whether `describe` is asked too.

    Raises:
        InterruptedRunError: If a signal asked to stop.
    """
    ranks.ask(_help, experiment.config, {name: theta.cpu() for name, theta in params.items()}, is_described)
    share_data(experiment.config.tasks, ranks, reporter.note)
    return _measured(experiment, params, device, ranks, reporter, doing, is_described=is_described)


def _help(ranks: Ranks, config: Config, params: Params, is_described: bool) -> None:
    """Measure some of the tasks, beside the first process."""
    experiment, device = make_shared_experiment(config, ranks, Silent().note), resolve_device(config.device)
    _measured(experiment, params, device, ranks, Silent(), "", is_described=is_described)


def _measured(
    experiment: Experiment,
    params: Params,
    device: torch.device,
    ranks: Ranks,
    reporter: Reporter,
    doing: str,
    *,
    is_described: bool,
) -> Tested:
    params = {name: theta.to(device) for name, theta in params.items()}
    with Threads(experiment.config.engine.threads, threads_of_test(experiment), reporter.note) as threads:
        losses = meta_test(experiment, params, device, ranks, threads, reporter=reporter, doing=doing)
        found = describe(experiment, params, device, ranks, threads, reporter) if is_described else None
        return Tested(losses, found, torch.get_num_threads())
