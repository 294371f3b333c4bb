"""What `check-grads` proves of a second-order meta-gradient by differences of gradients."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from mamlcli.proofs.checks import EXACT, Case, Check, MetaGradient, attempt, gradient_error, number, relative_error
from mamlcli.proofs.quadratic import CURVATURE, TASKS, THETA, quadratic
from mamlcli.proofs.reference import Textbook, loop_meta_gradient, task_of
from mamlcli.tasks.samples import Samples, Task, each_alone
from mamlcli.types import LossFn, Order, Params, Row, finite_or_none

# A difference over a step of delta holds the rounding of gradients, 1e-16, divided by delta.
_ROUNDING = 1e-13
# Over a step so small few activations change sides, what is left once the error in proportion to the step is taken off
# goes with its square, 1e-10, and rounding is 1e-11.
_SMALL, _LIMIT = 1e-5, 1e-7
_POWERS = {"forward": 1, "central": 2}
_LADDER = tuple(10 ** (exponent / 2) for exponent in range(-16, 1))
_FLOAT64, _FLOAT32 = "float64", "float32, which trains"
# Where of the ladder errors are those of the difference, neither of rounding nor of activations that change sides.
_ANCHORS = {"forward": 6, "central": 8}
FIRST = "first order, without the term"
GUIDES = {"forward": "in proportion to the step", "central": "in proportion to its square"}


class Problem(NamedTuple):
    """How the meta-gradient is found."""

    loss_fn: LossFn[Samples]
    inner_lr: float
    inner_steps: int
    difference_step: float
    sides: Literal["forward", "central"]


Build: TypeAlias = Callable[[Problem], MetaGradient]


def difference_checks(problem: Problem, textbook: LossFn[Samples], build: Build, case: Case) -> list[Check]:
    """Compare with the same differences in loops, with exact second order in the limit, and with a closed form.

    Args:
        problem: What is trained.
        textbook: Its loss, written apart from the code under test.
        build: What is under test.
        case: Where.
    """
    params, tasks = case.params, case.tasks
    rounding = max(EXACT, _ROUNDING / problem.difference_step)

    def first_order(_: Problem) -> MetaGradient:
        return lambda params, tasks: _with_log(_exact(problem, textbook, params, tasks, "first"))

    @cache
    def written_out() -> tuple[Params, Tensor]:
        return _loop(problem._replace(loss_fn=textbook), params, tasks)

    def against_loops(gradient: MetaGradient) -> float:
        return gradient_error(gradient(params, tasks), written_out())

    power = "" if problem.sides == "forward" else "^2"
    return [
        attempt(
            "gradient and loss",
            "the same differences in loops, torch.autograd",
            rounding,
            against_loops,
            case.gradients["second"],
            mistaken=first_order(problem),
        ),
        attempt(
            "limit of the gradient as its step shrinks",
            f"exact second order, autograd.grad(create_graph=True): from two steps, errors of c delta{power} cancelled",
            _LIMIT,
            lambda build: _limit_error(problem, textbook, build, case),
            build,
            mistaken=first_order,
        ),
        attempt(
            "gradient on a quadratic",
            "closed form: a (1 - alpha a)^(2 steps) theta, whatever the step",
            rounding,
            lambda build: _quadratic_error(problem, build),
            build,
            mistaken=lambda problem: _halved(build(problem)),
        ),
    ]


def _with_log(found: tuple[Params, Tensor]) -> tuple[Params, dict[str, Tensor]]:
    return found[0], {"post_adapt_loss": found[1]}


def _halved(gradient: MetaGradient) -> MetaGradient:
    """A mistake of a factor."""

    def half(params: Params, tasks: Task) -> tuple[Params, dict[str, Tensor]]:
        grads, log = gradient(params, tasks)
        return {name: value / 2 for name, value in grads.items()}, log

    return half


def _exact(
    problem: Problem, textbook: LossFn[Samples], params: Params, tasks: Task, order: Order = "second"
) -> tuple[Params, Tensor]:
    """The meta-gradient by derivatives of derivatives."""
    descent = Textbook(textbook, lambda *_: problem.inner_lr, problem.inner_steps)
    return loop_meta_gradient(descent, params, tasks, order=order)


def _loop(problem: Problem, params: Params, tasks: Task) -> tuple[Params, Tensor]:
    """The same differences by loops over seeds and tasks, of weights as one vector."""
    grads, losses = [], []
    sizes = [value[0].numel() for value in params.values()]

    def in_pieces(flat: Tensor) -> tuple[Tensor, ...]:
        pieces: tuple[Tensor, ...] = torch.split(flat, sizes, dim=-1)
        return pieces

    def gradient(flat: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
        leaf = flat.detach().requires_grad_()
        pieces = zip(params.items(), in_pieces(leaf), strict=True)
        loss = problem.loss_fn({name: piece.view(value.shape[1:]) for (name, value), piece in pieces}, samples)
        return torch.autograd.grad(loss, leaf)[0], loss.detach()

    for seed in range(len(tasks.support.x)):
        start = torch.cat([value[seed].flatten() for value in params.values()])
        found = [
            _walk_back(problem, gradient, start, task_of(tasks, seed, index))
            for index in range(tasks.support.x.shape[1])
        ]
        grads.append(torch.stack([grad for grad, _ in found]).mean(dim=0))
        losses.append(torch.stack([loss for _, loss in found]).mean())
    columns = zip(params, in_pieces(torch.stack(grads)), strict=True)
    return {name: part.view_as(params[name]) for name, part in columns}, torch.stack(losses)


def _walk_back(
    problem: Problem, gradient: Callable[[Tensor, Samples], tuple[Tensor, Tensor]], start: Tensor, task: Task
) -> tuple[Tensor, Tensor]:
    """The recursion of one task."""
    path = [start]
    for _ in range(problem.inner_steps):
        path.append(path[-1] - problem.inner_lr * gradient(path[-1], task.support)[0])
    vector, loss = gradient(path[-1], task.query)
    for theta in reversed(path[:-1]):
        unit = vector / vector.norm() if vector.norm() > 0 else vector
        ends = [1.0, 0.0] if problem.sides == "forward" else [1.0, -1.0]
        ahead, behind = (gradient(theta + end * problem.difference_step * unit, task.support)[0] for end in ends)
        slope = (ahead - behind) / ((ends[0] - ends[1]) * problem.difference_step)
        vector = vector - problem.inner_lr * vector.norm() * slope
    return vector, loss


def _limit_error(problem: Problem, textbook: LossFn[Samples], build: Build, case: Case) -> float:
    """The error of what two steps say of a step of zero: the median over tasks, a few of which are not smooth there.

    An error c delta^p + O(delta^(p+1)) is cancelled to its second term, and one of any other form, or one that stays,
    is not.
    """
    factor = 2 ** _POWERS[problem.sides]
    params, tasks = each_alone(case.params, case.tasks)
    whole, half = (build(problem._replace(difference_step=step))(params, tasks)[0] for step in (_SMALL, _SMALL / 2))
    limit = {name: (factor * half[name] - whole[name]) / (factor - 1) for name in whole}
    exact, _ = _exact(problem, textbook, params, tasks)
    count = len(tasks.support.x)
    errors = [
        relative_error(*({name: value[i] for name, value in one.items()} for one in (limit, exact)))
        for i in range(count)
    ]
    return float(torch.tensor(errors).median())


def _quadratic_error(problem: Problem, build: Build) -> float:
    """Compare with the closed form on L(theta) = sum_i a_i theta_i^2 / 2, whose differences have rounding alone."""
    ours, _ = build(problem._replace(loss_fn=quadratic))({"theta": THETA}, TASKS)
    factor = (1 - problem.inner_lr * CURVATURE) ** (2 * problem.inner_steps)
    return relative_error(ours, {"theta": CURVATURE * factor * THETA})


def errors(problem: Problem, textbook: LossFn[Samples], build: Build, case: Case) -> list[Row]:
    """The error of the meta-gradient against exact second order, by the step of its difference and by precision.

    Also that of first order, which leaves out what differences are there to find.
    """
    exact, _ = _exact(problem, textbook, case.params, case.tasks)
    first = relative_error(_exact(problem, textbook, case.params, case.tasks, "first")[0], exact)
    rows: list[Row] = []
    for line, dtype in {_FLOAT64: torch.float64, _FLOAT32: torch.float32}.items():
        params = {name: value.to(dtype) for name, value in case.params.items()}
        tasks = case.tasks.map(Tensor.double if dtype is torch.float64 else Tensor.float)
        for step in sorted({*_LADDER, problem.difference_step}):
            grads, _ = build(problem._replace(difference_step=step))(params, tasks)
            error = relative_error({name: value.double() for name, value in grads.items()}, exact)
            rows.append({"line": line, "x": step, "error": finite_or_none(error)})
    rows += [{"line": FIRST, "x": step, "error": finite_or_none(first)} for step in (_LADDER[0], _LADDER[-1])]
    return rows + _proportional(problem, rows)


def _proportional(problem: Problem, rows: Sequence[Row]) -> list[Row]:
    """What errors in proportion to the step, or to its square, would be, inside what is drawn of the others."""
    power = _POWERS[problem.sides]
    step = _LADDER[_ANCHORS[problem.sides]]
    error = next(row["error"] for row in rows if row["line"] == _FLOAT64 and row["x"] == step)
    if error is None or error <= _ROUNDING / step:
        return []
    shown = [row["error"] for row in rows if row["error"]]
    line = [{"line": GUIDES[problem.sides], "x": x, "error": error * (x / step) ** power} for x in _LADDER]
    return [row for row in line if min(shown) <= row["error"] <= max(shown)]


def errors_in_words(rows: Sequence[Row], problem: Problem) -> str:
    """What the errors are at the step of training, and along the ladder."""
    at = {line: {row["x"]: row["error"] for row in rows if row["line"] == line} for line in (_FLOAT64, _FLOAT32)}
    first = next(row["error"] for row in rows if row["line"] == FIRST)
    ladder = ", ".join(
        f"{step:.0e}: {number(at[_FLOAT64][step])} and {number(at[_FLOAT32][step])}" for step in _LADDER[2:-1:4]
    )
    own = problem.difference_step
    return (
        f"over a step of {own:g} the gradient is off by {number(at[_FLOAT64][own])} of its norm in float64 and "
        f"{number(at[_FLOAT32][own])} in float32, first order by {number(first)}. By the step, in float64 and float32: "
        f"{ladder}"
    )
