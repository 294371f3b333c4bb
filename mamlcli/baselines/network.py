"""The run's model trained without adaptation on the meta-train tasks: what is left of a method without meta-learning.

It trains by the outer settings of the run: steps, optimiser, rates, clipping, meta-batches, seeds and initial weights.
Where there are meta-validation tasks, each seed keeps the parameters of the logged step that say those best, as a run
keeps its best ones.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mamlcli.compute.plan import make_plan, planned_update
from mamlcli.errors import DivergedError
from mamlcli.experiment import Experiment
from mamlcli.groups import Group, groups
from mamlcli.methods.meta_gradients import on_all_samples
from mamlcli.methods.method import InnerLoop, Method
from mamlcli.reporting import Reporter
from mamlcli.tasks.family import Request
from mamlcli.tasks.samples import Samples, all_samples
from mamlcli.tasks.stream import TaskList
from mamlcli.training import MetaStep, TrainState, frozen_seeds, scheduled_lr, train_steps, unflatten
from mamlcli.types import Params, finite_or_none

POOLED = "pooled network"
# Meta-validation tasks that are measured at a time.
_AT_A_TIME = 512


class PooledNetwork(NamedTuple):
    """What training on all rows at once leaves."""

    params: Params
    """Of the model, for every seed, name -> (S, ...). Those of a seed that diverged are the last that were finite."""
    note: str | None
    """Which seeds diverged, in words; None for none."""


def pooled_experiment(experiment: Experiment) -> Experiment:
    """The same experiment with a method that trains the model on all samples, and does not adapt it."""
    engine, model = experiment.config.engine, experiment.model
    # How the run itself is computed may be made for its method alone.
    eased = {"inner_update": "auto", "compile": "off" if engine.compile == "off" else "auto"}
    config = experiment.config.model_copy(update={"engine": engine.model_copy(update=eased)})
    method = Method(
        title=POOLED,
        init=model.init,
        inner=InnerLoop(
            start=dict,
            step=lambda _params, theta, _support, _number, _gradient: theta,
            predictors=lambda _params, theta, _support, _steps, _gradient: {"": theta},
        ),
        meta_gradient=on_all_samples(experiment.loss_fn),
        inner_steps=0,
        num_params=model.num_params,
        unrolled_steps=1,
        holds_copies=False,
    )
    return experiment._replace(config=config, method=method)


def train_pooled(
    experiment: Experiment, device: torch.device, look: Callable[[], None], reporter: Reporter
) -> PooledNetwork:
    """Train it.

    Args:
        experiment: The run's.
        device: Where to train.
        look: Called before each step; it may raise to stop.
        reporter: Hears how it goes.
    """
    pooled = pooled_experiment(experiment)
    outer, seeds = pooled.config.outer, pooled.config.seeds
    state, plan = pooled.initial_state(device), make_plan(pooled, device)
    reporter.note(f"training the {POOLED} for {outer.steps} steps, {plan.words()}")
    update = planned_update(pooled, state, plan, device, lambda _: None, reporter.note)
    best = _Best(pooled, state, device)
    steps = train_steps(
        state,
        pooled.stream().blocks(0, outer.steps, device),
        update,
        pooled.pre_adapt_loss,
        seeds=seeds,
        learning_rate=lambda step: scheduled_lr(outer.lr, outer.schedule, step, outer.steps),
        on_divergence="freeze",
        is_logged=lambda step: step in (1, outer.steps) or step % pooled.config.run.log_every_steps == 0,
    )
    try:
        for step in _looking(steps, look):
            if step.pre_adapt_loss is not None:
                best.look()
                losses = (step.pre_adapt_loss, step.log["post_adapt_loss"])
                reporter.step(step.step, outer.steps, *(finite_or_none(loss.mean().item()) for loss in losses))
    except DivergedError:  # no seed is left, and each has kept what it was
        pass
    frozen = frozen_seeds(state, seeds)
    named = ", ".join(f"seed {seed} diverged at step {step}" for seed, step in frozen.items())
    shapes = {name: theta.shape[1:] for name, theta in state.params.items()}
    return PooledNetwork(unflatten(best.flat(), shapes), f"in training {named}" if named else None)


def _looking(steps: Iterator[MetaStep], look: Callable[[], None]) -> Iterator[MetaStep]:
    look()
    for step in steps:
        yield step
        look()


class _Best:
    """The parameters of each seed that say the meta-validation tasks best; the last ones where there are none."""

    def __init__(self, pooled: Experiment, state: TrainState, device: torch.device) -> None:
        self.pooled, self.state = pooled, state
        self.tasks = [
            (group.places, _validation_rows(group, device))
            for group in groups(pooled)
            if group.experiment.family.names.get("meta-validation")
        ]
        self.kept = state.flat.clone()
        self.loss = torch.full((len(state.flat),), torch.inf, device=device)

    def look(self) -> None:
        """Keep what is better now."""
        for places, samples in self.tasks:
            params = {name: theta[places] for name, theta in self.state.params.items()}
            loss = _mean_losses(self.pooled, params, samples)
            better = loss < self.loss[places]
            self.loss[places] = loss.where(better, self.loss[places])
            self.kept[places] = self.state.flat[places].where(better.unsqueeze(1), self.kept[places])

    def flat(self) -> Tensor:
        """The parameters, a row for each seed."""
        return self.kept if self.tasks else self.state.flat.detach()


def _validation_rows(group: Group, device: torch.device) -> Samples:
    config, family = group.experiment.config, group.experiment.family
    request = Request(config.tasks.support_shots, config.evaluation.query_shots)
    listed = TaskList(family, config.evaluation.seed, "meta-validation")
    tasks = listed.tasks(0, len(family.names["meta-validation"]), request)
    return Samples(*(part.to(device) for part in all_samples(tasks)))


def _mean_losses(pooled: Experiment, params: Params, samples: Samples) -> Tensor:
    """The mean loss over tasks of each seed."""
    starts = range(0, len(samples.x), _AT_A_TIME)
    over_seeds = torch.vmap(torch.vmap(pooled.loss_fn, in_dims=(None, 0)), in_dims=(0, None))
    parts = (Samples(*(part[first : first + _AT_A_TIME] for part in samples)) for first in starts)
    with torch.no_grad():
        return torch.cat([over_seeds(params, part) for part in parts], dim=1).mean(dim=1)


def adapted_like(begun: Params, model: Params) -> Params | None:
    """Put the model's parameters among the meta-parameters that a run began with, so that its inner loop adapts them.

    What the method has beside them, like step sizes, is as it was before the first step: it was not learned for these
    weights.

    Returns:
        Meta-parameters; None where the method does not adapt the model under its own names.
    """
    return begun | model if set(model) <= set(begun) else None
