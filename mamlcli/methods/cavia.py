"""CAVIA: a context adapts, and the network does not (Zintgraf et al. 2019, arXiv:1810.03642).

The first layer sees c numbers phi beside its inputs, the same for all samples of a task. They begin at zero, and they
alone take the inner steps; all weights, those of phi too, are learned from the query loss in the context found:

    phi_0 = 0,  phi <- phi - alpha d/dphi L_support(theta, phi)    (repeated)
    theta <- theta - beta d/dtheta (mean over tasks of L_query(theta, phi)).

A layer W x + b that sees phi too is W x + (b + V phi): adapting the context is adapting the first layer's bias within
the c directions that the columns of V span.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from mamlcli.errors import UsageError
from mamlcli.section import Count, OrderedSection, Positive

if TYPE_CHECKING:
    from mamlcli.methods.method import Bench, Footprint, Method
    from mamlcli.proofs.checks import Case, Check
    from mamlcli.types import Params


class CaviaConfig(OrderedSection):
    """CAVIA: a context vector beside the inputs adapts, and the network does not."""

    test_keys: ClassVar[tuple[str, ...]] = ("inner_lr",)

    name: Literal["cavia"] = "cavia"
    """The method."""
    inner_steps: Count = 1
    """Gradient steps of adaptation of the context in meta-training."""
    inner_lr: Positive = 1.0
    """alpha: the step size of adaptation, in meta-training and at test time."""
    context_size: Count = 5
    """c: numbers in the context."""


def cavia(config: CaviaConfig, bench: Bench) -> Method:
    """Build CAVIA.

    Raises:
        UsageError: If the model has no first layer of units that a context could enter.
    """
    from mamlcli.methods.contexts import context_descent
    from mamlcli.methods.meta_gradients import unrolled
    from mamlcli.methods.method import Method

    model, steps, order = bench.model, config.inner_steps, config.order
    if model.layers is None or model.widened is None:
        raise UsageError(
            "algorithm.name: cavia: a context enters the first layer of an MLP, and this model has none that is known; "
            "use model.name: mlp, or algorithm.adapts: head of algorithm.name: maml"
        )
    inner = context_descent(bench.loss_fn, config.inner_lr)
    return Method(
        title=f"{order}-order CAVIA",
        init=partial(_init, config, bench),
        inner=inner,
        meta_gradient=unrolled(inner, bench.loss_fn, inner_steps=steps, order=order),
        inner_steps=steps,
        num_params=model.num_params,
        num_learned=model.layers.sizes[1] * config.context_size,
        order=order,
        unrolled_steps=steps,
        holds_copies=False,
        footprint=partial(_footprint, config),
        proofs=partial(_proofs, config, bench),
    )


def _init(config: CaviaConfig, bench: Bench, seed: int) -> Params:
    from mamlcli.methods.contexts import init_contextual

    assert bench.model.widened is not None
    return init_contextual(bench.model.widened, config.context_size, seed)


def _footprint(config: CaviaConfig, support_shots: int, query_shots: int) -> Footprint:
    """No task holds weights of its own; the factors are measured."""
    from mamlcli.methods.method import Footprint

    if config.order == "first":
        return Footprint(0.0, max(2.6 * support_shots, 2.0 * query_shots))
    steps = config.inner_steps
    return Footprint(0.0, 1.6 * steps * support_shots + 2.0 * max(support_shots, query_shots))


def _proofs(config: CaviaConfig, bench: Bench, case: Case) -> list[Check]:
    from mamlcli.methods.contexts import CONTEXT, context_descent
    from mamlcli.methods.meta_gradients import gradient_per_seed, meta_losses
    from mamlcli.methods.method import textbook_loss
    from mamlcli.proofs.cavia import ContextLoop, contextual_checks

    assert bench.model.widened is not None
    wide = bench.model.widened(config.context_size)
    loop = ContextLoop(
        textbook_loss(bench._replace(model=wide)), CONTEXT, config.context_size, config.inner_lr, config.inner_steps
    )
    inner = context_descent(bench.loss_fn, config.inner_lr)
    losses_of = meta_losses(inner, bench.loss_fn, inner_steps=config.inner_steps, order="second")
    return contextual_checks(loop, textbook_loss(bench), partial(gradient_per_seed, losses_of), case)
