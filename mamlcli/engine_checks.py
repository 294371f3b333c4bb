"""Checks of what training computes with: each acceleration is the plain meta-gradient."""

from collections.abc import Callable
from functools import partial

import torch

from mamlcli.compute.plan import Plan, planned_update, uncompiled_gradient
from mamlcli.experiment import Experiment
from mamlcli.methods.meta_gradients import unrolled
from mamlcli.methods.method import Log, MetaGradient, gradient_at, phases_of
from mamlcli.proofs.checks import EXACT, Check, attempt, gradient_error, left_out
from mamlcli.tasks.samples import Task, some_tasks
from mamlcli.training import init_state, unflatten
from mamlcli.types import Params

_CPU = torch.device("cpu")


def engine_checks(
    experiment: Experiment, plan: Plan, params: Params, tasks: Task, note: Callable[[str], None] = lambda _: None
) -> list[Check]:
    """Compare each acceleration that a plan uses with the plain meta-gradient, in the experiment's order.

    Args:
        experiment: Of the seeds and tasks that are checked.
        plan: How it is computed.
        params: Its initial parameters in float64.
        tasks: Its first meta-batch in float64.
        note: Hears that something is compiled.
    """
    plain, uncompiled = experiment.method.meta_gradient, uncompiled_gradient(experiment, plan)

    def check(name: str, gradient: MetaGradient, mistaken: MetaGradient, plain: MetaGradient = plain) -> Check:
        def error_of(gradient: MetaGradient) -> float:
            expected, log = plain(params, tasks)
            return gradient_error(gradient(params, tasks), (expected, log["post_adapt_loss"]))

        return attempt(name, "the plain meta-gradient", EXACT, error_of, gradient, mistaken=mistaken)

    checks = []
    if plan.form == "low_rank":
        checks.append(check("low-rank inner update", uncompiled, _without_inner_steps(experiment)))
    if plan.chunk < experiment.config.outer.meta_batch_size:
        checks.append(check(f"chunks of {plan.chunk} tasks", uncompiled, partial(_first_chunk, plain, plan.chunk)))
    if plan.compiled:
        name = "fused meta-update" if plan.form == "fused" else "compiled meta-update"
        for phase in phases_of(experiment.method):
            compiled = partial(compiled_gradient, experiment, plan, note=note, made=phase.begins)
            expected = gradient_at(experiment.method, phase.begins)
            after = f" after {phase.begins} updates" if phase.begins else ""
            checks.append(check(f"{name}{after}", compiled, left_out(expected), expected))
    return checks


def _without_inner_steps(experiment: Experiment) -> MetaGradient:
    """The mistake of not adapting."""
    method, loss_fn = experiment.method, experiment.loss_fn
    assert method.order is not None
    return unrolled(method.inner, loss_fn, inner_steps=0, order=method.order)


def _first_chunk(gradient: MetaGradient, count: int, params: Params, tasks: Task) -> tuple[Params, Log]:
    """The mistake of computing a single chunk."""
    return gradient(params, some_tasks(tasks, slice(count)))


def compiled_gradient(
    experiment: Experiment,
    plan: Plan,
    params: Params,
    tasks: Task,
    *,
    note: Callable[[str], None] = lambda _: None,
    made: int = 0,
) -> tuple[Params, Log]:
    """The meta-gradient as the compiled meta-update of training hands it to the optimiser, after so many of them."""
    config = experiment.config
    seeds = [{name: value[index] for name, value in params.items()} for index in range(len(config.seeds))]
    state = init_state(seeds, optimizer=config.outer.optimizer, lr=config.outer.lr, device=_CPU)
    state.step = made
    log, _ = planned_update(experiment, state, plan, _CPU, note=note)(tasks)
    assert state.flat.grad is not None
    return unflatten(state.flat.grad, {name: value.shape[1:] for name, value in params.items()}), log
