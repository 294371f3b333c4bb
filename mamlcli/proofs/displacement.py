"""What `check-grads` proves where the meta-gradient is how far inner steps lead, and not a derivative through them."""

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

from mamlcli.proofs.checks import EXACT, Case, Check, MetaGradient, attempt, gradient_error, relative_error
from mamlcli.proofs.quadratic import CURVATURE, TASKS, THETA, quadratic
from mamlcli.proofs.reference import task_of
from mamlcli.tasks.samples import Samples, Task
from mamlcli.types import LossFn, Params

Optimizer = Callable[[list[Tensor]], torch.optim.Optimizer]


def loop_check(
    loss_fn: LossFn[Samples],
    optimizer: Optimizer,
    inner_steps: int,
    chosen: Callable[[Task], Samples],
    case: Case,
    *,
    mistaken: MetaGradient,
) -> Check:
    """Compare with a loop over seeds and tasks in which an optimiser of torch.optim makes the steps.

    Args:
        loss_fn: The loss of the model, written apart from the code under test.
        optimizer: Makes one of torch.optim, of tensors that adapt.
        inner_steps: How many steps it makes.
        chosen: Which samples of a task it sees.
        case: What is to be proven.
        mistaken: The same with one step too few.
    """

    @cache
    def expected() -> tuple[Params, Tensor]:
        return _loop(loss_fn, optimizer, inner_steps, chosen, case.params, case.tasks)

    def error_of(gradient: MetaGradient) -> float:
        return gradient_error(gradient(case.params, case.tasks), expected())

    compared_with = "a loop over tasks, torch.optim step by step"
    name = "initial minus adapted, and loss"
    return attempt(name, compared_with, EXACT, error_of, case.gradients["second"], mistaken=mistaken)


def _loop(
    loss_fn: LossFn[Samples],
    optimizer: Optimizer,
    inner_steps: int,
    chosen: Callable[[Task], Samples],
    params: Params,
    tasks: Task,
) -> tuple[Params, Tensor]:
    num_seeds, num_tasks = tasks.support.x.shape[:2]
    moved, losses = [], []
    for seed in range(num_seeds):
        begun = {name: value[seed].detach() for name, value in params.items()}
        total, query_losses = {name: torch.zeros_like(value) for name, value in begun.items()}, []
        for index in range(num_tasks):
            task = task_of(tasks, seed, index)
            theta = {name: value.clone().requires_grad_() for name, value in begun.items()}
            steps, samples = optimizer(list(theta.values())), chosen(task)
            for _ in range(inner_steps):
                steps.zero_grad()
                loss_fn(theta, samples).backward()  # type: ignore[no-untyped-call]
                steps.step()
            adapted = {name: value.detach() for name, value in theta.items()}
            total = {name: total[name] + begun[name] - adapted[name] for name in total}
            query_losses.append(loss_fn(adapted, task.query))
        moved.append({name: value / num_tasks for name, value in total.items()})
        losses.append(torch.stack(query_losses).mean())
    return {name: torch.stack([one[name] for one in moved]) for name in params}, torch.stack(losses)


def closed_form_check(
    build: Callable[[LossFn[Samples], int], MetaGradient], inner_lr: float, decay: float, inner_steps: int
) -> Check:
    """Compare with the closed form on L(theta) = sum_i a_i theta_i^2 / 2.

    A step maps (theta_i, v_i) to (theta_i - alpha v', v') with v' = decay v_i + a_i theta_i: n steps are the n-th power
    of a matrix, and without a momentum theta - theta' = (1 - (1 - alpha a)^n) theta.

    Args:
        build: Maps a loss, and the number of steps to make too few, to a meta-gradient in `{"theta": ...}`.
        inner_lr: alpha.
        decay: Of the momentum; 0 for none.
        inner_steps: n.
    """

    def expected() -> Params:
        if decay == 0:
            return {"theta": (1 - (1 - inner_lr * CURVATURE) ** inner_steps) * THETA}
        powers = [
            torch.linalg.matrix_power(
                torch.tensor([[1 - inner_lr * a, -inner_lr * decay], [a, decay]], dtype=torch.float64), inner_steps
            )[0, 0]
            for a in CURVATURE.tolist()
        ]
        return {"theta": (1 - torch.stack(powers)) * THETA}

    def error_of(gradient: MetaGradient) -> float:
        return relative_error(gradient({"theta": THETA}, TASKS)[0], expected())

    form = "(1 - (1 - alpha a)^steps) theta" if decay == 0 else "the power of a 2 x 2 matrix"
    make = partial(build, quadratic)
    return attempt("on a quadratic", f"closed form: {form}", EXACT, error_of, make(0), mistaken=make(1))
