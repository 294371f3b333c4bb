"""The best parameters so far: those of each seed at the step with its least meta-validation loss."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from mamlcli.section import Keep, Which
from mamlcli.types import Params, finite_or_none


class Best(NamedTuple):
    """What was measured of S seeds along the way; all but the parameters lies on the CPU.

    The last step of a run is measured too, wherever it lies between the others. What is found there does not count as
    the best so far, but stands beside it: a run that goes on from there is the one that was as long from the start.
    """

    params: Params
    """Of each seed at the best of the steps that are measured regularly, name -> (S, ...)."""
    loss: Float64[Tensor, " seeds"]
    """Their meta-validation loss; infinity for a seed that has had no finite one."""
    step: Int64[Tensor, " seeds"]
    """Their step; 0 for such a seed, whose parameters mean nothing."""
    newest: Float64[Tensor, " seeds"]
    """The meta-validation loss that was measured last."""
    at: int
    """When that was."""


class Chosen(NamedTuple):
    """The parameters that a run is evaluated by."""

    which: Which
    params: Params
    """Name -> (S, ...)."""
    steps: tuple[int, ...]
    """Meta-updates behind those of each seed."""
    losses: tuple[float | None, ...]
    """Their meta-validation loss; None where there is none."""


def measured(
    best: Best | None,
    params: Params,
    losses: Float64[Tensor, " seeds"],
    step: int,
    alive: Bool[Tensor, " seeds"],
    *,
    regular: bool,
) -> Best:
    """Take note of the meta-validation losses after a step.

    Args:
        best: What was known before.
        params: The parameters that were measured, name -> (S, ...); not kept, but copied where they are the best.
        losses: On the CPU.
        step: Meta-updates made.
        alive: Seeds that have not diverged; the others stand still, and keep what they have.
        regular: Whether this step is measured in a run of any length.
    """
    if best is None:
        before = {name: torch.zeros_like(theta) for name, theta in params.items()}
        best = Best(before, torch.full_like(losses, torch.inf), torch.zeros(len(losses), dtype=torch.int64), losses, 0)
    better = alive.cpu() & (losses < best.loss)  # one that is no number is not less
    best = best._replace(newest=losses, at=step)
    if not regular or not better.any():
        return best
    return best._replace(
        params=where_seed(better, params, best.params),
        loss=losses.where(better, best.loss),
        step=best.step.where(~better, step),
    )


def choose(keep: Keep, params: Params, best: Best | None, step: int, updates: Int64[Tensor, " seeds"]) -> Chosen:
    """Choose what a run at a step is evaluated by.

    Args:
        keep: Which parameters. Of a seed without a finite meta-validation loss they are the newest in any case.
        params: The newest, name -> (S, ...).
        best: What was measured along the way.
        step: Meta-updates made.
        updates: Those made of each seed, on the CPU; fewer for one that has diverged.
    """
    nothing = (None,) * len(updates)
    if keep == "newest" or best is None:
        return Chosen("newest", params, tuple(updates.tolist()), nothing)
    newest = torch.full_like(best.newest, torch.nan)
    if best.at == step:
        newest = best.newest.where(updates == step, torch.nan)
    takes_newest = (best.step == 0) | (newest < best.loss)
    losses = newest.where(takes_newest, best.loss)
    return Chosen(
        "best",
        where_seed(takes_newest, params, best.params),
        tuple(updates.where(takes_newest, best.step).tolist()),
        tuple(map(finite_or_none, losses.tolist())),
    )


def where_seed(chosen: Bool[Tensor, " seeds"], ours: Params, others: Params) -> Params:
    """The parameters of the chosen seeds from `ours`, those of the rest from `others`; new tensors."""
    return {
        name: theta.where(chosen.to(theta.device).view(-1, *[1] * (theta.dim() - 1)), others[name])
        for name, theta in ours.items()
    }
