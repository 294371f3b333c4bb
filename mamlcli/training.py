"""Meta-training: the state, one meta-step, and the loop as a generator."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from mamlcli.algorithms import MetaGradient
from mamlcli.errors import DivergedError
from mamlcli.tasks import Task
from mamlcli.types import Params

Schedule: TypeAlias = Literal["constant", "linear", "cosine"]

_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "adamax": torch.optim.Adamax,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}
# One kernel an update; the others are a handful.
_FUSED = ("adam", "adamw", "adagrad", "sgd")


@dataclass
class TrainState:
    """What a run is at a step, and all that a checkpoint holds.

    The optimiser sees one matrix with a row for each seed: one kernel for all parameters, and since it works
    elementwise, each seed is optimised as if alone.
    """

    flat: Float[Tensor, "seeds params"]
    params: Params
    """Views into `flat`, name -> (S, ...)."""
    optimizer: torch.optim.Optimizer
    step: int = 0


class MetaStep(NamedTuple):
    """What one meta-step saw; losses are on its meta-batch, before its update.

    `pre_adapt_loss` is measured at logged steps only.
    """

    step: int
    lr: float
    pre_adapt_loss: Float[Tensor, " seeds"] | None
    post_adapt_loss: Float[Tensor, " seeds"]
    grad_norm: Float[Tensor, " seeds"]


def init_state(seeds: Sequence[Params], *, optimizer: str, lr: float, device: torch.device) -> TrainState:
    """Stack the initial parameters of every seed and give them an optimiser.

    Args:
        seeds: Initial parameters of each seed; names and shapes agree.
        optimizer: A key of the optimisers, like "adam".
        lr: Learning rate, > 0.
        device: Where to train.
    """
    flat = torch.stack([torch.cat([theta.flatten() for theta in seed.values()]) for seed in seeds]).to(device)
    columns = torch.split(flat, [theta.numel() for theta in seeds[0].values()], dim=1)
    params = {
        name: column.view(len(seeds), *theta.shape)
        for (name, theta), column in zip(seeds[0].items(), columns, strict=True)
    }
    options: dict[str, Any] = {"fused": True} if optimizer in _FUSED else {}
    return TrainState(flat, params, _OPTIMIZERS[optimizer]([flat], lr=lr, **options))


def scheduled_lr(lr: float, schedule: Schedule, step: int, num_steps: int) -> float:
    """Learning rate of the update that follows `step` updates, of `num_steps` in all.

    >>> [scheduled_lr(1.0, "linear", step, 4) for step in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    if schedule == "linear":
        return lr * (1 - step / num_steps)
    if schedule == "cosine":
        return lr * (1 + math.cos(math.pi * step / num_steps)) / 2
    return lr


def flat_per_seed(values: Params) -> Float[Tensor, "seeds params"]:
    """Lay the tensors of each seed, name -> (S, ...), out in a row."""
    return torch.cat([value.flatten(1) for value in values.values()], dim=1)


def clip_per_seed(
    grads: Float[Tensor, "seeds params"], max_norm: float | None
) -> tuple[Float[Tensor, "seeds params"], Float[Tensor, " seeds"]]:
    """Scale each seed's gradient to a 2-norm of at most `max_norm`.

    Args:
        grads: A row for each seed.
        max_norm: The bound, > 0; None leaves the gradients as they are.

    Returns:
        The gradients, and the norm of each seed before clipping.
    """
    norms = torch.linalg.vector_norm(grads, dim=1)
    if max_norm is None:
        return grads, norms
    # The factor of torch.nn.utils.clip_grad_norm_, which clips all seeds as one.
    return grads * (max_norm / (norms + 1e-6)).clamp(max=1.0).unsqueeze(1), norms


def train_steps(
    state: TrainState,
    batches: Iterable[Task],
    meta_gradient: MetaGradient,
    pre_adapt_loss: Callable[[Params, Task], Tensor],
    *,
    seeds: Sequence[int],
    learning_rate: Callable[[int], float],
    max_grad_norm: float | None,
    is_logged: Callable[[int], bool],
) -> Iterator[MetaStep]:
    """Train, one meta-step for each meta-batch; the state is advanced in place between yields.

    Args:
        state: Where to start from.
        batches: The meta-batches, from that of step `state.step` on.
        meta_gradient: (params, tasks) to (gradients, post_adapt_loss per seed).
        pre_adapt_loss: (params, tasks) to the query loss of each seed before adaptation.
        seeds: The seeds behind the leading axis, for messages.
        learning_rate: Maps the number of updates made to the learning rate of the next.
        max_grad_norm: See `clip_per_seed`.
        is_logged: Whether the step of this number (from 1) is logged; an accelerator is only waited for at
            such steps.

    Raises:
        DivergedError: If a loss or gradient is not finite. On the CPU, before the update of that step; on an
            accelerator, at the next logged step.
    """
    for tasks in batches:
        lr = learning_rate(state.step)
        logged = is_logged(state.step + 1)
        before = pre_adapt_loss(state.params, tasks) if logged else None
        grads, losses = meta_gradient(state.params, tasks)
        flat, norms = clip_per_seed(flat_per_seed(grads), max_grad_norm)
        if logged or losses.device.type == "cpu":
            check_finite(losses, norms, seeds=seeds, step=state.step + 1)
        apply_update(state, flat, lr)
        yield MetaStep(state.step, lr, before, losses, norms)


def apply_update(state: TrainState, grads: Float[Tensor, "seeds params"], lr: float) -> None:
    """Make one meta-update, in place."""
    state.flat.grad = grads
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    state.optimizer.step()
    state.step += 1


def check_finite(
    losses: Float[Tensor, " seeds"], norms: Float[Tensor, " seeds"], *, seeds: Sequence[int], step: int
) -> None:
    """Raise DivergedError naming seed and step if a loss or a gradient is not finite."""
    # One number says whether all are finite; which are not is worked out only then.
    if math.isfinite(float((losses + norms).sum())):
        return
    finite = (losses.isfinite() & norms.isfinite()).tolist()
    dead = [seed for seed, is_finite in zip(seeds, finite, strict=True) if not is_finite]
    if not dead:  # finite numbers whose sum is not
        return
    what = "loss" if not losses.isfinite().all() else "meta-gradient"
    seen = "this update was not made" if losses.device.type == "cpu" else "it may have begun after the last logged step"
    raise DivergedError(
        f"the {what} of seed {', '.join(map(str, dead))} is not finite at step {step}; {seen}. "
        "Likely remedies: a smaller algorithm.inner_lr or outer.lr, or outer.max_grad_norm: 10"
    )
