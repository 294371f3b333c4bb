"""The kernel in float32, as it trains, against the plain computation in float32.

The float64 in which all else is checked is another instance of the kernel: other vectors with other lanes. A fault of
the float32 one does not show there.
"""

import math
from collections.abc import Iterable
from functools import cache, partial

import torch
from torch import Tensor

from mamlcli.compute.chunks import in_chunks
from mamlcli.compute.plan import make_plan
from mamlcli.config.experiment import Config
from mamlcli.engine_checks import compiled_gradient
from mamlcli.experiment import Experiment, make_experiment
from mamlcli.methods.method import Log, MetaGradient, gradient_at, phases_of
from mamlcli.proofs.checks import Check, attempt, gradient_error
from mamlcli.tasks.samples import Samples, Task, each_alone, in_parts, some_tasks
from mamlcli.training import flat_per_seed
from mamlcli.types import Params

# Two of the longest vectors and a lane more: every lane works, and one group of lanes is not full.
_TASKS_IN_LANES = 33
_UNIT_ROUNDOFF = torch.finfo(torch.float32).eps / 2
# How far all that goes in is moved, as a part of itself, to see whether an activation is about to change sides:
# hundreds of roundings. And what part of a task's gradient it jumps by then: far more than curvature leaves of it at
# such a distance, far less than the tolerance.
_NUDGE = 2e-5
_JUMP = 2e-7
_NUM_NUDGES = 2
_MAX_BATCHES = 4
_CPU = torch.device("cpu")


def float32_checks(config: Config) -> list[Check]:
    """Check the kernel on as many tasks as the config has, and on as many as fill the lanes of its vectors.

    With one task, say, neither the other lanes nor the mean over tasks can be seen. Where the meta-gradient changes
    along the training, each stretch of it is checked where it begins.

    Args:
        config: The experiment, of the seeds and tasks that are checked.

    Returns:
        A row or two of each stretch; none where training does not use the kernel.
    """
    experiment = make_experiment(config)
    if make_plan(experiment, _CPU).form != "fused":
        return []
    filled = math.ceil(_TASKS_IN_LANES / len(config.seeds))
    own = config.outer.meta_batch_size
    counts = [own, filled] if own < filled else [own]
    outers = [config.outer.model_copy(update={"meta_batch_size": count}) for count in counts]
    return [
        _float32_check(config.model_copy(update={"outer": outer}), phase.begins)
        for phase in phases_of(experiment.method)
        for outer in outers
    ]


def _float32_check(config: Config, made: int) -> Check:
    experiment = make_experiment(config)
    plan, count = make_plan(experiment, _CPU), config.outer.meta_batch_size
    plain = in_chunks(gradient_at(experiment.method, made), plan.chunk)

    @cache
    def inputs() -> tuple[Params, Task]:
        params = experiment.initial_state(_CPU).params
        batches = experiment.stream().batches(0, _MAX_BATCHES)
        drawn = (part for batch in batches for part in in_parts(batch, plan.chunk))
        return params, smooth_tasks(plain, params, drawn, count)

    @cache
    def exact() -> tuple[Params, Tensor]:
        grads, log = plain(*_in_float64(*inputs()))
        return grads, log["post_adapt_loss"]

    def error(gradient: MetaGradient) -> float:
        return gradient_error(gradient(*inputs()), exact())

    return attempt(
        f"fused meta-update in float32, {count} task(s)" + (f" after {made} updates" if made else ""),
        "the plain one in float32, by the distance of each from float64",
        lambda: rounding_tolerance(error(plain), _chain_of_sums(experiment)),
        error,
        partial(compiled_gradient, experiment, plan, made=made),
        mistaken=partial(_without_last_task, plain),
    )


def rounding_tolerance(plain_error: float, num_terms: int) -> float:
    """How far from exact a float32 gradient may be that is computed in another order than the plain one.

    A sum of n terms, one added after the other, errs by up to the unit roundoff u = 2^-24 of the partial sum each
    time. Such errors are as good as independent, and add up like a random walk: to sqrt(n) u, times how far the
    cancellation in the sums enlarges them (Higham and Mary 2019, A new approach to probabilistic rounding error
    analysis, SIAM J. Sci. Comput. 41(5)). How far that is, the plain computation shows: it adds up the same terms,
    and is off by p. Another order of the same sums is another draw of the same errors, so it is off by about p too,
    and by less than 3p but for rare draws, as the norm is over all parameters. Where these are few, p can be next to
    nothing by luck; then sqrt(n) u is what there is to expect. So the tolerance is

        3 p + sqrt(n) u.

    It knows nothing of an activation that changes sides: for that see `smooth_tasks`.

    Args:
        plain_error: p, relative to the norm of the exact gradient, >= 0.
        num_terms: n, the longest chain of sums that lead to an entry of the gradient, >= 1.
    """
    return 3 * plain_error + math.sqrt(num_terms) * _UNIT_ROUNDOFF


