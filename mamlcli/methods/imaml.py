"""Implicit MAML: the inner problem is solved near the initialisation, and its solution differentiated as one.

Rajeswaran et al. 2019 (arXiv:1909.04630). All weights adapt by gradient descent on the support loss with a proximal
term; the meta-gradient needs the place where adaptation ended, and not the path there.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import model_validator

from mamlcli.section import AlgorithmSection, Count, Positive

if TYPE_CHECKING:
    from mamlcli.methods.method import Bench, Footprint, InnerLoop, MetaGradient, Method, Panel
    from mamlcli.proofs.checks import Case, Check
    from mamlcli.proofs.implicit_reference import Problem


class ImamlConfig(AlgorithmSection):
    """Implicit MAML: learns an initialisation near which the solution of a task's proximal problem lies."""

    test_keys: ClassVar[tuple[str, ...]] = ("inner_lr", "proximal_strength")

    name: Literal["imaml"] = "imaml"
    """The method."""
    inner_steps: Count = 10
    """Gradient steps of adaptation in meta-training. The meta-gradient is that of the solved inner problem: the more
    steps, the nearer it is to the slope of the loss after them. Memory does not grow with them."""
    inner_lr: Positive = 0.01
    """alpha: the step size of adaptation, in meta-training and at test time."""
    proximal_strength: Positive = 2.0
    """lambda: adaptation minimises the support loss plus lambda/2 times the squared distance from the initialisation,
    in meta-training and at test time. Large enough, the inner problem has one solution."""
    cg_steps: Count = 5
    """Steps of conjugate gradients that solve for the meta-gradient, each a product with the Hessian of the support
    loss."""

    @model_validator(mode="after")
    def _converges(self) -> Self:
        if self.inner_lr * self.proximal_strength >= 2:
            raise ValueError(
                f"inner_lr times proximal_strength must be below 2, or steps grow on the proximal term alone, "
                f"got {self.inner_lr} times {self.proximal_strength}"
            )
        return self


def imaml(config: ImamlConfig, bench: Bench) -> Method:
    """Build implicit MAML."""
    from mamlcli.methods.method import Method

    problem = _problem(config, bench)
    return Method(
        title="implicit MAML",
        init=bench.model.init,
        inner=_inner_loop(problem),
        meta_gradient=_meta_gradient(problem),
        inner_steps=config.inner_steps,
        num_params=bench.model.num_params,
        no_slope=(
            "no difference of losses can check the implicit gradient: it is the slope of the loss where the inner "
            f"problem is solved, which {config.inner_steps} inner step(s) come near to and do not reach"
        ),
        unrolled_steps=config.inner_steps + config.cg_steps,
        footprint=partial(_footprint, config),
        proofs=partial(_proofs, config, bench),
        proof_panels=partial(_proof_panels, config, bench),
    )


def _problem(config: ImamlConfig, bench: Bench) -> Problem:
    from mamlcli.proofs.implicit_reference import Problem

    return Problem(bench.loss_fn, config.inner_lr, config.inner_steps, config.proximal_strength, config.cg_steps)


def _inner_loop(problem: Problem) -> InnerLoop:
    from mamlcli.methods.implicit import proximal_descent

    return proximal_descent(problem.loss_fn, inner_lr=problem.inner_lr, proximal=problem.proximal)


def _meta_gradient(problem: Problem) -> MetaGradient:
    from mamlcli.methods.implicit import implicit

    return implicit(
        _inner_loop(problem),
        problem.loss_fn,
        inner_steps=problem.inner_steps,
        proximal=problem.proximal,
        cg_steps=problem.cg_steps,
    )


def _footprint(config: ImamlConfig, support_shots: int, query_shots: int) -> Footprint:
    """Vectors of conjugate gradients, and the graph of one gradient; the factors are measured."""
    from mamlcli.methods.method import Footprint

    return Footprint(9.0 + config.cg_steps, max(4.2 * support_shots, 2.0 * query_shots))


def _proofs(config: ImamlConfig, bench: Bench, case: Case) -> list[Check]:
    from mamlcli.methods.method import textbook_loss
    from mamlcli.proofs.implicit import implicit_checks

    return implicit_checks(_problem(config, bench), textbook_loss(bench), _meta_gradient, case)


def _proof_panels(config: ImamlConfig, bench: Bench, case: Case) -> list[Panel]:
    """How far the implicit gradient is from the unrolled one of as many steps, the more steps are made."""
    from mamlcli.methods.method import Panel, textbook_loss
    from mamlcli.proofs.implicit import distances, distances_in_words

    rows = distances(_problem(config, bench), textbook_loss(bench), _meta_gradient, case)
    labels = {
        "x_label": "inner steps",
        "y_label": "distance from the unrolled gradient of as many steps, relative",
        "at": config.inner_steps,
        "at_label": f"inner_steps of this config: {config.inner_steps}",
    }
    what = "the implicit gradient as the inner problem is solved"
    said = distances_in_words(rows, config.inner_steps)
    return [Panel("implicit-gradient", what, "convergence", rows, labels, said)]
