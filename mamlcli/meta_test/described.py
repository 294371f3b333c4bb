"""What an evaluation says of tasks that have names: results in their unit, beside baselines, and the worst tasks."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mamlcli.baselines.gaussian_process import MISSING, gaussian_process
from mamlcli.baselines.network import POOLED, adapted_like, pooled_experiment, train_pooled
from mamlcli.baselines.predictors import OWN_MEAN, POOLED_MEAN, Fit, own_mean, pooled_mean
from mamlcli.baselines.ridge import ridge
from mamlcli.baselines.rows import training_rows
from mamlcli.experiment import Experiment
from mamlcli.groups import Group, groups
from mamlcli.meta_test.joined import Found, OfGroup, joined_errors, joined_world
from mamlcli.meta_test.measure import meta_test, of_the_first, parts_of, tasks_in_parts
from mamlcli.meta_test.units import Who, summarise_verdicts, unit_rows, worst_rows
from mamlcli.models.model import Predict
from mamlcli.ranks import Ranks
from mamlcli.reporting import Reporter
from mamlcli.rows import UnitRow, WorstRow
from mamlcli.tasks.family import TaskFamily
from mamlcli.tasks.samples import Samples
from mamlcli.threads import Threads
from mamlcli.types import LossFn, Params

RIDGE, PROCESS = "ridge per task", "Gaussian process"
TUNED, FROM_RANDOM = f"{POOLED}, fine-tuned", "random initialisation, fine-tuned"
_WORST = 10
_STOPPED = "interrupted while the baselines were measured; nothing was written"


class DataResults(NamedTuple):
    """What is said of tasks that have names."""

    units: list[UnitRow]
    """Of every K and target: the method after each inner step, then its baselines."""
    worst: list[WorstRow]
    """The tasks that the method does worst on, the worst first."""
    summary: str
    """How the method does against its baselines, in a sentence."""


class Walk(NamedTuple):
    """Meta-parameters that are measured after each inner step."""

    experiment: Experiment
    """Whose inner loop adapts them."""
    params: Params | None
    """Of every seed; None where the method has no place for them."""
    name: Callable[[int], str | None]
    """What they are called after so many inner steps; None where they are not spoken of."""


def can_be_described(family: TaskFamily) -> bool:
    """Whether there are lists of tasks to learn baselines from, and to measure them on."""
    return {"meta-train", "meta-test"} <= family.names.keys()


def describe(
    experiment: Experiment,
    params: Params,
    device: torch.device,
    ranks: Ranks,
    threads: Threads,
    reporter: Reporter,
) -> DataResults:
    """Measure a method and its baselines on the meta-test tasks, target by target, in the targets' units.

    Args:
        experiment: What is tested; its family can be described.
        params: Meta-parameters of every seed, on the device.
        device: Where networks are trained and adapted.
        ranks: The processes that measure it, each all of it but what networks are adapted for; asked often whether to
            stop. Nothing is written here.
        threads: Looked at before each part of the tasks.
        reporter: Hears of progress.

    Raises:
        InterruptedRunError: If a signal asked to stop.
    """

    def look() -> None:
        ranks.heard.raise_if_asked(_STOPPED)
        threads.look()

    # One network for all: trained by each process it would be another one to rounding, and so in time another one.
    pooled = ranks.told(train_pooled(experiment, device, look, reporter) if ranks.is_first else None)
    begun = experiment.initial_state(device).params
    tuned, title = adapted_like(begun, pooled.params), experiment.method.title
    walks = [
        Walk(experiment, params, lambda _: title),
        Walk(pooled_experiment(experiment), pooled.params, lambda steps: None if steps else POOLED),
        Walk(experiment, tuned, lambda steps: TUNED if steps else None),
        Walk(experiment, begun, lambda steps: FROM_RANDOM if steps else None),
    ]
    process = gaussian_process(look)
    notes = {
        POOLED: pooled.note,
        TUNED: pooled.note if tuned else f"{title} adapts no plain copy of the model",
        PROCESS: None if process else MISSING,
    }
    fits = {POOLED_MEAN: pooled_mean, OWN_MEAN: own_mean, RIDGE: ridge, PROCESS: process}
    reporter.note("measuring the baselines")

    def of_group(group: Group) -> OfGroup:
        walked = [_walked(group, walk, device, ranks, threads, reporter) for walk in walks]
        predicted = _predicted(group, fits, look, reporter)
        # The method first, then what needs no network, from the simplest on.
        at = {
            shots: Found(there, walked[0][shots] | of | walked[1][shots] | walked[2][shots] | walked[3][shots])
            for shots, (there, of) in predicted.items()
        }
        return OfGroup(group, at)

    parts = [of_group(group) for group in groups(experiment)]
    world = joined_world(experiment, parts)
    errors = list(joined_errors(world, parts, {who: note for who, note in notes.items() if note}))
    rows = [row for one in errors for row in unit_rows(world, one)]
    largest = max(errors, key=lambda one: one.shots)
    return DataResults(rows, worst_rows(world, largest, _WORST), summarise_verdicts(world, rows))


def squared_errors(
    predictions: Float[Tensor, "*batch shots outputs"], targets: Float[Tensor, "*tasks shots outputs"]
) -> Float[Tensor, "*batch outputs"]:
    """The mean squared error of each target over the samples that have it; NaN where none has."""
    there = ~targets.isnan()
    return (predictions - targets).where(there, 0).square().sum(dim=-2) / there.sum(dim=-2)


def _target_errors(predict: Predict) -> LossFn[Samples]:
    """Those of a task as a loss, of shape (outputs,)."""
    return lambda params, samples: squared_errors(predict(params, samples.x), samples.y)


def _walked(
    group: Group, walk: Walk, device: torch.device, ranks: Ranks, threads: Threads, reporter: Reporter
) -> dict[int, dict[Who, Float[np.ndarray, "seeds tasks outputs"] | None]]:
    """Errors after each inner step, for each K, of what the walk speaks of."""
    config = group.experiment.config
    names = {steps: name for steps in range(config.evaluation.inner_steps + 1) if (name := walk.name(steps))}
    if walk.params is None:
        return {shots: {(name, steps): None for steps, name in names.items()} for shots in config.evaluation.shots}
    # No further than what is spoken of.
    evaluation = config.evaluation.model_copy(update={"inner_steps": max(names, default=0)})
    experiment = walk.experiment._replace(
        config=config.model_copy(update={"evaluation": evaluation}), family=group.experiment.family
    )
    loss_fn = _target_errors(experiment.model.predict)
    doing, params = f"measuring: {list(names.values())[-1]}", group.of(walk.params)
    found = meta_test(experiment, params, device, ranks, threads, loss_fn, reporter=reporter, doing=doing)
    return {
        shots: {(name, steps): values[:, :, steps].double().cpu().numpy() for steps, name in names.items()}
        for shots, values in of_the_first(found).items()
    }


def _predicted(
    group: Group, fits: Mapping[str, Fit | None], look: Callable[[], None], reporter: Reporter
) -> dict[int, tuple[Bool[np.ndarray, "tasks outputs"], dict[Who, Float[np.ndarray, "1 tasks outputs"] | None]]]:
    """Which targets the query rows have, and the errors of what predicts without a network, for each K."""
    train, found = training_rows(group), {}
    for shots in group.experiment.config.evaluation.shots:
        predictors = {}
        for number, (name, fit) in enumerate(fits.items()):
            look()
            reporter.progress(f"fitting what needs no network, K = {shots}", number, len(fits))
            predictors[name] = fit and fit(train, shots)
        there: list[Tensor] = []
        errors: dict[str, list[Tensor]] = {name: [] for name in fits}
        for number, (support, query) in enumerate(tasks_in_parts(group.experiment, shots)):
            reporter.progress(f"measuring what needs no network, K = {shots}", number, len(parts_of(group.experiment)))
            there.append(~query.y.isnan().all(dim=1))
            for name, predict in predictors.items():
                look()
                if predict:
                    errors[name].append(squared_errors(predict(support, query.x), query.y.double()))
        of: dict[Who, Float[np.ndarray, "1 tasks outputs"] | None]
        of = {(name, None): torch.cat(one, dim=1).numpy() if one else None for name, one in errors.items()}
        found[shots] = torch.cat(there).numpy(), of
    return found
