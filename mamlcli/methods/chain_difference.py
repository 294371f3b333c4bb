"""What the usual approximation of a chain's gradient to A costs and loses.

It is one central difference in place of the mixed derivative, as in DARTS (Liu et al. 2019, arXiv:1806.09055, equation
8): in place of -alpha v^T J it takes -alpha (dL/dA at theta + eps v  -  dL/dA at theta - eps v) / (2 eps), with
eps = 0.01 / |v|, and so sees the teacher's last step alone.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from mamlcli.methods.chain import SLOT_WEIGHTS, STUDENT, TEACHER, mean_error, part_of, weighted_mean
from mamlcli.methods.inner_loops import adapt
from mamlcli.methods.meta_gradients import gradient_per_seed
from mamlcli.methods.method import Bench
from mamlcli.proofs.checks import Case, relative_error
from mamlcli.tasks.samples import Samples, Task
from mamlcli.threads import using_threads
from mamlcli.types import Params, Row, finite_or_none

_REPEATS = 7
# The step of the difference is this over the length of its direction (section 2.3 there).
_EPSILON = 0.01


class Approximation(NamedTuple):
    """The chain whose gradient to A is approximated."""

    bench: Bench
    inner_lr: float
    inner_steps: int
    meta_loss: Callable[[Params, Task], Tensor]
    """Maps (params (S, ...), tasks) to S meta-losses, second order."""

    def compare(self, case: Case) -> Row | None:
        """Measure the approximation beside the exact gradient.

        Returns:
            relative_error (float64, where only the difference is to blame), relative_error_float32 (as one would
            train), ms and exact_ms (float32, the gradient to A alone, one thread, median of several); None where A is
            not learned, or cannot be computed.
        """
        params, tasks = case.params, case.tasks
        if SLOT_WEIGHTS not in params:
            return None
        single = {name: value.float() for name, value in params.items()}
        single_tasks = tasks.map(Tensor.float)
        try:
            exact = self.exact(params, tasks)
        except RuntimeError:  # the checks say what failed
            return None

        def error(found: Tensor) -> float | None:
            return finite_or_none(relative_error({SLOT_WEIGHTS: found.double()}, {SLOT_WEIGHTS: exact}))

        return {
            "relative_error": error(self.by_difference(params, tasks)),
            "relative_error_float32": error(self.by_difference(single, single_tasks)),
            "ms": _milliseconds(lambda: self.by_difference(single, single_tasks)),
            "exact_ms": _milliseconds(lambda: self.exact(single, single_tasks)),
            "inner_steps": self.inner_steps,
        }

    def exact(self, params: Params, tasks: Task) -> Tensor:
        """The gradient to A alone, through both models, (S, K)."""
        slots = {SLOT_WEIGHTS: params[SLOT_WEIGHTS]}
        grads, _ = gradient_per_seed(lambda slots, tasks: self.meta_loss(params | slots, tasks), slots, tasks)
        return grads[SLOT_WEIGHTS]

    def by_difference(self, params: Params, tasks: Task) -> Tensor:
        """The same by one central difference."""
        with torch.no_grad():
            over_tasks = torch.vmap(self._of_task, in_dims=(None, 0))
            found: Tensor = torch.vmap(over_tasks)(params, tasks).mean(dim=1)
        return found

    def _of_task(self, params: Params, task: Task) -> Tensor:
        bench, shots = self.bench, self.bench.support_shots
        slots, x = Samples(task.support.x[:shots], task.support.y[:shots]), task.support.x[shots:]
        loss_fn, student = mean_error(bench), part_of(STUDENT, params)

        def weighted(teacher: Params, slots: Samples) -> Tensor:
            return weighted_mean(params[SLOT_WEIGHTS], bench.errors(teacher, slots))

        def query_loss(teacher: Params) -> Tensor:
            taught = Samples(x, bench.model.predict(teacher, x))
            steps = {"inner_lr": self.inner_lr, "inner_steps": self.inner_steps}
            return loss_fn(adapt(loss_fn, student, taught, **steps, order="second"), task.query)  # type: ignore[arg-type]

        def stepped(teacher: Params, steps: int) -> Params:
            return adapt(weighted, teacher, slots, inner_lr=self.inner_lr, inner_steps=steps, order="first")

        before = stepped(part_of(TEACHER, params), self.inner_steps - 1)
        vector = torch.func.grad(query_loss)(stepped(before, 1))
        epsilon = _EPSILON / torch.cat([value.flatten() for value in vector.values()]).norm()
        ahead, behind = (
            bench.errors({name: value + sign * epsilon * vector[name] for name, value in before.items()}, slots)
            for sign in (1, -1)
        )
        found: Tensor = -self.inner_lr * (ahead - behind) / (2 * epsilon) / shots
        return found


def _milliseconds(computation: Callable[[], object]) -> float:
    spent = []
    with using_threads(1):  # two wait for each other where another process wants a core
        computation()
        for _ in range(_REPEATS):
            since = time.perf_counter()
            computation()
            spent.append(1e3 * (time.perf_counter() - since))
    return round(median(spent), 3)
