"""Models trained apart, written out: a loop over seeds and tasks, each with the model that its number names."""

import torch
from torch import Tensor

from mamlcli.proofs.checks import EXACT, Case, Check, MetaGradient, attempt, left_out, relative_error
from mamlcli.tasks.samples import Samples, Task
from mamlcli.types import LossFn, Params


def apart_checks(textbook: LossFn[Samples], penalty: str, strength: float, case: Case) -> list[Check]:
    """Compare the gradient of models that are trained apart with a loop.

    Args:
        textbook: The loss of one model.
        penalty: `none`, `l2` or `mean`; see `mamlcli.methods.averaged`.
        strength: What multiplies it.
        case: Tasks whose last support sample has the number of their model as its target.
    """

    def error_of(gradient: MetaGradient) -> float:
        found, log = gradient(case.params, case.tasks)
        expected, losses = _looped(textbook, penalty, strength, case.params, case.tasks)
        return max(
            relative_error(found, expected),
            relative_error({"": log.get("meta_loss", log["post_adapt_loss"])}, {"": losses}),
        )

    compared_with = "a loop over tasks and their models, autograd.grad"
    gradient = case.gradients["second"]
    return [attempt("gradient and loss", compared_with, EXACT, error_of, gradient, mistaken=left_out(gradient))]


def _looped(
    textbook: LossFn[Samples], penalty: str, strength: float, params: Params, tasks: Task
) -> tuple[Params, Tensor]:
    """Gradients, name -> (S, M, ...), and the losses of S seeds."""
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    losses = []
    for seed in range(len(tasks.query.x)):
        total = torch.zeros((), dtype=tasks.query.x.dtype)
        for task in range(tasks.query.x.shape[1]):
            (x, y), query = (Samples(*(part[seed, task] for part in side)) for side in tasks)
            model = int(y[-1].item())
            theta = {name: value[seed, model] for name, value in leaves.items()}
            total = total + textbook(theta, Samples(torch.cat([x[:-1], query.x]), torch.cat([y[:-1], query.y])))
            for name, value in theta.items():
                if penalty == "none":
                    continue
                centre = torch.stack(list(leaves[name][seed])).mean(dim=0) if penalty == "mean" else 0.0
                total = total + strength * torch.sum((value - centre) ** 2)
        losses.append(total / tasks.query.x.shape[1])
    gradients = torch.autograd.grad(torch.stack(losses).sum(), list(leaves.values()))
    return dict(zip(leaves, gradients, strict=True)), torch.stack(losses).detach()
