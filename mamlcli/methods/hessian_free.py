"""Hessian-free MAML: MAML whose second-order term is a difference of gradients.

Fallah et al. 2020 (arXiv:1908.10400, HF-MAML). All weights adapt by gradient descent, as in MAML; no second derivative
is computed.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from mamlcli.section import AlgorithmSection, Count, Positive

if TYPE_CHECKING:
    from mamlcli.methods.method import Bench, Footprint, MetaGradient, Method, Panel
    from mamlcli.proofs.by_difference import Problem
    from mamlcli.proofs.checks import Case, Check


class HessianFreeConfig(AlgorithmSection):
    """Hessian-free MAML: MAML with differences of gradients in place of second derivatives."""

    test_keys: ClassVar[tuple[str, ...]] = ("inner_lr",)

    name: Literal["hessian_free"] = "hessian_free"
    """The method."""
    inner_steps: Count = 1
    """Gradient steps of adaptation in meta-training."""
    inner_lr: Positive = 0.01
    """alpha: the step size of adaptation, in meta-training and at test time."""
    difference_step: Positive = 0.01
    """delta: how far the weights of a task move for a difference, as the length of the whole step, whatever the length
    of the vector that the Hessian is multiplied with. Too long and the difference is of a curve; too short and rounding
    fills it. `maml check-grads` shows both."""
    difference: Literal["forward", "central"] = "forward"
    """`forward` computes one more gradient for each inner step, and is off by O(delta); `central`, as in the paper, two
    more, and is off by O(delta^2)."""


def hessian_free(config: HessianFreeConfig, bench: Bench) -> Method:
    """Build Hessian-free MAML."""
    from mamlcli.methods.inner_loops import constant_rate, gradient_descent
    from mamlcli.methods.method import Method

    return Method(
        title=f"Hessian-free MAML, {config.difference} difference",
        init=bench.model.init,
        inner=gradient_descent(bench.loss_fn, constant_rate(config.inner_lr)),
        meta_gradient=_meta_gradient(_problem(config, bench)),
        inner_steps=config.inner_steps,
        num_params=bench.model.num_params,
        no_slope=(
            "the meta-gradient is near the slope of the loss, and not that: a difference of gradients stands in it, "
            f"over a step of {config.difference_step:g}. What it comes to as that step shrinks is checked instead"
        ),
        unrolled_steps=(3 if config.difference == "central" else 2) * config.inner_steps,
        footprint=partial(_footprint, config),
        proofs=partial(_proofs, config, bench),
        proof_panels=partial(_proof_panels, config, bench),
    )


def _problem(config: HessianFreeConfig, bench: Bench) -> Problem:
    from mamlcli.proofs.by_difference import Problem

    return Problem(bench.loss_fn, config.inner_lr, config.inner_steps, config.difference_step, config.difference)


def _meta_gradient(problem: Problem) -> MetaGradient:
    from mamlcli.methods.by_difference import by_difference

    return by_difference(**problem._asdict())


def _footprint(config: HessianFreeConfig, support_shots: int, query_shots: int) -> Footprint:
    """Weights and gradients along the path, and activations of one gradient; the factors are measured."""
    from mamlcli.methods.method import Footprint

    return Footprint(2.5 + 2.2 * config.inner_steps, max(2.6 * support_shots, 2.0 * query_shots))


def _proofs(config: HessianFreeConfig, bench: Bench, case: Case) -> list[Check]:
    from mamlcli.methods.method import textbook_loss
    from mamlcli.proofs.by_difference import difference_checks

    return difference_checks(_problem(config, bench), textbook_loss(bench), _meta_gradient, case)


def _proof_panels(config: HessianFreeConfig, bench: Bench, case: Case) -> list[Panel]:
    """How the error falls as the step of the difference shrinks, until rounding fills it."""
    from mamlcli.methods.method import Panel, textbook_loss
    from mamlcli.proofs.by_difference import FIRST, GUIDES, errors, errors_in_words

    problem = _problem(config, bench)
    rows = errors(problem, textbook_loss(bench), _meta_gradient, case)
    labels = {
        "x_label": "difference_step",
        "y_label": "error of the meta-gradient against exact second order, relative",
        "at": config.difference_step,
        "at_label": f"difference_step of this config: {config.difference_step:g}",
        "guides": [FIRST, GUIDES[config.difference]],
    }
    what = "the meta-gradient as the step of its difference shrinks"
    return [Panel("difference-step", what, "convergence", rows, labels, errors_in_words(rows, problem))]
