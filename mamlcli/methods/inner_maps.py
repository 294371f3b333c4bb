"""Learned maps of inner gradients: preconditioners that are meta-parameters, and do not adapt.

Meta-Curvature (Park and Oliva 2019, arXiv:1902.03356) multiplies the gradient of a tensor by a matrix along each of its
axes: M_out G M_in^T of a weight, M g of a bias. Axes beyond the second count as one, as the paper folds those of a
filter.

A T-net (Lee and Choi 2018, arXiv:1801.05558) has a matrix behind each layer, y = T (W x + b), and W and b alone adapt.
With A = T W, whose gradient is G, that of W is T^T G, so a step moves A by T T^T G: MAML whose gradient passes T T^T.
A is what is kept here, so that the model is the same with and without. An MT-net also draws masks, by which each output
of a layer adapts to a task or does not: T D T^T G with D of 0 and 1, in the mean T P T^T G with P the probabilities of
1. That is a T-net with T sqrt(P) for T. This mean is built; the masks, and the relaxation through which their
probabilities are learned, are left out. `diagonal` is the mean of an MT-net whose T is diagonal: a number t for each
output of a layer, by whose square the gradient of all that leads to this output is multiplied.

All maps start as the identity: plain MAML.
"""

from math import prod
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from mamlcli.methods.inner_loops import MAPS, InnerMap
from mamlcli.types import Params, Shapes

MapKind: TypeAlias = Literal["meta_curvature", "t_net", "diagonal"]

_SIDES = ("out", "in", "rest")


def init_maps(shapes: Shapes, kind: MapKind) -> Params:
    """The identity, as meta-parameters of one seed; see `map_shapes`."""
    return {
        name: torch.eye(*shape) if len(shape) == 2 else torch.ones(shape)
        for name, shape in map_shapes(shapes, kind).items()
    }


def map_shapes(shapes: Shapes, kind: MapKind) -> Shapes:
    """The shapes of what maps are made of, for those of what adapts.

    Of Meta-Curvature `inner_map.<name>.out`, and `.in` and `.rest` where the tensor has such axes, each (n, n). Else
    `inner_map.<name>.out`, named after the first tensor of a layer: (n, n) for `t_net`, (n,) for `diagonal`.
    """
    if kind == "meta_curvature":
        return {
            f"{MAPS}{name}.{side}": (size, size)
            for name, shape in shapes.items()
            for side, size in zip(_SIDES, _folded(shape), strict=False)
        }
    outputs = {f"{MAPS}{first}.out": _folded(shapes[first])[0] for first in _layers(shapes).values()}
    return {name: (size, size) if kind == "t_net" else (size,) for name, size in outputs.items()}


def learned_map(kind: MapKind) -> InnerMap:
    """The map that the meta-parameters of `init_maps` describe."""
    if kind == "meta_curvature":
        return lambda params, grads: {name: _curved(params, name, grad) for name, grad in grads.items()}

    def mapped(params: Params, grads: Params) -> Params:
        layers = _layers({name: tuple(grad.shape) for name, grad in grads.items()})
        found: Params = {}
        for first in dict.fromkeys(layers.values()):
            names = [name for name, layer in layers.items() if layer == first]
            rows = [grads[name].reshape(_folded(tuple(grads[name].shape))[0], -1) for name in names]
            # The tensors of a layer at once: one product, of one matrix.
            moved = _along(params[f"{MAPS}{first}.out"], torch.cat(rows, dim=1))
            parts = torch.split(moved, [row.shape[1] for row in rows], dim=1)
            found |= {name: part.reshape(grads[name].shape) for name, part in zip(names, parts, strict=True)}
        return {name: found[name] for name in grads}

    return mapped


def _folded(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes of a tensor's axes, as a map sees them: one axis at least, and three at most."""
    return (*shape[:2], prod(shape[2:])) if len(shape) > 2 else shape or (1,)


def _layers(shapes: Shapes) -> dict[str, str]:
    """Each tensor's name to that of the first tensor of its layer: of the same module, with as many outputs."""
    firsts: dict[tuple[str, int], str] = {}
    return {
        name: firsts.setdefault((name.rpartition(".")[0], _folded(shape)[0]), name) for name, shape in shapes.items()
    }


def _curved(params: Params, name: str, grad: Tensor) -> Tensor:
    sizes = _folded(tuple(grad.shape))
    out, *others = [params[f"{MAPS}{name}.{side}"] for side, _ in zip(_SIDES, sizes, strict=False)]
    moved: Tensor = out @ grad.reshape(sizes[0], -1)
    if len(others) == 1:
        moved = moved @ others[0].mT
    elif others:
        moved = torch.einsum("ajk,bj,ck->abc", moved.reshape(sizes), *others)
    return moved.reshape(grad.shape)


def _along(transform: Tensor, rows: Tensor) -> Tensor:
    """T T^T of rows, one for each output; a vector is a diagonal."""
    if transform.ndim == 1:
        return transform.square().unsqueeze(1) * rows
    product: Tensor = (transform @ transform.mT) @ rows
    return product
