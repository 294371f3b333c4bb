"""The meta-test of an experiment: its fixed tasks, what is measured on them, and the rows that say it."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from mamlcli.compute.plan import idle_threads
from mamlcli.config.experiment import Config
from mamlcli.experiment import Experiment
from mamlcli.interrupts import StopRequest
from mamlcli.memory.estimate import tasks_at_a_time
from mamlcli.meta_test.losses import adaptation_losses, summarise
from mamlcli.rows import EvalRow, Query
from mamlcli.tasks.family import Request
from mamlcli.tasks.samples import Samples, Task
from mamlcli.tasks.stream import TaskList
from mamlcli.threads import Threads
from mamlcli.types import LossFn, Params

Losses: TypeAlias = dict[int, dict[str, Tensor]]
"""For each K, of each predictor: query losses of shape (S, T, N + 1), with one more axis where a loss is a vector."""


def meta_test(
    experiment: Experiment,
    params: Params,
    device: torch.device,
    stop: StopRequest,
    threads: Threads,
    loss_fn: LossFn[Samples] | None = None,
) -> Losses:
    """Measure every predictor of a method after each inner step, for each K of the config.

    Args:
        experiment: What is tested.
        params: Meta-parameters of every seed, on the device.
        device: Where it computes.
        stop: Looked at before each part of the tasks.
        threads: Looked at there too.
        loss_fn: Measures in place of the experiment's loss; it may give a vector.
    """
    settings, found = experiment.config.evaluation, {}
    at_a_time = tasks_at_a_time(experiment)
    for shots in settings.shots:
        parts = []
        for first in range(0, settings.tasks, at_a_time):
            stop.raise_if_asked("interrupted during the evaluation; nothing was written")
            threads.look()
            count = min(at_a_time, settings.tasks - first)
            tasks = meta_test_tasks(experiment, shots, first, count).map(lambda part: part.to(device))
            inner, measured = experiment.method.inner, loss_fn or experiment.loss_fn
            parts.append(adaptation_losses(inner, measured, params, tasks, inner_steps=settings.inner_steps))
        found[shots] = {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}
    return found


def of_the_first(losses: Losses) -> dict[int, Tensor]:
    """The losses of the predictor that a run is measured by, for each K."""
    return {shots: next(iter(by_predictor.values())) for shots, by_predictor in losses.items()}


def meta_test_list(experiment: Experiment) -> TaskList:
    """All meta-test tasks; the test seed alone chooses them."""
    return TaskList(experiment.family, experiment.config.evaluation.seed, "meta-test")


def meta_test_tasks(experiment: Experiment, shots: int, first: int = 0, count: int | None = None) -> Task:
    """Draw meta-test tasks; those of a smaller K are the same with fewer support samples."""
    settings = experiment.config.evaluation
    request = Request(
        support_shots=shots,
        query_shots=settings.grid or settings.query_shots,
        query_grid=settings.grid is not None,
        unlabelled_inputs=experiment.method.unlabelled_inputs,
    )
    return meta_test_list(experiment).tasks(first, count or settings.tasks, request)


def query_protocol(experiment: Experiment) -> Query:
    """Say on what the losses are measured."""
    settings = experiment.config.evaluation
    return {
        "points": settings.grid or settings.query_shots,
        "sampling": f"{'an even grid on' if settings.grid else 'uniform in'} {experiment.family.domain}",
        "test_seed": settings.seed,
    }


def threads_of_test(experiment: Experiment) -> int:
    """How many CPU threads a meta-test uses where all cores are idle."""
    settings = experiment.config.evaluation
    samples = max(settings.shots) + (settings.grid or settings.query_shots)
    return idle_threads(experiment, tasks_at_a_time(experiment) * samples)


def rows_of(config: Config, losses: Losses, frozen: Mapping[int, int]) -> list[EvalRow]:
    """Summarise the losses of every predictor and K; `model` names the predictor where there are several."""
    names = list(next(iter(losses.values())))
    rows: list[EvalRow] = []
    for name in names:
        of_one = summarise_all(config, {shots: found[name] for shots, found in losses.items()}, frozen)
        rows += [{"model": name, **row} for row in of_one] if len(names) > 1 else of_one
    return rows


def summarise_all(config: Config, losses: Mapping[int, Tensor], frozen: Mapping[int, int]) -> list[EvalRow]:
    """Summarise the losses of every K; see `mamlcli.meta_test.losses.summarise`.

    A seed that diverged in training is marked with the step in its rows, and counts with the parameters it kept.
    """
    rows: list[EvalRow] = []
    for shots, values in losses.items():
        diverged_above = config.evaluation.diverged_above
        for row in summarise(values, seeds=config.seeds, shots=shots, diverged_above=diverged_above):
            seed = row["seed"]
            row["diverged_at_step"] = None if seed == "all" else frozen.get(seed)
            row["num_diverged_seeds"] = len(frozen) if seed == "all" else int(seed in frozen)
            rows.append(row)
    return rows


def over_seeds(config: Config, rows: Sequence[EvalRow]) -> list[EvalRow]:
    """Choose the rows that speak for the whole run: over seeds, or those of the only seed."""
    wanted = "all" if len(config.seeds) > 1 else config.seeds[0]
    return [row for row in rows if row["seed"] == wanted]
