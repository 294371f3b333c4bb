"""How a meta-gradient changes along a training: its order, and the weights of the losses after each inner step."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mamlcli.types import Order


class Course(NamedTuple):
    """What of the meta-gradient changes, and when."""

    order: Order
    first_order_steps: int = 0
    """After so many meta-updates it is of `order`; before them, of first."""
    per_step_losses: int | None = None
    """n: after so many it is of the loss after the last step alone; None where it is from the start."""

    def order_at(self, made: int) -> Order:
        """The order of the next meta-update, after so many."""
        return "first" if made < self.first_order_steps else self.order

    def weighs_at(self, made: int) -> bool:
        """Whether the next meta-update is of the losses after every step."""
        return self.per_step_losses is not None and made < self.per_step_losses

    def weights_at(self, made: int, inner_steps: int) -> Float64[Tensor, " steps"]:
        """The weights of the losses after each inner step in the next meta-update, after so many."""
        t = 1.0 if self.per_step_losses is None else made / self.per_step_losses
        return loss_weights(torch.tensor(t, dtype=torch.float64), inner_steps)

    def turns(self) -> list[int]:
        """After how many meta-updates each stretch begins."""
        return sorted({0, self.per_step_losses or 0, self.first_order_steps if self.order == "second" else 0})


def loss_weights(t: Float[Tensor, ""], inner_steps: int) -> Float[Tensor, " steps"]:
    """The weights of the losses after each step, which sum to one.

    Args:
        t: The part of the annealing that is over; 1 where it is more.
        inner_steps: S, >= 1.

    >>> loss_weights(torch.tensor(0.5), 4).tolist()
    [0.125, 0.125, 0.125, 0.625]
    """
    early = (1 - t.clamp(max=1.0)) / inner_steps
    return torch.stack([*([early] * (inner_steps - 1)), 1 - (inner_steps - 1) * early])
