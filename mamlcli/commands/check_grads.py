"""`maml check-grads`: a proof, on the user's own config, that the meta-gradient is what it says."""

from functools import partial
from typing import Any, NamedTuple

import torch

from mamlcli.compute.plan import Plan, make_plan, planned_update, uncompiled_gradient
from mamlcli.config.experiment import Config
from mamlcli.experiment import Experiment, in_order, make_experiment
from mamlcli.methods.method import Log, MetaGradient
from mamlcli.proofs.checks import EXACT, Case, Check, attempt, cosine, gradient_error, norm
from mamlcli.proofs.differences import slope_check
from mamlcli.tasks.samples import Task
from mamlcli.training import init_state, unflatten
from mamlcli.types import ORDERS, Order, Params, Row, finite_or_none

# A check that takes seconds looks at a part of a large experiment.
_MAX_SEEDS = 3
_MAX_TASKS = 10
_CPU = torch.device("cpu")


class GradientReport(NamedTuple):
    """What the checks found."""

    passed: bool
    """Whether none has failed."""
    method: str
    """What was checked, in words."""
    checks: list[Check]
    """Those that fail come first."""
    seeds: tuple[int, ...]
    tasks: int
    info: dict[str, float | None]
    """Norms of both meta-gradients, the share of second order in its own norm, and the cosine between them; null
    where there is no order, and where a meta-gradient could not be computed or is zero."""
    approximation: Row | None = None
    """What the method reports beside its checks; nothing that can fail."""

    def as_json(self) -> dict[str, Any]:
        """The object of `maml check-grads --json`."""
        checks = [
            check._asdict() | {"relative_error": finite_or_none(check.relative_error), "passed": check.passed}
            for check in self.checks
        ]
        return {"schema": "mamlcli.check-grads/1"} | self._asdict() | {"checks": checks}


def check_grads(config: Config) -> GradientReport:
    """Check the meta-gradient of a config in float64, on its initial parameters and its first meta-batch.

    At most 3 seeds and 10 tasks are used, on the CPU.
    """
    config = _part_of(config)
    experiment = make_experiment(config)
    plan = make_plan(experiment, _CPU)
    params, tasks = _inputs(experiment)
    case = Case(_gradients(experiment), params, tasks)
    method = experiment.method
    checks = [_slope(experiment, case), *method.proofs(case), *_accelerated(experiment, plan, params, tasks)]
    return GradientReport(
        passed=all(check.passed for check in checks),
        method=f"{method.title}, {method.inner_steps} inner step(s)",
        checks=sorted(checks, key=lambda check: check.passed),
        seeds=config.seeds,
        tasks=config.outer.meta_batch_size,
        info=_info(case),
        approximation=method.asides(case),
    )


def _part_of(config: Config) -> Config:
    """The experiment with as many seeds and tasks as a check of seconds can take."""
    size = min(config.outer.meta_batch_size, _MAX_TASKS)
    outer = config.outer.model_copy(update={"meta_batch_size": size, "max_grad_norm": None})
    return config.model_copy(update={"seeds": config.seeds[:_MAX_SEEDS], "outer": outer})


def _inputs(experiment: Experiment) -> tuple[Params, Task]:
    """Initial parameters and the first meta-batch, in float64."""
    params = experiment.initial_state(_CPU).params
    return {name: value.double() for name, value in params.items()}, experiment.stream().batch(0).map(
        torch.Tensor.double
    )


def _gradients(experiment: Experiment) -> dict[Order, MetaGradient]:
    """The code under test: what training with each order uses, before it is compiled."""
    if experiment.method.order is None:
        return {"second": uncompiled_gradient(experiment, make_plan(experiment, _CPU))}
    both = {order: make_experiment(in_order(experiment.config, order)) for order in ORDERS}
    return {order: uncompiled_gradient(one, make_plan(one, _CPU)) for order, one in both.items()}


def _slope(experiment: Experiment, case: Case) -> Check:
    """The check that every method has, whatever else it shows."""
    ordered = experiment.method.order is not None
    name = f"{'second order: ' if ordered else ''}slope of the meta-loss"
    return slope_check(name, case.gradients["second"], case.params, case.tasks, mistaken=case.gradients.get("first"))


def _accelerated(experiment: Experiment, plan: Plan, params: Params, tasks: Task) -> list[Check]:
    """Compare each acceleration that the config uses with the plain meta-gradient, in the config's order."""
    uncompiled = uncompiled_gradient(experiment, plan)
    paths: dict[str, MetaGradient] = {}
    if plan.form == "low_rank":
        paths["low-rank inner update"] = uncompiled
    if plan.chunk < experiment.config.outer.meta_batch_size:
        paths[f"chunks of {plan.chunk} tasks"] = uncompiled
    if plan.compiled:
        name = "fused meta-update" if plan.form == "fused" else "compiled meta-update"
        paths[name] = partial(_compiled_gradient, experiment, plan)

    def error_of(gradient: MetaGradient) -> float:
        expected, log = experiment.method.meta_gradient(params, tasks)
        return gradient_error(gradient(params, tasks), (expected, log["post_adapt_loss"]))

    return [attempt(name, "the plain meta-gradient", EXACT, error_of, gradient) for name, gradient in paths.items()]


def _compiled_gradient(experiment: Experiment, plan: Plan, params: Params, tasks: Task) -> tuple[Params, Log]:
    """The meta-gradient as the compiled meta-update of training hands it to the optimiser."""
    config = experiment.config
    seeds = [{name: value[index] for name, value in params.items()} for index in range(len(config.seeds))]
    state = init_state(seeds, optimizer=config.outer.optimizer, lr=config.outer.lr, device=_CPU)
    log, _ = planned_update(experiment, state, plan, _CPU)(tasks)
    assert state.flat.grad is not None
    return unflatten(state.flat.grad, {name: value.shape[1:] for name, value in params.items()}), log


def _info(case: Case) -> dict[str, float | None]:
    unknown = dict.fromkeys(("first_norm", "second_norm", "second_order_share", "cosine"))
    if "first" not in case.gradients:
        return unknown
    try:
        first, second = (case.gradients[order](case.params, case.tasks)[0] for order in ORDERS)
    except RuntimeError:  # the checks say what failed
        return unknown
    difference = norm({name: second[name] - first[name] for name in second})
    return {
        "first_norm": finite_or_none(norm(first)),
        "second_norm": finite_or_none(norm(second)),
        "second_order_share": finite_or_none(difference / norm(second)) if norm(second) else None,
        "cosine": finite_or_none(cosine(first, second)) if norm(first) and norm(second) else None,
    }
