"""What `maml check-grads` proves of a chain, and what the usual approximation of its gradient costs and loses."""

import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from torch import Tensor

from mamlcli.algorithms import MetaGradient
from mamlcli.algorithms.chain import SLOT_WEIGHTS, STUDENT, TEACHER, chain_losses, part_of, weighted_mean
from mamlcli.algorithms.maml import adapt, gradient_per_seed
from mamlcli.compute.engine import using_threads
from mamlcli.config.experiment import Config
from mamlcli.meta_test.losses import finite_or_none
from mamlcli.proofs.chain_reference import ChainLoop
from mamlcli.proofs.checks import (
    DIFFERENCE,
    EXACT,
    Check,
    attempt,
    finite_difference_error,
    gradient_error,
    norm,
    relative_error,
    slope_check,
)
from mamlcli.proofs.reference import module_outputs
from mamlcli.setup import layer_sizes, make_chain_model, make_engine_gradient, with_order
from mamlcli.tasks import Samples, Task
from mamlcli.types import ORDERS, Order, Params, Row

_REPEATS = 7
# The step of the difference is this over the length of its direction (Liu et al. 2019, arXiv:1806.09055, section 2.3).
_EPSILON = 0.01


def chain_checks(config: Config, params: Params, tasks: Task) -> list[Check]:
    """Check the meta-gradient of a chain in all its parameters, and in A through both models.

    Args:
        config: Of a chain.
        params: Meta-parameters in float64.
        tasks: A meta-batch in float64.
    """
    first, second = (make_engine_gradient(with_order(config, order)) for order in ORDERS)
    loop = _loop(config)

    def against_loop(order: Order, gradient: MetaGradient) -> float:
        return gradient_error(gradient(params, tasks), loop.gradient(params, tasks, order))

    checks = [
        slope_check(second, params, tasks),
        attempt(
            "second order: gradient and loss",
            "both models unrolled in loops, autograd.grad(create_graph=True)",
            EXACT,
            lambda: against_loop("second", second),
        ),
        attempt(
            "first order: gradient and loss",
            "the same loops with the inner gradients detached",
            EXACT,
            lambda: against_loop("first", first),
        ),
        attempt(
            "first order: gradient to A and the teacher",
            "exactly zero: the mixed derivatives are all there is",
            0.0,
            lambda: norm(_upstream(first(params, tasks)[0])),
        ),
    ]
    return checks + (_checks_of_slots(second, loop, params, tasks) if SLOT_WEIGHTS in params else [])


def _checks_of_slots(second: MetaGradient, loop: ChainLoop, params: Params, tasks: Task) -> list[Check]:
    """Check the gradient to A alone, which is small beside the others."""

    def of_slots(slots: Params, tasks: Task) -> tuple[Params, Tensor]:
        grads, losses = second(params | slots, tasks)
        return {SLOT_WEIGHTS: grads[SLOT_WEIGHTS]}, losses

    slots = {SLOT_WEIGHTS: params[SLOT_WEIGHTS]}
    return [
        attempt(
            "second order: gradient to A alone",
            "central differences in A",
            DIFFERENCE,
            lambda: finite_difference_error(of_slots, slots, tasks),
        ),
        attempt(
            "second order: gradient to A alone",
            "-alpha v^T J, with the full mixed Jacobian J from torch.func.jacrev",
            EXACT,
            lambda: relative_error(of_slots(slots, tasks)[0], {SLOT_WEIGHTS: loop.slot_gradient(params, tasks)}),
        ),
    ]


def _loop(config: Config) -> ChainLoop:
    predict = module_outputs(layer_sizes(config), config.model.activation)
    algorithm = config.algorithm
    return ChainLoop(predict, config.tasks.support_shots, algorithm.inner_lr, algorithm.inner_steps)


def _upstream(grads: Params) -> Params:
    """What reaches the meta-loss through inner gradients only."""
    return {name: value for name, value in grads.items() if name == SLOT_WEIGHTS or name.startswith(TEACHER)}


