"""A linear fit for each task, drawn towards the linear fit of all tasks: a random-slope model in spirit.

With phi(x) = (1, x), the coefficients of a task are

    w_t = argmin_w  sum_k (y_k - phi(x_k)' w)^2  +  (w - w_0)' L (w - w_0)
        = w_0 + (Phi' Phi + L)^-1 Phi' (y - Phi w_0)                    (Hoerl and Kennard 1970, about w_0 and not 0)

where w_0 is the least-squares fit to all meta-train rows, and L is diagonal: one strength for the intercept, one for
all slopes. In a model y = phi' (w_0 + u_t) + e, u_t normal with variances s_0^2 and s_1^2 and e with s^2, it is the
best linear prediction where L = diag(s^2 / s_0^2, s^2 / s_1^2, ...) (Robinson 1991, doi:10.1214/ss/1177011926). Here
both strengths are those of a grid that predict left-out rows of meta-train tasks best; w_0 is then fitted without the
task whose rows are predicted.
"""

from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mamlcli.baselines.predictors import Predictor
from mamlcli.baselines.rows import has_target
from mamlcli.tasks.samples import Samples

# From nearly the task's own fit to nearly the pooled one.
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1e3, 1e6)
# How often the rows of each meta-train task are cut into support and query to choose among them.
_NUM_SPLITS = 8
_SPLIT_SEED = 0


class Line(NamedTuple):
    """What is learned from the meta-train tasks."""

    mean: Float[Tensor, " features"]
    """Inputs are standardised, so that one strength fits all slopes: by this mean,"""
    scale: Float[Tensor, " features"]
    """and by this standard deviation."""
    pooled: Float[Tensor, "outputs terms"]
    """w_0 of each target."""
    strengths: Float[Tensor, "outputs terms"]
    """The diagonal of L, for each target."""


def ridge(train: Samples, shots: int) -> Predictor:
    """Fit a line to each task, drawn towards that of all; see `fit_line`."""
    line = fit_line(train, shots)

    def predict(support: Samples, query_x: Tensor) -> Tensor:
        gram, moment = _normal_equations(_terms(line, support.x), support.y, has_target(support.y))
        weights = drawn_towards(line.pooled, gram, moment, line.strengths)
        return torch.einsum("tqp,top->tqo", _terms(line, query_x), weights).unsqueeze(0)

    return predict


def fit_line(train: Samples, shots: int) -> Line:
    """Fit the line of all meta-train rows, and choose how strongly those of tasks are drawn to it.

    For each strength, every task is predicted from K of its rows, or from all but one where it has no more, and
    measured on the others; the smallest mean over tasks and random splits wins, for each target by itself. Tasks of one
    row say nothing of it.

    Args:
        train: Rows of N tasks: x (N, R, features), y (N, R, outputs), NaN where there is none.
        shots: K, >= 1.
    """
    there = has_target(train.y)
    mean, scale = _spread(train.x.double(), there)
    line = Line(mean, scale, *(torch.ones(train.y.shape[-1], 1 + train.x.shape[-1], dtype=torch.float64),) * 2)
    terms = _terms(line, train.x)
    gram, moment = _normal_equations(terms, train.y, there)
    total_gram, total_moment = gram.sum(dim=0), moment.sum(dim=0)
    without = _least_squares(total_gram - gram, total_moment - moment)
    strengths = _best_strengths(terms, train.y, there, without, shots)
    return line._replace(pooled=_least_squares(total_gram, total_moment), strengths=strengths)


def drawn_towards(
    centre: Float[Tensor, "*tasks outputs terms"],
    gram: Float[Tensor, "tasks outputs terms terms"],
    moment: Float[Tensor, "tasks outputs terms"],
    strengths: Float[Tensor, "outputs terms"],
) -> Float[Tensor, "tasks outputs terms"]:
    """w_0 + (Phi' Phi + L)^-1 (Phi' y - Phi' Phi w_0), for each task and target."""
    rest = moment - (gram @ centre.unsqueeze(-1)).squeeze(-1)
    drawn: Tensor = centre + torch.linalg.solve(gram + torch.diag_embed(strengths), rest)
    return drawn


def _best_strengths(
    terms: Float[Tensor, "tasks rows terms"],
    y: Float[Tensor, "tasks rows outputs"],
    there: Bool[Tensor, "tasks rows"],
    centres: Float[Tensor, "tasks outputs terms"],
    shots: int,
) -> Float[Tensor, "outputs terms"]:
    num_slopes = terms.shape[-1] - 1
    pairs = [[one] + [other] * num_slopes for one, other in product(STRENGTHS, STRENGTHS)]
    grid = torch.tensor(pairs, dtype=torch.float64)
    errors = torch.zeros(len(grid), y.shape[-1], dtype=torch.float64)
    for support in split_rows(there, shots):
        gram, moment = _normal_equations(terms, y, support)
        measured = ~y.isnan() & (there & ~support).unsqueeze(-1)
        for index, strengths in enumerate(grid):
            weights = drawn_towards(centres, gram, moment, strengths.expand(y.shape[-1], -1))
            missed = (torch.einsum("nrp,nop->nro", terms, weights) - y).where(measured, 0).square().sum(dim=1)
            errors[index] += (missed / measured.sum(dim=1)).nanmean(dim=0)
    # NaN where no task could be measured on any split: then nothing tells them apart.
    chosen = errors.where(~errors.isnan(), 0).argmin(dim=0)
    return grid[chosen]


def split_rows(there: Bool[Tensor, "tasks rows"], shots: int) -> list[Bool[Tensor, "tasks rows"]]:
    """Choose K random rows of every task, or all but one where it has no more, several times."""
    rng, sizes = np.random.default_rng(_SPLIT_SEED), there.sum(dim=1)
    counts = (sizes - 1).clamp(max=shots).unsqueeze(1)
    found = []
    for _ in range(_NUM_SPLITS):
        order = torch.from_numpy(rng.random(there.shape)).where(there, torch.inf).argsort(dim=1, stable=True)
        found.append(order.argsort(dim=1, stable=True) < counts)
    return found


def _spread(x: Float[Tensor, "tasks rows features"], there: Bool[Tensor, "tasks rows"]) -> tuple[Tensor, Tensor]:
    rows = x[there] if there.any() else x.new_zeros(1, x.shape[-1])
    scale = rows.std(dim=0, correction=0)
    return rows.mean(dim=0), scale.where(scale > 0, 1.0)


def _terms(line: Line, x: Float[Tensor, "tasks rows features"]) -> Float[Tensor, "tasks rows terms"]:
    standardised = (x.double() - line.mean) / line.scale
    return torch.cat([torch.ones_like(standardised[..., :1]), standardised], dim=-1)


def _normal_equations(
    terms: Float[Tensor, "tasks rows terms"], y: Tensor, chosen: Bool[Tensor, "tasks rows"]
) -> tuple[Float[Tensor, "tasks outputs terms terms"], Float[Tensor, "tasks outputs terms"]]:
    """Phi' Phi and Phi' y over the chosen rows that have the target."""
    weight = (~y.isnan() & chosen.unsqueeze(-1)).double()
    gram = torch.einsum("nro,nrp,nrq->nopq", weight, terms, terms)
    return gram, torch.einsum("nro,nrp->nop", y.double().nan_to_num(nan=0.0) * weight, terms)


def _least_squares(gram: Tensor, moment: Tensor) -> Tensor:
    """The shortest of the best fits, where rows do not tell them apart."""
    shortest: Tensor = (torch.linalg.pinv(gram, hermitian=True) @ moment.unsqueeze(-1)).squeeze(-1)
    return shortest
