"""What training has moved of the meta-parameters, in words."""

from collections.abc import Mapping

import torch

from mamlcli.types import Order, Params


def parts_note(parts: Mapping[str, str], order: Order, begun: Params, now: Params, step: int) -> str:
    """Say which parts of the meta-parameters are where they began, to the last bit, and which are not.

    Args:
        parts: What a part is called, to the prefix of its names.
        order: Of the meta-gradient that trained them.
        begun: Meta-parameters before the first step.
        now: Meta-parameters after the last one.
        step: How many there were.
    """
    present = {name: prefix for name, prefix in parts.items() if any(key.startswith(prefix) for key in now)}
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
