"""What `check-grads` proves of meta-gradients that change along a training: weighted losses, and the order."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mamlcli.proofs.checks import EXACT, Case, Check, MetaGradient, attempt, gradient_error, relative_error
from mamlcli.proofs.differences import slope_check
from mamlcli.proofs.reference import Textbook, loop_meta_gradient
from mamlcli.types import Order, Params


class Moment(NamedTuple):
    """What a meta-update within a training is of."""

    made: int
    """Meta-updates before it."""
    order: Order
    gradient: MetaGradient
    weights: Sequence[float]
    """Of the query losses after each inner step."""


def annealed_weights(made: int, num_updates: int | None, inner_steps: int) -> list[float]:
    """The weights of the losses: each as far from all alike to the last alone as the training is; None: at the end."""
    part = 1.0 if num_updates is None else min(1.0, made / num_updates)
    alike, last = [1 / inner_steps] * inner_steps, [0.0] * (inner_steps - 1) + [1.0]
    return [(1 - part) * one + part * other for one, other in zip(alike, last, strict=True)]


def moment_check(textbook: Textbook, moment: Moment, case: Case) -> Check:
    """Compare a meta-gradient on the way with a loop over tasks and steps; the mistake is to be at the end already."""

    def expected() -> tuple[Params, Tensor, Tensor]:
        grads: Params = {name: torch.zeros_like(value) for name, value in case.params.items()}
        meta_losses = last = torch.zeros(len(next(iter(grads.values()))), dtype=torch.float64)
        for step, weight in enumerate(moment.weights, 1):
            if weight:
                so_far = textbook._replace(inner_steps=step)
                found, last = loop_meta_gradient(so_far, case.params, case.tasks, order=moment.order)
                grads = {name: grads[name] + weight * value for name, value in found.items()}
                meta_losses = meta_losses + weight * last
        return grads, last, meta_losses

    def error_of(gradient: MetaGradient) -> float:
        grads, last, meta_losses = expected()
        found, log = gradient(case.params, case.tasks)
        logged = {"": log.get("meta_loss", log["post_adapt_loss"])}
        return max(gradient_error((found, log), (grads, last)), relative_error(logged, {"": meta_losses}))

    return attempt(
        f"{moment.order} order after {moment.made} update(s)",
        "a loop over tasks and steps, their losses weighted",
        EXACT,
        error_of,
        moment.gradient,
        mistaken=case.gradients["second"],
    )


def annealing_checks(
    annealed: Callable[[float], MetaGradient], plain: Callable[[int], MetaGradient], inner_steps: int, case: Case
) -> list[Check]:
    """Compare the ends of an annealing with plain meta-gradients, and halfway with differences of its loss.

    Args:
        annealed: Maps the part of the annealing that is over to its meta-gradient, of second order.
        plain: Maps a number of inner steps to the plain meta-gradient, of second order.
        inner_steps: Inner steps of training.
        case: What is to be proven.
    """
    begin, half, end = (annealed(part) for part in (0.0, 0.5, 1.0))

    def from_plain(steps: Sequence[int]) -> Callable[[MetaGradient], float]:
        def error_of(gradient: MetaGradient) -> float:
            each = [plain(number)(case.params, case.tasks) for number in steps]
            mean = {name: torch.stack([grads[name] for grads, _ in each]).mean(dim=0) for name in case.params}
            return gradient_error(gradient(case.params, case.tasks), (mean, each[-1][1]["post_adapt_loss"]))

        return error_of

    every = range(1, inner_steps + 1)
    return [
        attempt(
            "where the annealing begins",
            f"the mean of plain meta-gradients of 1 to {inner_steps} inner steps",
            EXACT,
            from_plain(every),
            begin,
            mistaken=end,
        ),
        attempt(
            "where the annealing ends",
            f"the plain meta-gradient of {inner_steps} inner steps",
            EXACT,
            from_plain(every[-1:]),
            end,
            mistaken=begin,
        ),
        slope_check(half, case.params, case.tasks, mistaken=end, name="slope of the weighted loss halfway"),
    ]
