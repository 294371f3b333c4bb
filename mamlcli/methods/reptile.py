"""Reptile: move the weights to where tasks lead them (Nichol et al. 2018, arXiv:1803.02999).

A task takes n steps of an inner optimiser, from theta to theta', and the meta-gradient is theta - theta', the mean over
tasks: no step is differentiated through. With `outer.optimizer: sgd` the outer learning rate is the epsilon of the
paper; another optimiser takes the same for a gradient.

What sgd sums up is alpha (g_1 + ... + g_n), with g_k the gradient at the weights after k - 1 steps. From the second on
it is the gradient of no function of theta: the Jacobian of g_2, H(theta') (I - alpha H(theta)), is not symmetric.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from mamlcli.errors import UsageError
from mamlcli.section import AlgorithmSection, Count, Decay, InnerRule, Positive

if TYPE_CHECKING:
    from collections.abc import Callable

    from mamlcli.methods.method import Bench, Footprint, MetaGradient, Method
    from mamlcli.proofs.checks import Case, Check
    from mamlcli.tasks.samples import Samples, Task
    from mamlcli.types import LossFn, Order


class ReptileConfig(AlgorithmSection):
    """Reptile: the meta-gradient is the initial weights minus those that a task adapts to."""

    test_keys: ClassVar[tuple[str, ...]] = ("inner_lr", "inner_optimizer", "inner_momentum")

    name: Literal["reptile"] = "reptile"
    """The method."""
    inner_steps: Count = 32
    """Steps of adaptation in meta-training."""
    inner_lr: Positive = 0.001
    """alpha: the step size of adaptation, in meta-training and at test time."""
    inner_optimizer: InnerRule = "adam"
    """What turns inner gradients into steps: the optimisers of torch.optim, begun anew with each task."""
    inner_momentum: Decay = 0.9
    """How much of the last step's direction `momentum` keeps."""
    samples: Literal["support", "all"] = "support"
    """What a task of meta-training adapts on at every step: its `support` samples, or `all` it has, which the query
    loss in the metrics is then measured on too. A test adapts on support samples."""

    def in_order(self, order: Order) -> Self:  # noqa: ARG002
        """Refuse: there is one way alone to find its meta-gradient."""
        raise UsageError(
            f"algorithm.name: {self.name} differentiates through no inner step, and so has no order to compare"
        )

    def without_effect(self) -> dict[str, str]:
        """One optimiser alone has a momentum."""
        if self.inner_optimizer == "momentum":
            return {}
        return {"inner_momentum": f"algorithm.inner_optimizer is {self.inner_optimizer}"}


def reptile(config: ReptileConfig, bench: Bench) -> Method:
    """Build Reptile."""
    from mamlcli.methods.inner_loops import constant_rate, gradient_descent
    from mamlcli.methods.inner_optimizers import IN_TITLES, inner_optimizer
    from mamlcli.methods.method import Method

    optimizer = inner_optimizer(config.inner_optimizer, config.inner_momentum)
    return Method(
        title=", ".join(["Reptile", *IN_TITLES[config.inner_optimizer]]),
        init=bench.model.init,
        inner=gradient_descent(bench.loss_fn, constant_rate(config.inner_lr), optimizer=optimizer),
        meta_gradient=_meta_gradient(config, bench.loss_fn),
        inner_steps=config.inner_steps,
        num_params=bench.model.num_params,
        no_slope=_no_slope(config),
        unrolled_steps=config.inner_steps,
        holds_path=False,
        footprint=partial(_footprint, config),
        proofs=partial(_proofs, config, bench),
    )


def _meta_gradient(config: ReptileConfig, loss_fn: LossFn[Samples], *, too_few: int = 0) -> MetaGradient:
    """With so many steps too few for the mistakes that proofs look for."""
    from mamlcli.methods.displacements import displacement
    from mamlcli.methods.inner_optimizers import inner_optimizer

    return displacement(
        loss_fn,
        inner_optimizer(config.inner_optimizer, config.inner_momentum),
        inner_lr=config.inner_lr,
        inner_steps=config.inner_steps - too_few,
        adapts_on=_chosen(config),
    )


def _chosen(config: ReptileConfig) -> Callable[[Task], Samples]:
    from mamlcli.tasks.samples import all_samples

    return all_samples if config.samples == "all" else lambda tasks: tasks.support


def _no_slope(config: ReptileConfig) -> str:
    """Why no difference of the logged loss can check it."""
    what = "no difference is taken: the meta-gradient is initial minus adapted weights, "
    if config.inner_steps > 1 or config.inner_optimizer == "adam":
        return what + "which is the gradient of no loss, and of the query loss least of all"
    where = {"support": "the support samples", "all": "all samples"}[config.samples]
    return what + f"which after one step is inner_lr times the gradient of the loss on {where}, not on query samples"


def _footprint(config: ReptileConfig, support_shots: int, query_shots: int) -> Footprint:
    """The newest weights, their gradient and the optimiser's memory; the factors are measured."""
    from mamlcli.methods.method import Footprint

    weights = {"sgd": 4.0, "momentum": 6.0, "adam": 10.0}[config.inner_optimizer]
    adapted_on = support_shots + query_shots * (config.samples == "all")
    return Footprint(weights, 1.8 * max(adapted_on, query_shots))


def _proofs(config: ReptileConfig, bench: Bench, case: Case) -> list[Check]:
    from mamlcli.methods.method import textbook_loss
    from mamlcli.proofs.displacement import closed_form_check, loop_check
    from mamlcli.proofs.reference import torch_optimizer

    optimizer = torch_optimizer(config.inner_optimizer, config.inner_momentum, config.inner_lr)
    steps, chosen = config.inner_steps, _chosen(config)
    mistaken = _meta_gradient(config, bench.loss_fn, too_few=1)
    checks = [loop_check(textbook_loss(bench), optimizer, steps, chosen, case, mistaken=mistaken)]
    if config.inner_optimizer != "adam":
        decay = config.inner_momentum if config.inner_optimizer == "momentum" else 0.0

        def build(loss_fn: LossFn[Samples], too_few: int) -> MetaGradient:
            return _meta_gradient(config, loss_fn, too_few=too_few)

        checks.append(closed_form_check(build, config.inner_lr, decay, steps))
    return checks