def slot_approximation(config: Config, params: Params, tasks: Task) -> Row | None:
    """Measure what one central difference in place of the mixed derivative loses, and what it saves.

    As in DARTS (Liu et al. 2019, arXiv:1806.09055, equation 8), in place of -alpha v^T J:
    -alpha (dL/dA at theta + eps v  -  dL/dA at theta - eps v) / (2 eps), with eps = 0.01 / |v|. It sees the teacher's
    last step alone.

    Returns:
        relative_error (float64, where only the difference is to blame), relative_error_float32 (as one would train),
        ms and exact_ms (float32, the gradient to A alone, one thread, median of several); None where A is not learned.
    """
    if SLOT_WEIGHTS not in params:
        return None
    single = {name: value.float() for name, value in params.items()}
    single_tasks = Task(*(Samples(side.x.float(), side.y.float()) for side in tasks))
    exact = _exact(config, params, tasks)

    def error(found: Tensor) -> float | None:
        return finite_or_none(relative_error({SLOT_WEIGHTS: found.double()}, {SLOT_WEIGHTS: exact}))

    return {
        "relative_error": error(_by_difference(config, params, tasks)),
        "relative_error_float32": error(_by_difference(config, single, single_tasks)),
        "ms": _milliseconds(lambda: _by_difference(config, single, single_tasks)),
        "exact_ms": _milliseconds(lambda: _exact(config, single, single_tasks)),
    }


def _exact(config: Config, params: Params, tasks: Task) -> Tensor:
    """The gradient to A alone, through both models, as the code under test computes it."""
    losses_of = partial(
        chain_losses,
        make_chain_model(config.model),
        shots=config.tasks.support_shots,
        inner_lr=config.algorithm.inner_lr,
        inner_steps=config.algorithm.inner_steps,
        order="second",
    )
    slots = {SLOT_WEIGHTS: params[SLOT_WEIGHTS]}
    grads, _ = gradient_per_seed(lambda slots, tasks: losses_of(params | slots, tasks), slots, tasks)
    return grads[SLOT_WEIGHTS]


def _by_difference(config: Config, params: Params, tasks: Task) -> Tensor:
    """The same by one central difference."""
    model, shots = make_chain_model(config.model), config.tasks.support_shots
    inner_lr, steps = config.algorithm.inner_lr, config.algorithm.inner_steps

    def of_task(params: Params, task: Task) -> Tensor:
        slots, x = Samples(task.support.x[:shots], task.support.y[:shots]), task.support.x[shots:]

        def weighted(teacher: Params, slots: Samples) -> Tensor:
            return weighted_mean(params[SLOT_WEIGHTS], model.errors(teacher, slots))

        def query_loss(teacher: Params) -> Tensor:
            taught, student = Samples(x, model.predict(teacher, x)), part_of(STUDENT, params)
            adapted = adapt(model.loss, student, taught, inner_lr=inner_lr, inner_steps=steps, order="second")
            return model.loss(adapted, task.query)

        step = partial(adapt, weighted, support=slots, inner_lr=inner_lr, order="first")
        before = step(part_of(TEACHER, params), inner_steps=steps - 1)
        vector = torch.func.grad(query_loss)(step(before, inner_steps=1))
        epsilon = _EPSILON / torch.cat([value.flatten() for value in vector.values()]).norm()
        ahead, behind = (
            model.errors({name: value + sign * epsilon * vector[name] for name, value in before.items()}, slots)
            for sign in (1, -1)
        )
        found: Tensor = -inner_lr * (ahead - behind) / (2 * epsilon) / shots
        return found

    with torch.no_grad():
        found: Tensor = torch.vmap(torch.vmap(of_task, in_dims=(None, 0)))(params, tasks).mean(dim=1)
    return found


def _milliseconds(computation: Callable[[], object]) -> float:
    spent = []
    with using_threads(1):  # two wait for each other where another process wants a core
        computation()
        for _ in range(_REPEATS):
            since = time.perf_counter()
            computation()
            spent.append(1e3 * (time.perf_counter() - since))
    return round(median(spent), 3)
