"""What `check-grads` proves of a meta-gradient that differentiates the solution of a proximal inner problem."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import TypeAlias

import torch
from torch import Tensor

from mamlcli.proofs.checks import EXACT, Case, Check, MetaGradient, attempt, gradient_error, number, relative_error
from mamlcli.proofs.implicit_reference import Problem, largest_curvature, on_krylov, unrolled
from mamlcli.proofs.reference import task_of
from mamlcli.tasks.samples import Samples, Task
from mamlcli.types import LossFn, Params, Row, finite_or_none

# With lambda so many times the largest curvature, the inner problem is strongly convex wherever the support loss curves
# at most as much downwards, and each step takes a factor of 0.56 off the distance from its solution at least.
_STRONG, _STEP_AT, _LONG = 3.0, 1.5, 60
# Conjugate gradients of that system, whose condition is 2 at most: 0.03 a step.
_ENOUGH = 30
_SOLVED = 1e-12
"""How much of an inner gradient may be left where a task counts as solved."""
_PER_SOLVED = 1e3
"""So many times that, gradients may be apart: each of the steps sees another Hessian, and there is a margin of 16."""
_LADDER = (1, 2, 4, 8, 16, 32, 64)
_LADDER_TASKS = 3
_ALL_CG = 50
# Autograd holds four times the weights of each step, in double precision: a gigabyte.
_MOST_UNROLLED = 2**25


Build: TypeAlias = Callable[[Problem], MetaGradient]


def implicit_checks(problem: Problem, textbook: LossFn[Samples], build: Build, case: Case) -> list[Check]:
    """Compare with loops, with a closed form and with a long unrolled gradient.

    Args:
        problem: What is trained.
        textbook: Its loss, written apart from the code under test.
        build: What is under test.
        case: Where.
    """

    @cache
    def written_out() -> tuple[Params, Tensor]:
        return _over_tasks(lambda theta, task: on_krylov(problem._replace(loss_fn=textbook), theta, task), case)

    return [
        attempt(
            "gradient and loss",
            "loops, autograd.grad, and the best of the Krylov space, by torch.linalg.solve",
            EXACT,
            lambda gradient: gradient_error(gradient(case.params, case.tasks), written_out()),
            case.gradients["second"],
            mistaken=build(problem._replace(cg_steps=0)),
        ),
        attempt(
            "implicit gradient on a quadratic",
            "closed form: (I + A / lambda)^-1 (A phi - y), phi = (A + lambda I)^-1 (lambda theta + b)",
            EXACT,
            lambda cg_steps: _quadratic_error(build, problem.proximal, cg_steps),
            _ENOUGH,
            mistaken=0,
        ),
        _unrolled_check(problem, textbook, build, case),
    ]


def _over_tasks(of_task: Callable[[Params, Task], tuple[Params, Tensor]], case: Case) -> tuple[Params, Tensor]:
    """Means over tasks, by loops over seeds and tasks."""
    num_seeds, num_tasks = case.tasks.support.x.shape[:2]
    found = [[of_task(*_one(case, seed, index)) for index in range(num_tasks)] for seed in range(num_seeds)]
    losses = torch.stack([torch.stack([loss for _, loss in row]).mean() for row in found])
    grads = {
        name: torch.stack([torch.stack([grads[name] for grads, _ in row]).mean(dim=0) for row in found])
        for name in case.params
    }
    return grads, losses


def _one(case: Case, seed: int, index: int) -> tuple[Params, Task]:
    """A seed's parameters, and one of its tasks."""
    return {name: value[seed] for name, value in case.params.items()}, task_of(case.tasks, seed, index)


def _quadratic_error(build: Build, proximal: float, cg_steps: int) -> float:
    """Compare with the closed form on L(phi) = phi A phi / 2 - y phi, y the targets of support and query.

    The inner problem is solved to rounding by 200 steps, each of which takes a fifth off the distance at least.
    """
    curvature = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 0.7]], dtype=torch.float64)
    theta, support, query = torch.tensor([[1.0, -2.0, 3.0], [0.5, 1.0, -0.5], [-1.0, 0.3, 0.8]]).double()

    def loss_fn(params: Params, samples: Samples) -> Tensor:
        phi = params["theta"]
        return phi @ curvature @ phi / 2 - samples.y[:, 0] @ phi + 0 * samples.x.sum()

    problem = Problem(loss_fn, 1 / (proximal + 2.4), 200, proximal, cg_steps)
    sides = (Samples(torch.zeros(1, 1, 3, 1).double(), y.view(1, 1, 3, 1)) for y in (support, query))
    ours = build(problem)({"theta": theta[None]}, Task(*sides))
    identity = torch.eye(3, dtype=torch.float64)
    phi = torch.linalg.solve(curvature + proximal * identity, proximal * theta + support)
    expected = torch.linalg.solve(identity + curvature / proximal, curvature @ phi - query)
    loss = phi @ curvature @ phi / 2 - query @ phi
    return gradient_error(ours, ({"theta": expected[None]}, loss[None]))