def _chain_of_sums(experiment: Experiment) -> int:
    """Terms that are added up, one after the other, on the way to an entry of the meta-gradient.

    A pass sums over the units of every layer forward and back, and over samples; there is one for each inner step and
    for the query samples, and in the end the tasks are summed.
    """
    config = experiment.config
    samples = config.tasks.support_shots + config.tasks.query_shots
    a_pass = 2 * experiment.model.num_units + samples
    return (1 + experiment.method.inner_steps) * a_pass + config.outer.meta_batch_size


def smooth_tasks(gradient: MetaGradient, params: Params, batches: Iterable[Task], count: int) -> Task:
    """Choose tasks in which no activation is about to change sides.

    At a kink of a ReLU the gradient jumps, and rounding decides on which side it is: there a gradient that is far
    from another one is no mistake. What rounding does to a gradient is what small changes of all that goes in would
    do to it. So parameters, inputs and targets are moved one way and the other, further than rounding does, each by
    a part of itself: where the gradient is smooth, its two changes cancel but for a curvature.

    Args:
        gradient: The plain meta-gradient.
        params: Meta-parameters of S seeds.
        batches: Meta-batches to choose from, in their order; read until enough are found for every seed.
        count: How many tasks of each seed to choose, >= 1.

    Returns:
        The chosen tasks as they came; fewer where not as many are found.

    Raises:
        RuntimeError: If none is found for a seed.
    """
    found: list[list[Tensor]] = [[] for _ in next(iter(params.values()))]
    fewest = 0
    for batch in batches:
        for seed, mask in enumerate(_are_smooth(gradient, params, batch)):
            parts = [part[seed, mask] for part in (*batch.support, *batch.query)]
            found[seed] = [torch.cat(pair) for pair in zip(found[seed], parts, strict=True)] if found[seed] else parts
        fewest = min(len(seed[0]) for seed in found)
        if fewest >= count:
            break
    if fewest == 0:
        raise RuntimeError("no task is smooth: in each an activation is about to change sides")
    columns = zip(*found, strict=True)
    parts = [torch.stack([part[: min(fewest, count)] for part in column]) for column in columns]
    return Task(Samples(*parts[:2]), Samples(*parts[2:]))


def _are_smooth(gradient: MetaGradient, params: Params, tasks: Task) -> Tensor:
    """Which tasks of S seeds are smooth, of shape (S, B)."""
    num_seeds, num_tasks = tasks.support.x.shape[:2]
    # Each task as a seed of its own, so that its gradient stands alone.
    params, tasks = _in_float64(*each_alone(params, tasks))
    here = flat_per_seed(gradient(params, tasks)[0])

    def change(sign: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)

        def moved(value: Tensor) -> Tensor:
            return value * (1 + sign * _NUDGE * torch.randn(value.shape, generator=generator, dtype=value.dtype))

        there = {name: moved(value) for name, value in params.items()}
        return flat_per_seed(gradient(there, tasks.map(moved))[0]) - here

    smooth = torch.ones(len(here), dtype=torch.bool)
    for nudge in range(_NUM_NUDGES):
        smooth &= (change(1, nudge) + change(-1, nudge)).norm(dim=1) <= _JUMP * here.norm(dim=1)
    return smooth.view(num_seeds, num_tasks)


def _in_float64(params: Params, tasks: Task) -> tuple[Params, Task]:
    return {name: value.double() for name, value in params.items()}, tasks.map(Tensor.double)


def _without_last_task(gradient: MetaGradient, params: Params, tasks: Task) -> tuple[Params, Log]:
    """The mistake of leaving out a task."""
    grads, log = gradient(params, tasks)
    last, _ = gradient(params, some_tasks(tasks, slice(-1, None)))
    return {name: value - last[name] / tasks.query.x.shape[1] for name, value in grads.items()}, log
