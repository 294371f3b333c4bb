"""What training has moved of a chain, in words."""

import torch

from mamlcli.algorithms.chain import SLOT_WEIGHTS, STUDENT, TEACHER
from mamlcli.types import Order, Params

_PARTS = {"the weights A of the support slots": SLOT_WEIGHTS, "the teacher": TEACHER, "the student": STUDENT}


def chain_note(order: Order, begun: Params, now: Params, step: int) -> str:
    """Say which parts of a chain are where they began, to the last bit, and which are not.

    Args:
        order: Of the meta-gradient that trained it.
        begun: Meta-parameters before the first step.
        now: Meta-parameters after the last one.
        step: How many there were.
    """
    present = {name: prefix for name, prefix in _PARTS.items() if any(key.startswith(prefix) for key in now)}
    still = [
        name
        for name, prefix in present.items()
        if all(torch.equal(begun[key], now[key].cpu()) for key in now if key.startswith(prefix))
    ]
    if not still:
        moved = list(present)
        return f"{order} order: {', '.join(moved[:-1])} and {moved[-1]} moved"
    why = ": the mixed derivatives that first order leaves out are all that would move them" if order == "first" else ""
    return f"{order} order: {' and '.join(still)} did not move at all in {step} meta-updates (every bit as before){why}"