def _unrolled_check(problem: Problem, textbook: LossFn[Samples], build: Build, case: Case) -> Check:
    """Compare with a long unrolled gradient, where lambda is large enough for the inner problem to be solved.

    Where an activation changes sides at a solution, gradient descent does not settle there: of the first two tasks of
    each seed those count that are solved. If none is, what is left says how near the gradients can be.
    """

    def of_task(theta: Params, task: Task) -> tuple[Params, Task, Problem, Params, float]:
        curvature = largest_curvature(textbook, theta, task.support)
        proximal = max(problem.proximal, _STRONG * curvature)
        solved = Problem(textbook, 1 / (proximal + _STEP_AT * curvature), _LONG, proximal, _ENOUGH)
        return theta, task, solved, *unrolled(solved, theta, task)

    @cache
    def found() -> list[tuple[Params, Task, Problem, Params, float]]:
        num_seeds, num_tasks = case.tasks.support.x.shape[:2]
        tasks = [of_task(*_one(case, seed, index)) for seed in range(num_seeds) for index in range(min(2, num_tasks))]
        return [one for one in tasks if one[-1] <= _SOLVED] or [min(tasks, key=lambda one: one[-1])]

    def error_of(cg_steps: int) -> float:
        errors = []
        for theta, task, solved, expected, _ in found():
            gradient = build(solved._replace(loss_fn=problem.loss_fn, cg_steps=cg_steps))
            errors.append(relative_error(_of_one(gradient, theta, task), expected))
        return max(errors)

    return attempt(
        "implicit gradient, inner problem solved",
        f"autograd through {_LONG} inner steps, lambda at least {_STRONG:g} times the largest curvature",
        lambda: max(EXACT, _PER_SOLVED * max(left for *_, left in found())),
        error_of,
        _ENOUGH,
        mistaken=0,
    )


def _of_one(gradient: MetaGradient, theta: Params, task: Task) -> Params:
    """The meta-gradient of one seed and one task."""
    grads, _ = gradient({name: value[None] for name, value in theta.items()}, task.map(lambda part: part[None, None]))
    return {name: value[0] for name, value in grads.items()}


def distances(problem: Problem, textbook: LossFn[Samples], build: Build, case: Case) -> list[Row]:
    """How far the implicit gradient is from the unrolled one of as many steps, and how much is left to solve.

    Of the first seed and its first three tasks. Where conjugate gradients solve the system, where they make as many
    steps as in training, and where they make none.
    """
    num_tasks = min(_LADDER_TASKS, case.tasks.support.x.shape[1])
    pairs = [_one(case, 0, index) for index in range(num_tasks)]
    most = _MOST_UNROLLED // sum(value[0].numel() for value in case.params.values())
    of_training = f"cg_steps: {problem.cg_steps}, as in training"
    lines = {of_training: problem.cg_steps, "the system solved": _ALL_CG, "first order: no cg_steps": 0}
    rows: list[Row] = []
    for steps in (steps for steps in sorted({*_LADDER, problem.inner_steps}) if steps <= most):
        at = problem._replace(inner_steps=steps)
        walked = [unrolled(at._replace(loss_fn=textbook), *pair) for pair in pairs]
        expected = _mean([grads for grads, _ in walked])
        left = finite_or_none(sum(left for _, left in walked) / num_tasks)
        for line, cg_steps in lines.items():
            gradient = build(at._replace(cg_steps=cg_steps))
            error = relative_error(_mean([_of_one(gradient, *pair) for pair in pairs]), expected)
            rows.append({"line": line, "x": steps, "error": finite_or_none(error), "inner_gradient_left": left})
    return rows


def _mean(grads: Sequence[Params]) -> Params:
    return {name: torch.stack([one[name] for one in grads]).mean(dim=0) for name in grads[0]}


def distances_in_words(rows: Sequence[Row], inner_steps: int) -> str:
    """What the distances of the steps and conjugate gradients of training are."""
    at = [row for row in rows if row["x"] == inner_steps]
    if not at:
        return f"{inner_steps} inner steps of this model are more than can be unrolled here to compare with"
    own, _, first = at
    ladder = ", ".join(f"{row['x']}: {number(row['error'])}" for row in rows if row["line"] == own["line"])
    return (
        f"{inner_steps} inner step(s) leave {number(own['inner_gradient_left'])} of the inner problem's gradient; the "
        f"implicit gradient is {number(own['error'])} of its norm from the one unrolled through them, first order "
        f"{number(first['error'])}. By inner steps: {ladder}"
    )
