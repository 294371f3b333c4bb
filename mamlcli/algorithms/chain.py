"""A vector learned through the training of two models: a weight for each slot of the support set.

A teacher adapts on the weighted errors of the support slots; a student adapts on what the teacher says of inputs
without a target; the student's loss on the query samples is the meta-loss. It is `adapt` twice. With e_k the error of
slot k, A its weight, theta the teacher and phi the student,

    theta' = theta - alpha d/dtheta (1/K) sum_k A_k e_k(theta)           (repeated)
    phi'   = phi - alpha d/dphi L(phi; U inputs, targets f(theta'))      (repeated)
    dM/dA  = -alpha v^T J for one step, with v = dM/dtheta' and J = d^2 / dtheta dA of (1/K) sum_k A_k e_k(theta).

The sum is divided by K, so that a teacher whose slots all count 1 adapts as `mamlcli.algorithms.maml` does.

A reaches the meta-loss M only through inner gradients, and so does the teacher: in first order, which takes them as
constants, neither has a gradient.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mamlcli.algorithms.maml import adapt, gradient_per_seed
from mamlcli.tasks import Samples, Task
from mamlcli.types import LossFn, Order, Params

TEACHER, STUDENT, SLOT_WEIGHTS = "teacher.", "student.", "slot_weights"


class Model(NamedTuple):
    """What teacher and student have in common: all but their parameters."""

    predict: Callable[[Params, Tensor], Tensor]
    """Maps parameters and inputs of shape (n, features) to outputs of shape (n, 1)."""
    errors: Callable[[Params, Samples], Tensor]
    """Maps parameters and n samples to n errors; their mean is the loss."""

    def loss(self, params: Params, samples: Samples) -> Float[Tensor, ""]:
        """The mean error."""
        return self.errors(params, samples).mean()


class Adapted(NamedTuple):
    """Both models after adaptation to one task."""

    teacher: Params
    student: Params


def chain_params(teacher: Params, student: Params, *, learned_slots: int) -> Params:
    """Put the meta-parameters of one seed into one dict.

    Args:
        teacher: Parameters of the teacher's initialisation.
        student: Parameters of the student's initialisation.
        learned_slots: K for weights that are learned and start at 1; 0 for none: each slot then counts 1 for good.

    Returns:
        `teacher.<name>`, `student.<name>`, and `slot_weights` of shape (K,) where they are learned.
    """
    weights = {SLOT_WEIGHTS: torch.ones(learned_slots)} if learned_slots else {}
    return with_prefix(TEACHER, teacher) | with_prefix(STUDENT, student) | weights


def with_prefix(prefix: str, params: Params) -> Params:
    """Give one model's parameters the names they have among the meta-parameters."""
    return {prefix + name: value for name, value in params.items()}


def part_of(prefix: str, params: Params) -> Params:
    """The parameters of one model, under the names the model knows."""
    return {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}


def student_loss(loss_fn: LossFn[Samples]) -> LossFn[Samples]:
    """The loss of the student alone, as a function of all meta-parameters."""
    return lambda params, samples: loss_fn(part_of(STUDENT, params), samples)


def adapt_chain(
    model: Model,
    params: Params,
    support: Samples,
    *,
    shots: int,
    inner_lr: float,
    inner_steps: int,
    order: Order,
) -> Adapted:
    """Adapt the teacher to one task, and the student to the teacher.

    Args:
        model: Of both, teacher and student.
        params: Meta-parameters of one seed, as `chain_params` names them; not modified.
        support: K labelled slots, then U inputs whose targets are not read: x (K + U, features), y (K + U, 1).
        shots: K.
        inner_lr: alpha of both models, >= 0.
        inner_steps: Gradient steps of each model, >= 0.
        order: As for `mamlcli.adapt`, of both models.
    """
    slots, unlabelled = Samples(support.x[:shots], support.y[:shots]), support.x[shots:]
    weights = params[SLOT_WEIGHTS] if SLOT_WEIGHTS in params else support.x.new_ones(shots)

    def weighted_loss(teacher: Params, slots: Samples) -> Tensor:
        return weighted_mean(weights, model.errors(teacher, slots))

    adapted = partial(adapt, inner_lr=inner_lr, inner_steps=inner_steps, order=order)
    teacher = adapted(weighted_loss, part_of(TEACHER, params), slots)
    taught = Samples(unlabelled, model.predict(teacher, unlabelled))
    return Adapted(teacher, adapted(model.loss, part_of(STUDENT, params), taught))


def weighted_mean(weights: Float[Tensor, " slots"], errors: Float[Tensor, " slots"]) -> Float[Tensor, ""]:
    """(1/K) sum_k A_k e_k: with every weight at 1 the loss that MAML adapts on. (K,) against (K, 1) would broadcast."""
    return (weights * errors).mean()


def chain_losses(
    model: Model, params: Params, tasks: Task, *, shots: int, inner_lr: float, inner_steps: int, order: Order
) -> Float[Tensor, " seeds"]:
    """The meta-loss of S seeds: the mean over B tasks of the student's query loss after adaptation.

    Args:
        model: Of both, teacher and student.
        params: Meta-parameters, name -> tensor of shape (S, ...); not modified.
        tasks: Support of shape (S, B, K + U, 1), where the last U targets are not read, and query of (S, B, Q, 1).
        shots: As for `adapt_chain`.
        inner_lr: As for `adapt_chain`.
        inner_steps: As for `adapt_chain`.
        order: As for `adapt_chain`.
    """

    def query_loss(params: Params, task: Task) -> Tensor:
        adapted = adapt_chain(
            model, params, task.support, shots=shots, inner_lr=inner_lr, inner_steps=inner_steps, order=order
        )
        return model.loss(adapted.student, task.query)

    return torch.vmap(torch.vmap(query_loss, in_dims=(None, 0)))(params, tasks).mean(dim=1)


def chain_meta_gradient(
    model: Model, params: Params, tasks: Task, *, shots: int, inner_lr: float, inner_steps: int, order: Order
) -> tuple[Params, Float[Tensor, " seeds"]]:
    """Differentiate the student's query loss in both initialisations and in the slot weights.

    Args are those of `chain_losses`, and Returns is that of `mamlcli.algorithms.maml.meta_gradient`.
    """
    losses_of = partial(chain_losses, model, shots=shots, inner_lr=inner_lr, inner_steps=inner_steps, order=order)
    return gradient_per_seed(losses_of, params, tasks)
