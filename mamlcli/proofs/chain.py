"""What `check-grads` proves of a chain of two models."""

from collections.abc import Callable

from torch import Tensor

from mamlcli.proofs.chain_reference import ChainLoop
from mamlcli.proofs.checks import (
    EXACT,
    Case,
    Check,
    MetaGradient,
    attempt,
    left_out,
    norm,
    order_checks,
    relative_error,
)
from mamlcli.proofs.differences import slope_check
from mamlcli.tasks.samples import Task
from mamlcli.types import Order, Params


def chain_checks(loop: ChainLoop, upstream: Callable[[str], bool], slots: str, case: Case) -> list[Check]:
    """Check the meta-gradient of a chain in all its parameters, and in A through both models.

    Args:
        loop: The chain, written out.
        upstream: Whether a meta-parameter of this name reaches the meta-loss through inner gradients only.
        slots: The name of A among the meta-parameters, if it is learned.
        case: What is to be proven.
    """
    first, second = case.gradients["first"], case.gradients["second"]
    params, tasks = case.params, case.tasks

    def expected(order: Order) -> tuple[Params, Tensor]:
        return loop.gradient(params, tasks, order)

    def norm_upstream(gradient: MetaGradient) -> float:
        grads, _ = gradient(params, tasks)
        return norm({name: value for name, value in grads.items() if upstream(name)})

    checks = [
        *order_checks(
            expected,
            case,
            unrolled="both models unrolled in loops, autograd.grad(create_graph=True)",
            detached="the same loops with the inner gradients detached",
        ),
        attempt(
            "first order: gradient to A and the teacher",
            "exactly zero: the mixed derivatives are all there is",
            0.0,
            norm_upstream,
            first,
            mistaken=second,
        ),
    ]
    return checks + (_checks_of_slots(second, loop, slots, params, tasks) if slots in params else [])


def _checks_of_slots(second: MetaGradient, loop: ChainLoop, name: str, params: Params, tasks: Task) -> list[Check]:
    """Check the gradient to A alone, which is small beside the others."""

    def of_slots(slots: Params, tasks: Task) -> tuple[Params, dict[str, Tensor]]:
        grads, log = second(params | slots, tasks)
        return {name: grads[name]}, log

    def error_of(gradient: MetaGradient) -> float:
        return relative_error(gradient(slots, tasks)[0], {name: loop.slot_gradient(params, tasks)})

    slots = {name: params[name]}
    return [
        slope_check(
            of_slots,
            slots,
            tasks,
            mistaken=left_out(of_slots),
            name="second order: gradient to A alone",
            along="in A",
        ),
        attempt(
            "second order: gradient to A alone",
            "-alpha v^T J, with the full mixed Jacobian J from torch.func.jacrev",
            EXACT,
            error_of,
            of_slots,
            mistaken=left_out(of_slots),
        ),
    ]
