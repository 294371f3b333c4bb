"""What `check-grads` shows of MAML and of what its config adds: the proofs, put together."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch

from mamlcli.methods.inner_loops import constant, gradient_descent, init_rates
from mamlcli.methods.maml import MamlConfig, adapting, course_of, inner_loop, rate_of
from mamlcli.methods.meta_gradients import adapted, unrolled
from mamlcli.methods.method import Bench, InnerLoop, Log, MetaGradient, textbook_loss
from mamlcli.methods.per_step_losses import annealed, planned_phases
from mamlcli.proofs.annealing import Moment, annealed_weights, annealing_checks, moment_check
from mamlcli.proofs.checks import Case, Check
from mamlcli.proofs.descent import descent_checks, loop_checks, optimizer_check
from mamlcli.proofs.maps import identity_check, textbook_map, with_moved_maps
from mamlcli.proofs.reference import Textbook, rates_of, textbook_optimizer, torch_optimizer
from mamlcli.tasks.samples import Samples, Task
from mamlcli.types import ORDERS, LossFn, Order, Params


def maml_checks(config: MamlConfig, bench: Bench, case: Case) -> list[Check]:
    """What holds of this config: Hessian-vector products and a quadratic are of plain gradients alone."""
    textbook = Textbook(
        textbook_loss(bench),
        rates_of(config.learned_inner_lr, config.inner_lr, adapting(config, bench.model)),
        config.inner_steps,
        textbook_optimizer(config.inner_optimizer, config.inner_momentum),
        textbook_map(config.preconditioner),
    )
    # Where maps are the identity, a wrong one can pass.
    moved = with_moved_maps(case)
    if config.inner_optimizer == "sgd" and config.preconditioner is None:
        checks = descent_checks(textbook, partial(_on_quadratic, config), config.inner_lr, case)
    else:
        checks = loop_checks(textbook, moved)
    if config.preconditioner is not None:
        checks.append(identity_check(_without_maps(config, bench), case))
    if config.inner_optimizer != "sgd" and config.learned_inner_lr is None:
        checks.append(_optimizer_check(config, bench, textbook, case))
    return checks + _checks_along_training(config, bench, textbook, moved)


def _on_quadratic(config: MamlConfig, loss_fn: LossFn[Samples], order: Order) -> MetaGradient:
    """The plain meta-gradient for another loss; rates that are learned are all alpha, not as float32 has it."""
    kind, alpha, steps = config.learned_inner_lr, config.inner_lr, config.inner_steps
    plain = unrolled(gradient_descent(loss_fn, rate_of(config)), loss_fn, inner_steps=steps, order=order)

    def gradient(theta: Params, tasks: Task) -> tuple[Params, Log]:
        one = {name: value[0] for name, value in theta.items()}
        drawn = init_rates(one, kind, interval=(alpha, alpha), inner_steps=steps, seed=0) if kind else {}
        same = {name: torch.full((1, *rate.shape), alpha, dtype=torch.float64) for name, rate in drawn.items()}
        return plain(theta | same, tasks)

    return gradient


def _without_maps(config: MamlConfig, bench: Bench) -> dict[Order, MetaGradient]:
    inner = inner_loop(config.model_copy(update={"preconditioner": None}), bench)
    return {order: unrolled(inner, bench.loss_fn, inner_steps=config.inner_steps, order=order) for order in ORDERS}


def _optimizer_check(config: MamlConfig, bench: Bench, textbook: Textbook, case: Case) -> Check:
    adapts = adapting(config, bench.model)

    def by(inner: InnerLoop) -> Callable[[Params, Samples], Params]:
        def moved(params: Params, support: Samples) -> Params:
            found = adapted(inner, params, support, inner_steps=config.inner_steps, gradient=constant)[""]
            return {name: value for name, value in found.items() if adapts(name)}

        return moved

    made = torch_optimizer(config.inner_optimizer, config.inner_momentum, config.inner_lr)
    plain = config.model_copy(update={"inner_optimizer": "sgd"})
    return optimizer_check(textbook, made, by(inner_loop(config, bench)), by(inner_loop(plain, bench)), case)


def _checks_along_training(config: MamlConfig, bench: Bench, textbook: Textbook, case: Case) -> list[Check]:
    """The middle of each stretch before the last, which is what all else is of, and the annealing as a whole."""
    inner, steps, n = inner_loop(config, bench), config.inner_steps, config.per_step_losses
    checks = [moment_check(textbook, moment, case) for moment in _moments(config, bench)]
    if n is None:
        return checks
    at = annealed(inner, bench.loss_fn, inner_steps=steps, order="second", num_updates=n)

    def part(over: float) -> MetaGradient:
        return at(torch.tensor(over * n, dtype=torch.float64))

    def plain(number: int) -> MetaGradient:
        return unrolled(inner, bench.loss_fn, inner_steps=number, order="second")

    return checks + annealing_checks(part, plain, steps, case)


def _moments(config: MamlConfig, bench: Bench) -> Sequence[Moment]:
    course, steps = course_of(config), config.inner_steps
    phases = planned_phases(inner_loop(config, bench), bench.loss_fn, course, inner_steps=steps)
    return [
        Moment(
            made := (phase.begins + following.begins) // 2,
            course.order_at(made),
            phase.meta_gradient(torch.tensor(made)),
            annealed_weights(made, config.per_step_losses, steps),
        )
        for phase, following in pairwise(phases)
    ]
