"""`maml check-grads`: a proof, on the user's own config, that the meta-gradient is what it says."""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mamlcli.algorithms import MetaGradient
from mamlcli.algorithms.joint import all_samples
from mamlcli.algorithms.learned_rates import init_rates
from mamlcli.config.experiment import Config
from mamlcli.meta_test.losses import finite_or_none
from mamlcli.proofs.check_chain import chain_checks, slot_approximation
from mamlcli.proofs.checks import (
    EXACT,
    Check,
    attempt,
    cosine,
    gradient_error,
    norm,
    quadratic_error,
    relative_error,
    slope_check,
)
from mamlcli.proofs.reference import loop_meta_gradient, module_loss, rates_of, second_order_term
from mamlcli.setup import (
    compile_decision,
    layer_sizes,
    make_engine_gradient,
    make_engine_update,
    make_meta_gradient,
    make_plain_gradient,
    make_state,
    make_stream,
    task_chunk,
    uses_fused,
    uses_low_rank,
    with_order,
)
from mamlcli.tasks import Samples, Task
from mamlcli.training import init_state, unflatten
from mamlcli.types import ORDERS, LossFn, Order, Params, Row

# A check that takes seconds looks at a part of a large experiment.
_MAX_SEEDS = 3
_MAX_TASKS = 10


class GradientReport(NamedTuple):
    """What the checks found."""

    passed: bool
    checks: list[Check]
    """Those that fail come first."""
    seeds: tuple[int, ...]
    tasks: int
    info: dict[str, float | None]
    """Norms of both meta-gradients, the share of second order in its own norm, and the cosine between them; null
    where a meta-gradient could not be computed or is zero."""
    approximation: Row | None = None
    """Of a chain: what one central difference in place of the mixed derivative costs and loses; nothing that can fail.
    See `slot_approximation`."""

    def as_json(self) -> dict[str, Any]:
        """The object of `maml check-grads --json`."""
        checks = [check._asdict() | {"relative_error": finite_or_none(check.relative_error)} for check in self.checks]
        return {"schema": "mamlcli.check-grads/1"} | self._asdict() | {"checks": checks}


def check_grads(config: Config) -> GradientReport:
    """Check the meta-gradient of a config in float64, on its initial parameters and its first meta-batch.

    At most 3 seeds and 10 tasks are used, on the CPU.
    """
    config = _part_of(config)
    params, tasks = _inputs(config)
    chain = config.algorithm.name == "chain"
    checks = (chain_checks if chain else _checks)(config, params, tasks) + _accelerated(config, params, tasks)
    return GradientReport(
        passed=all(check.passed for check in checks),
        checks=sorted(checks, key=lambda check: check.passed),
        seeds=config.seeds,
        tasks=config.outer.meta_batch_size,
        info=_info(config, params, tasks),
        approximation=_approximation(config, params, tasks) if chain else None,
    )


def _part_of(config: Config) -> Config:
    """The experiment with as many seeds and tasks as a check of seconds can take."""
    size = min(config.outer.meta_batch_size, _MAX_TASKS)
    outer = config.outer.model_copy(update={"meta_batch_size": size, "max_grad_norm": None})
    return config.model_copy(update={"seeds": config.seeds[:_MAX_SEEDS], "outer": outer})


def _inputs(config: Config) -> tuple[Params, Task]:
    """Initial parameters and the first meta-batch, in float64."""
    batch = make_stream(config).batch(0)
    tasks = Task(*(Samples(side.x.double(), side.y.double()) for side in batch))
    state = make_state(config, torch.device("cpu"))
    return {name: value.double() for name, value in state.params.items()}, tasks


def _gradient(config: Config, order: Order) -> MetaGradient:
    """The code under test: what training with this order uses, before it is compiled."""
    return make_engine_gradient(with_order(config, order))


def _plain_gradients(config: Config, loss_fn: LossFn[Samples]) -> tuple[MetaGradient, MetaGradient]:
    """The meta-gradients of first and second order without acceleration, of any loss."""
    first, second = (make_meta_gradient(loss_fn, with_order(config, order).algorithm) for order in ORDERS)
    return first, second


def _constant_rates(config: Config, theta: Params) -> Params:
    """The learned rates of a config, all at alpha, for parameters with a leading axis of seeds."""
    alpha, kind = config.algorithm.inner_lr, config.algorithm.learned_inner_lr
    if kind is None:
        return {}
    seeds = next(iter(theta.values())).shape[0]
    single = {name: value[0] for name, value in theta.items()}
    drawn = init_rates(single, kind, interval=(alpha, alpha), inner_steps=config.algorithm.inner_steps, seed=0)
    # alpha as it is, and not as float32 has it
    return {name: torch.full((seeds, *value.shape), alpha, dtype=torch.float64) for name, value in drawn.items()}


