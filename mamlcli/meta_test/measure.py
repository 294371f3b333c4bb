"""The meta-test of an experiment: its fixed tasks, what is measured on them, and the rows that say it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor

from mamlcli.compute.plan import idle_threads, kernel_losses
from mamlcli.experiment import Experiment
from mamlcli.groups import frozen_of_tested, groups, joined, tested_seeds
from mamlcli.memory.estimate import tasks_at_a_time
from mamlcli.meta_test.losses import adaptation_losses, summarise
from mamlcli.ranks import Ranks
from mamlcli.reporting import Reporter, Silent
from mamlcli.rows import EvalRow, KindRow, Query
from mamlcli.tasks.family import Request
from mamlcli.tasks.numbers import Split
from mamlcli.tasks.samples import Samples, Task
from mamlcli.tasks.stream import TaskList
from mamlcli.threads import Threads
from mamlcli.types import LossFn, Params

OfSeed = TypeVar("OfSeed", EvalRow, KindRow)
Losses: TypeAlias = dict[int, dict[str, Tensor]]
"""For each K, of each predictor: query losses of shape (S, T, N + 1), with one more axis where a loss is a vector."""


def meta_test(
    experiment: Experiment,
    params: Params,
    device: torch.device,
    ranks: Ranks,
    threads: Threads,
    loss_fn: LossFn[Samples] | None = None,
    *,
    reporter: Reporter | None = None,
    doing: str = "meta-test",
) -> Losses:
    """Measure every predictor of a method after each inner step, for each K of the config.

    Several processes that do so measure some of the tasks each, and tell each other what they found.

    Args:
        experiment: What is tested.
        params: Meta-parameters of every seed, on the device.
        device: Where it computes.
        ranks: The processes; asked before each part of the tasks whether to stop.
        threads: Looked at there too.
        loss_fn: Measures in place of the experiment's loss; it may give a vector.
        reporter: Hears which part of the tasks has been measured.
        doing: What it hears this called.

    Returns:
        With seeds for S, or repetitions where seeds leave out different tasks; see `mamlcli.groups`.
    """
    parted, shots_of = groups(experiment), experiment.config.evaluation.shots
    total, done = sum(len(shots_of) * len(parts_of(one.experiment, ranks=ranks)) for one in parted), 0
    reporter = reporter or Silent()

    def look() -> None:
        nonlocal done
        ranks.meet()
        ranks.stop.raise_if_asked("interrupted during the evaluation; nothing was written")
        threads.look()
        reporter.progress(doing, done, total)
        done += 1

    found = [_of_group(one.experiment, one.of(params), device, ranks, look, reporter.note, loss_fn) for one in parted]
    reporter.progress(doing, total, total)
    return {
        shots: {name: joined(experiment, [one[shots][name] for one in found]) for name in found[0][shots]}
        for shots in found[0]
    }


def _of_group(
    experiment: Experiment,
    params: Params,
    device: torch.device,
    ranks: Ranks,
    look: Callable[[], None],
    note: Callable[[str], None],
    loss_fn: LossFn[Samples] | None,
) -> Losses:
    settings, inner, found = experiment.config.evaluation, experiment.method.inner, {}
    fused = kernel_losses(experiment, device, note) if loss_fn is None else None
    measured = loss_fn or experiment.loss_fn
    for shots in settings.shots:
        parts = []
        for own in parts_of(experiment, ranks=ranks):
            look()
            if not own:
                continue
            tasks = meta_test_tasks(experiment, shots, own.start, len(own)).map(lambda part: part.to(device))
            if fused:
                parts.append({"": fused(params, tasks, inner_steps=settings.inner_steps)})
            else:
                parts.append(adaptation_losses(inner, measured, params, tasks, inner_steps=settings.inner_steps))
        own_losses = {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}
        found[shots] = {name: _of_all(experiment, losses, ranks) for name, losses in own_losses.items()}
    return found


def _of_all(experiment: Experiment, own: Tensor, ranks: Ranks) -> Tensor:
    """The losses of all tasks, of which each process has measured its share."""
    if ranks.size == 1:
        return own
    share = ranks.share_of(count := experiment.num_test_tasks())
    rows = own.new_empty(count, *own.transpose(0, 1).shape[1:])
    rows[share.start : share.stop] = own.transpose(0, 1)[: len(share)]
    ranks.exchange_rows([rows])
    return rows.transpose(0, 1).contiguous()


def of_the_first(losses: Losses) -> dict[int, Tensor]:
    """The losses of the predictor that a run is measured by, for each K."""
    return {shots: next(iter(by_predictor.values())) for shots, by_predictor in losses.items()}


def meta_test_list(experiment: Experiment, split: Split = "meta-test") -> TaskList:
    """All meta-test tasks, or those of the meta-validation along the way; the test seed alone chooses them."""
    return TaskList(experiment.family, experiment.config.evaluation.seed, split)


def meta_test_tasks(
    experiment: Experiment, shots: int, first: int = 0, count: int | None = None, split: Split = "meta-test"
) -> Task:
    """Draw tasks of `meta_test_list`; those of a smaller K are the same with fewer support samples."""
    listed, count = meta_test_list(experiment, split), count or experiment.num_test_tasks(split)
    return listed.tasks(first, count, test_request(experiment, shots))


def parts_of(experiment: Experiment, split: Split = "meta-test", ranks: Ranks | None = None) -> list[range]:
    """Which tasks of `meta_test_tasks` are measured at a time: no more than memory is meant to hold.

    Args:
        experiment: What is tested.
        split: Which tasks.
        ranks: Processes of which each has a share of them; None for all. Each has as many parts, of which some may be
            empty; but one without a task of its own measures the first one for nothing, so that it has their names.
    """
    count, at_a_time = experiment.num_test_tasks(split), tasks_at_a_time(experiment, split)
    share, most = (range(count), count) if ranks is None else (ranks.share_of(count), -(-count // ranks.size))
    number = -(-most // at_a_time)
    ends = [min(share.start + at_a_time * part, share.stop) for part in range(number + 1)]
    return [range(*pair) for pair in pairwise(ends)] if share else [range(1), *[range(0)] * (number - 1)]


def tasks_in_parts(experiment: Experiment, shots: int, split: Split = "meta-test") -> Iterator[Task]:
    """The tasks of `meta_test_tasks`, in the parts of `parts_of`."""
    for part in parts_of(experiment, split):
        yield meta_test_tasks(experiment, shots, part.start, len(part), split)


def test_request(experiment: Experiment, shots: int) -> Request:
    """How many samples a task is tested on, for a K."""
    settings = experiment.config.evaluation
    return Request(
        support_shots=shots,
        query_shots=settings.grid or settings.query_shots,
        query_grid=settings.grid is not None,
        unlabelled_inputs=experiment.method.unlabelled_inputs,
    )


def query_protocol(experiment: Experiment) -> Query:
    """Say on what the losses are measured."""
    settings, family = experiment.config.evaluation, experiment.family
    sampling = f"{'an even grid on' if settings.grid else 'uniform in'} {family.domain}"
    points = settings.grid or settings.query_shots
    if family.names:
        points = meta_test_tasks(groups(experiment)[0].experiment, min(settings.shots), 0, 1).query.x.shape[1]
        sampling = f"at most, of {family.domain}"
    return {"points": points, "sampling": sampling, "test_seed": settings.seed, "scaled": family.units is not None}


def threads_of_test(experiment: Experiment) -> int:
    """How many CPU threads a meta-test uses where all cores are idle."""
    settings = experiment.config.evaluation
    samples = max(settings.shots) + (settings.grid or settings.query_shots)
    return idle_threads(experiment, tasks_at_a_time(experiment) * samples)


def rows_of(experiment: Experiment, losses: Losses, frozen: Mapping[int, int]) -> list[EvalRow]:
    """Summarise the losses of every predictor and K; `model` names the predictor where there are several."""
    names = list(next(iter(losses.values())))
    rows: list[EvalRow] = []
    for name in names:
        of_one = summarise_all(experiment, {shots: found[name] for shots, found in losses.items()}, frozen)
        rows += [{"model": name, **row} for row in of_one] if len(names) > 1 else of_one
    return rows


def summarise_all(experiment: Experiment, losses: Mapping[int, Tensor], frozen: Mapping[int, int]) -> list[EvalRow]:
    """Summarise the losses of every K; see `mamlcli.meta_test.losses.summarise`.

    A seed that diverged in training is marked with the step in its rows, and counts with the parameters it kept.
    """
    rows: list[EvalRow] = []
    seeds, frozen = tested_seeds(experiment), frozen_of_tested(experiment, frozen)
    for shots, values in losses.items():
        diverged_above = experiment.config.evaluation.diverged_above
        for row in summarise(values, seeds=seeds, shots=shots, diverged_above=diverged_above):
            seed = row["seed"]
            row["diverged_at_step"] = None if seed == "all" else frozen.get(seed)
            row["num_diverged_seeds"] = len(frozen) if seed == "all" else int(seed in frozen)
            rows.append(row)
    return rows


def over_seeds(rows: Sequence[OfSeed]) -> list[OfSeed]:
    """Choose the rows that speak for the whole run: over seeds, or those of the only seed."""
    seeds = {row["seed"] for row in rows} - {"all"}
    return [row for row in rows if (row["seed"] == "all") == (len(seeds) > 1)]
