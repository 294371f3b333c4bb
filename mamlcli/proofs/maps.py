"""Learned maps of inner gradients, written apart from the code under test, and what is proven of them."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mamlcli.proofs.checks import EXACT, Case, Check, MetaGradient, attempt, gradient_error
from mamlcli.types import Order, Params

_PREFIX = "inner_map."
# How far maps are moved from the identity, at which a wrong one can pass: it is its own transpose.
_MOVED = 0.5


def textbook_map(kind: str | None) -> Callable[[Params, Params], Params]:
    """Make what becomes of the gradients of all weights: those that have no map, which do not adapt, stay.

    Args:
        kind: The config's preconditioner; see `mamlcli.methods.inner_maps`.
    """
    along = {"meta_curvature": _along_axes, "t_net": _through_layer, "diagonal": _row_by_row}
    return lambda params, grads: {
        name: along[kind](params, name, grad) if kind else grad for name, grad in grads.items()
    }


def _along_axes(params: Params, name: str, grad: Tensor) -> Tensor:
    """One axis after the other is brought to the front, and multiplied."""
    moved = grad.flatten(2) if grad.ndim > 2 else grad.reshape(-1) if grad.ndim < 2 else grad
    for axis, side in enumerate(("out", "in", "rest")[: moved.ndim]):
        if f"{_PREFIX}{name}.{side}" not in params:
            return grad
        front = moved.movedim(axis, 0)
        product = params[f"{_PREFIX}{name}.{side}"] @ front.reshape(len(front), -1)
        moved = product.reshape(front.shape).movedim(0, axis)
    return moved.reshape(grad.shape)


def _through_layer(params: Params, name: str, grad: Tensor) -> Tensor:
    """W adapts behind T, in y = T W x: T times its gradient, which is found by differentiating T W."""
    found = _of_layer(params, name, grad)
    if found is None:
        return grad
    matrix, rows = found, grad.reshape(len(grad), -1)
    weight = torch.zeros_like(rows, requires_grad=True)
    (inner,) = torch.autograd.grad(((matrix @ weight) * rows).sum(), weight, create_graph=True)
    return (matrix @ inner).reshape(grad.shape)


def _row_by_row(params: Params, name: str, grad: Tensor) -> Tensor:
    found = _of_layer(params, name, grad)
    if found is None:
        return grad
    return torch.stack([factor**2 * row for factor, row in zip(found, grad, strict=True)])


def _of_layer(params: Params, name: str, grad: Tensor) -> Tensor | None:
    """The map of the module that a tensor is of, for as many outputs as it has."""
    module = name.rpartition(".")[0]
    found = [
        value
        for key, value in params.items()
        if key.startswith(_PREFIX)
        and key.removeprefix(_PREFIX).removesuffix(".out").rpartition(".")[0] == module
        and len(value) == len(grad)
    ]
    return found[0] if found else None


def with_moved_maps(case: Case) -> Case:
    """The same case at maps that are not the identity."""
    generator = torch.Generator().manual_seed(0)
    moved = {
        name: value + _MOVED * torch.randn(value.shape, generator=generator, dtype=value.dtype) / value.shape[-1] ** 0.5
        for name, value in case.params.items()
        if name.startswith(_PREFIX)
    }
    return case._replace(params=case.params | moved)


def identity_check(plain: Mapping[Order, MetaGradient], case: Case) -> Check:
    """Compare with plain MAML, of which no map is a part, in both orders.

    Args:
        plain: The meta-gradients of meta-parameters without maps.
        case: At maps that are the identity.
    """

    def without_maps(params: Params) -> Params:
        return {name: value for name, value in params.items() if not name.startswith(_PREFIX)}

    def error_of(params: Params) -> float:
        errors = []
        for order, gradient in plain.items():
            grads, log = case.gradients[order](params, case.tasks)
            expected, losses = gradient(without_maps(params), case.tasks)
            errors.append(gradient_error((without_maps(grads), log), (expected, losses["post_adapt_loss"])))
        return max(errors)

    return attempt(
        "maps at the identity",
        "the meta-gradient of the weights without maps",
        EXACT,
        error_of,
        case.params,
        mistaken=with_moved_maps(case).params,
    )