def _checks(config: Config, params: Params, tasks: Task) -> list[Check]:
    first, second = (_gradient(config, order) for order in ORDERS)
    textbook_loss = module_loss(layer_sizes(config), config.model.activation)
    algorithm = config.algorithm
    # Joint training is MAML without a step, measured on all samples.
    joint = algorithm.name == "joint"
    inner_steps, textbook_tasks = (
        (0, Task(tasks.support, all_samples(tasks))) if joint else (algorithm.inner_steps, tasks)
    )
    inner: dict[str, Any] = {
        "rates": rates_of(algorithm.learned_inner_lr, algorithm.inner_lr),
        "inner_steps": inner_steps,
    }

    def against_loop(order: Order, gradient: MetaGradient) -> float:
        expected = loop_meta_gradient(textbook_loss, params, textbook_tasks, order=order, **inner)
        return gradient_error(gradient(params, tasks), expected)

    def second_order_alone() -> float:
        (ours, _), (without, _) = second(params, tasks), first(params, tasks)
        difference = {name: ours[name] - without[name] for name in params}
        return relative_error(difference, second_order_term(textbook_loss, params, textbook_tasks, **inner))

    return [
        slope_check(second, params, tasks),
        attempt(
            "second order: gradient and loss",
            "a loop over tasks, autograd.grad(create_graph=True)",
            EXACT,
            lambda: against_loop("second", second),
        ),
        attempt(
            "first order: gradient and loss",
            "a loop over tasks that detaches the inner gradients",
            EXACT,
            lambda: against_loop("first", first),
        ),
        attempt(
            "second order minus first order",
            "Hessian-vector products, -alpha H_support grad L_query for one step",
            EXACT,
            second_order_alone,
        ),
        attempt(
            "both orders on a quadratic",
            "closed form: second = first x (1 - alpha a)^steps",
            EXACT,
            lambda: quadratic_error(
                lambda loss_fn: _plain_gradients(config, loss_fn),
                partial(_constant_rates, config),
                inner_lr=algorithm.inner_lr,
                inner_steps=inner_steps,
            ),
        ),
    ]


def _accelerated(config: Config, params: Params, tasks: Task) -> list[Check]:
    """Compare each acceleration that the config uses with the plain meta-gradient, in the config's order."""
    plain = make_plain_gradient(config)
    engine = make_engine_gradient(config)
    paths = {}
    if uses_low_rank(config):
        paths["low-rank inner update"] = engine
    if task_chunk(config) < config.outer.meta_batch_size:
        paths[f"chunks of {task_chunk(config)} tasks"] = engine
    cpu = torch.device("cpu")
    if compile_decision(config, cpu).compiled:
        fused = uses_fused(config, cpu)
        paths["fused meta-update" if fused else "compiled meta-update"] = partial(_compiled_gradient, config)

    def error(gradient: MetaGradient) -> float:
        return gradient_error(gradient(params, tasks), plain(params, tasks))

    return [
        attempt(name, "the plain meta-gradient", EXACT, partial(error, gradient)) for name, gradient in paths.items()
    ]


def _compiled_gradient(config: Config, params: Params, tasks: Task) -> tuple[Params, Tensor]:
    """The meta-gradient as the compiled meta-update of training hands it to the optimiser."""
    seeds = [{name: value[index] for name, value in params.items()} for index in range(len(config.seeds))]
    cpu = torch.device("cpu")
    state = init_state(seeds, optimizer=config.outer.optimizer, lr=config.outer.lr, device=cpu)
    losses, _ = make_engine_update(config, state, cpu)(tasks)
    assert state.flat.grad is not None
    return unflatten(state.flat.grad, {name: value.shape[1:] for name, value in params.items()}), losses


def _approximation(config: Config, params: Params, tasks: Task) -> Row | None:
    try:
        return slot_approximation(config, params, tasks)
    except RuntimeError:  # the checks say what failed
        return None


def _info(config: Config, params: Params, tasks: Task) -> dict[str, float | None]:
    try:
        first, second = (_gradient(config, order)(params, tasks)[0] for order in ORDERS)
    except RuntimeError:  # the checks say what failed
        return dict.fromkeys(("first_norm", "second_norm", "second_order_share", "cosine"))
    difference = norm({name: second[name] - first[name] for name in second})
    return {
        "first_norm": finite_or_none(norm(first)),
        "second_norm": finite_or_none(norm(second)),
        "second_order_share": finite_or_none(difference / norm(second)) if norm(second) else None,
        "cosine": finite_or_none(cosine(first, second)) if norm(first) and norm(second) else None,
    }
