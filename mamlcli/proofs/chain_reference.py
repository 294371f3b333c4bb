"""The gradient through a chain of two models as a textbook writes it: loops, torch.autograd, full Jacobians.

Nothing here shares a line with the code that it is compared with.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad, jacrev, jvp

from mamlcli.proofs.reference import Outputs, gradient_by_loops, task_of
from mamlcli.tasks.samples import Samples, Task
from mamlcli.types import Order, Params


class ChainLoop(NamedTuple):
    """A chain written out for one task at a time."""

    predict: Outputs
    shots: int
    inner_lr: float
    inner_steps: int

    def gradient(self, params: Params, tasks: Task, order: Order) -> tuple[Params, Tensor]:
        """Meta-gradients and meta-losses of S seeds; in the order of `params`."""

        def query_loss(leaves: Params, task: Task) -> Tensor:
            teacher = self.teacher_path(leaves, *task.support, order)[-1]
            return self._query_loss(self.student(leaves, teacher, task.support.x, order), task.query)

        return gradient_by_loops(query_loss, params, tasks)

    def slot_gradient(self, params: Params, tasks: Task) -> Tensor:
        """The gradient of S seeds to A, as v^T J with every entry of J, of shape (S, K).

        With v_n the derivative of the query loss in the adapted teacher, J_i = d^2 L / dA dtheta and H_i the Hessian
        of the weighted loss L at the teacher's step i, it is the sum over i of -alpha J_i v_(i+1), where
        v_i = v_(i+1) - alpha H_i v_(i+1).
        """
        num_seeds, num_tasks = tasks.query.x.shape[:2]
        total = torch.zeros(num_seeds, self.shots, dtype=tasks.query.x.dtype)
        for seed in range(num_seeds):
            one = {name: value[seed].detach() for name, value in params.items()}
            for task in range(num_tasks):
                total[seed] += self._slot_gradient_of_task(one, task_of(tasks, seed, task)) / num_tasks
        return total

    def _slot_gradient_of_task(self, params: Params, task: Task) -> Tensor:
        x, y = task.support
        weights = params.get("slot_weights", torch.ones(self.shots, dtype=x.dtype))
        leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
        path = [_constants(theta) for theta in self.teacher_path(leaves, x, y, "first")]
        last = {name: value.requires_grad_() for name, value in _constants(path[-1]).items()}
        loss = self._query_loss(self.student(leaves, last, x, "second"), task.query)
        vector = dict(zip(last, torch.autograd.grad(loss, list(last.values())), strict=True))

        def weighted(weights: Tensor, theta: Params) -> Tensor:
            return self._weighted_loss(weights, theta, x, y)

        total = torch.zeros(self.shots, dtype=x.dtype)
        for theta in reversed(path[:-1]):
            jacobian = jacrev(grad(weighted, argnums=0), argnums=1)(weights, theta)  # name -> (K, ...)
            for name, entries in jacobian.items():
                total = total - self.inner_lr * (entries.flatten(1) @ vector[name].flatten())
            inner = grad(lambda theta: weighted(weights, theta))
            curved = jvp(inner, (theta,), (vector,))[1]
            vector = {name: value - self.inner_lr * curved[name] for name, value in vector.items()}
        return total

    def teacher_path(self, leaves: Params, x: Tensor, y: Tensor, order: Order) -> list[Params]:
        """The teacher before adaptation and after each step."""
        weights = leaves.get("slot_weights", torch.ones(self.shots, dtype=x.dtype))
        path = [_named("teacher.", leaves)]
        for _ in range(self.inner_steps):
            path.append(self._stepped(path[-1], self._weighted_loss(weights, path[-1], x, y), order))
        return path

    def student(self, leaves: Params, teacher: Params, x: Tensor, order: Order) -> Params:
        """The student after adaptation to a teacher."""
        targets = self.predict(teacher, x[self.shots :])
        student = _named("student.", leaves)
        for _ in range(self.inner_steps):
            loss = torch.mean((self.predict(student, x[self.shots :]) - targets) ** 2)
            student = self._stepped(student, loss, order)
        return student

    def _weighted_loss(self, weights: Tensor, theta: Params, x: Tensor, y: Tensor) -> Tensor:
        outputs = self.predict(theta, x[: self.shots])
        loss = torch.zeros((), dtype=x.dtype)
        for slot in range(self.shots):
            loss = loss + weights[slot] * torch.mean((outputs[slot] - y[slot]) ** 2) / self.shots
        return loss

    def _stepped(self, theta: Params, loss: Tensor, order: Order) -> Params:
        gradients = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
        if order == "first":
            gradients = tuple(gradient.detach() for gradient in gradients)
        return {
            name: value - self.inner_lr * gradient
            for (name, value), gradient in zip(theta.items(), gradients, strict=True)
        }

    def _query_loss(self, student: Params, query: Samples) -> Tensor:
        x, y = query
        there = ~y.isnan()  # what is not fills up a shorter task
        return torch.mean((self.predict(student, x)[there] - y[there]) ** 2)


def _named(prefix: str, params: Params) -> Params:
    return {name[len(prefix) :]: value for name, value in params.items() if name.startswith(prefix)}


def _constants(params: Params) -> Params:
    return {name: value.detach() for name, value in params.items()}
