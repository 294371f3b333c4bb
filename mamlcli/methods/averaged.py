"""Models trained apart, one for each task of a pool, and their mean weights as what a new task is adapted from.

A baseline of Finn et al. 2017 (arXiv:1703.03400, appendix on multi-task baselines, table 2): one regressor for each of
500 sinusoids, alone or held back by a penalty on its weights, or on their distance to the mean of all. With theta_i the
weights of model i, m their mean, and task b of a meta-batch that of model i(b), the loss is

    (1/B) sum_b [ L_b(theta_i(b)) + strength R(theta_i(b)) ],    R = 0, |theta_i|^2 or |theta_i - m|^2.

A meta-update is one step of every model that has a task in the meta-batch. With a meta-batch as large as the pool each
has one in every step; and since the outer optimiser works elementwise, each model is trained as if alone (but for m).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from mamlcli.errors import UsageError
from mamlcli.section import AlgorithmSection, Count, NonNegative

if TYPE_CHECKING:
    from torch import Tensor

    from mamlcli.methods.method import Bench, Log, MetaGradient, Method
    from mamlcli.proofs.checks import Case, Check
    from mamlcli.tasks.samples import Task
    from mamlcli.types import Params

Penalty = Literal["none", "l2", "mean"]


class AveragedConfig(AlgorithmSection):
    """Averaged models: one is trained for each task of a pool, apart from the others; a new task adapts their mean."""

    test_keys: ClassVar[tuple[str, ...]] = ("inner_lr",)

    name: Literal["averaged"] = "averaged"
    """The method."""
    models: Count = 500
    """How many models: as many as `tasks.pool` has tasks. With `outer.meta_batch_size` as large too, every model makes
    a step at each meta-update."""
    penalty: Literal["none", "l2", "mean"] = "none"
    """What holds a model's weights back: nothing, their squared norm, or their squared distance to the mean of all."""
    strength: NonNegative = 0.001
    """What multiplies the penalty."""
    inner_lr: NonNegative = 0.01
    """The step size of adaptation at test time."""

    def without_effect(self) -> dict[str, str]:
        """Without a penalty it has no strength."""
        return {"strength": "algorithm.penalty is none"} if self.penalty == "none" else {}


def averaged(config: AveragedConfig, bench: Bench) -> Method:
    """Build averaged models.

    Raises:
        UsageError: If meta-training does not draw from a pool of as many tasks as there are models.
    """
    from mamlcli.methods.inner_loops import constant_rate, gradient_descent
    from mamlcli.methods.method import Footprint, Method

    if bench.family.pool != config.models:
        raise UsageError(
            f"algorithm.models: {config.models} models need as many tasks, one each, and these draw from "
            f"{bench.family.pool or 'no pool'}: set tasks.pool: {config.models}, of a family that has it"
        )
    inner = gradient_descent(bench.loss_fn, constant_rate(config.inner_lr))
    said = {"none": "", "l2": ", l2 penalty", "mean": ", penalty towards their mean"}[config.penalty]
    num_params = bench.model.num_params
    return Method(
        title=f"averaged models{said}",
        init=partial(_init, config, bench),
        inner=inner._replace(start=lambda params: inner.start(mean_of_models(params))),
        meta_gradient=_meta_gradient(config, bench),
        inner_steps=0,
        num_params=num_params,
        num_learned=(config.models - 1) * num_params,
        unrolled_steps=1,
        footprint=lambda support_shots, query_shots: Footprint(4.0, 2.0 * (support_shots + query_shots)),
        numbered_tasks=True,
        proofs=partial(_proofs, config, bench),
    )


def mean_of_models(params: Params) -> Params:
    """The mean weights of the models of one seed, name -> (M, ...)."""
    return {name: value.mean(dim=0) for name, value in params.items()}


def task_numbers(tasks: Task) -> Tensor:
    """Which model each task is that of: (S, B), whole numbers from 0."""
    return tasks.support.y[:, :, -1, 0].long()


def without_numbers(tasks: Task) -> Task:
    """The tasks without the sample that holds their number."""
    from mamlcli.tasks.samples import Samples, Task

    return Task(Samples(*(part[:, :, :-1] for part in tasks.support)), tasks.query)


def _meta_gradient(config: AveragedConfig, bench: Bench) -> MetaGradient:
    import torch

    from mamlcli.methods.meta_gradients import gradient_and_log
    from mamlcli.tasks.samples import Samples, all_samples

    of_each = torch.vmap(torch.vmap(bench.loss_fn))

    def objective(params: Params, tasks: Task) -> tuple[Tensor, Log]:
        numbers, samples = task_numbers(tasks), all_samples(without_numbers(tasks))
        if _is_whole_round(numbers, config.models):  # tasks are smaller than models, so it is they that are moved
            order, own = numbers.argsort(dim=1), params
            samples = Samples(*(_rows_of(part, order) for part in samples))
        else:
            own = {name: _rows_of(value, numbers) for name, value in params.items()}
        losses = of_each(own, samples).mean(dim=1)
        if config.penalty == "none":
            return losses, {"post_adapt_loss": losses}
        held = _penalties(config.penalty, own, params).mean(dim=1)
        total = losses + config.strength * held
        return total, {"post_adapt_loss": losses, "meta_loss": total}

    return partial(gradient_and_log, objective)


def _is_whole_round(numbers: Tensor, models: int) -> bool:
    """Whether each model has one task; a graph, which cannot look, goes the other way."""
    import torch

    if torch.compiler.is_compiling() or numbers.shape[1] != models:
        return False
    every = torch.arange(models, device=numbers.device).expand_as(numbers)
    return torch.equal(numbers.sort(dim=1).values, every)


def _rows_of(value: Tensor, numbers: Tensor) -> Tensor:
    """Rows of these numbers, like the weights of models: (S, M, ...) and (S, B) to (S, B, ...).

    By rows of one matrix, whose derivative is many times faster than that of an index of two.
    """
    import torch

    first = value.shape[1] * torch.arange(len(numbers), device=numbers.device).unsqueeze(1)
    return value.flatten(0, 1).index_select(0, (first + numbers).flatten()).view(*numbers.shape, *value.shape[2:])


def _penalties(penalty: Penalty, own: Params, params: Params) -> Tensor:
    """R of the model of each task, (S, B)."""
    import torch

    parts = []
    for name, value in own.items():
        away = value - params[name].mean(dim=1, keepdim=True) if penalty == "mean" else value
        parts.append(away.square().flatten(2).sum(dim=2))
    return torch.stack(parts).sum(dim=0)


def _init(config: AveragedConfig, bench: Bench, seed: int) -> Params:
    """Initial weights of every model, each drawn with a seed of its own: name -> (M, ...)."""
    import numpy as np
    import torch

    # 32 bits are what a generator of torch reads of a seed.
    seeds = np.random.SeedSequence(seed).generate_state(config.models).tolist()
    drawn = [bench.model.init(own) for own in seeds]
    return {name: torch.stack([one[name] for one in drawn]) for name in drawn[0]}


def _proofs(config: AveragedConfig, bench: Bench, case: Case) -> list[Check]:
    from mamlcli.methods.method import textbook_loss
    from mamlcli.proofs.apart import apart_checks

    return apart_checks(textbook_loss(bench), config.penalty, config.strength, case)
