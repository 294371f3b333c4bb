"""Each way to run the experiment, as its own documentation writes it.

A contender is a function of a case that returns two functions: the meta-gradient of one seed on a given batch, in
the layout of `fixed_params`, for the check that all compute the same; and `steps(n)`, which trains n meta-steps,
sampling and Adam included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.cases import ALPHA, LR, Arrays, Case, fixed_params, sample_batch

if TYPE_CHECKING:
    from mamlcli.experiment import Experiment

# Steps that JAX scans over in one call, the longest first.
_SCANNED = (200, 20, 1)
Contender = tuple[Callable[[Arrays, Arrays], Arrays], Callable[[int], None]]


def ours(case: Case, compiled: str = "on") -> Contender:
    """This project's training loop, as `maml train` runs it."""
    import torch

    from mamlcli.compute.plan import make_plan, planned_update
    from mamlcli.tasks.samples import Samples, Task
    from mamlcli.threads import using_threads
    from mamlcli.training import train_steps

    described = experiment(case, f"engine.compile={compiled}")
    device = torch.device("cpu")
    plan, state = make_plan(described, device), described.initial_state(device)
    update = planned_update(described, state, plan, device)
    shapes = [theta.shape[1:] for theta in state.params.values()]

    def check(params: Arrays, batch: Arrays) -> Arrays:
        state.flat.copy_(torch.cat([torch.from_numpy(value).flatten() for value in params]))
        sides = [torch.from_numpy(part).expand(case.seeds, *part.shape) for part in batch]
        update(Task(Samples(*sides[:2]), Samples(*sides[2:])))
        assert state.flat.grad is not None
        grads = torch.split(state.flat.grad[0], [shape.numel() for shape in shapes])
        return [grad.view(shape).numpy().copy() for grad, shape in zip(grads, shapes, strict=True)]

    def steps(count: int) -> None:
        with using_threads(plan.torch_threads):
            for _ in train_steps(
                state,
                described.stream().blocks(state.step, state.step + count, device),
                update,
                lambda params, tasks: torch.zeros(0),  # noqa: ARG005
                seeds=described.config.seeds,
                learning_rate=lambda _: LR,
                on_divergence="stop",
                is_logged=lambda _: False,
            ):
                pass

    return check, steps


def experiment(case: Case, *overrides: str) -> Experiment:
    """The case as an experiment of this project."""
    from mamlcli import parse_config
    from mamlcli.experiment import make_experiment

    config = parse_config(
        f"name: benchmark\nseeds: {list(range(case.seeds))}\ndevice: cpu\n"
        f"tasks: {{support_shots: {case.shots}, query_shots: {case.shots}}}\n"
        f"model: {{hidden_sizes: [{case.width}, {case.width}]}}\n"
        f"algorithm: {{inner_steps: {case.inner_steps}, inner_lr: {ALPHA}}}\n"
        f"outer: {{meta_batch_size: {case.tasks}, lr: {LR}}}\n"
        f"engine: {{threads: {case.threads or 'auto'}}}\n",
        overrides=overrides,
    )
    return make_experiment(config)


def ours_eager(case: Case) -> Contender:
    """The same, not compiled."""
    return ours(case, compiled="off")


def ours_on_one_thread(case: Case) -> Contender:
    """The same, on one thread."""
    return ours(case._replace(threads=1))


def _torch_batches(case: Case) -> Callable[[], Any]:
    import torch

    rng = np.random.default_rng(2)
    return lambda: [torch.from_numpy(part) for part in sample_batch(rng, case)]


def torch_vmap(case: Case) -> Contender:
    """torch.func: vmap over tasks of a query loss after grad, eager; the pattern of PyTorch's own MAML example."""
    import torch
    from torch.func import functional_call, grad, vmap

    network = _module(case)
    names = [name for name, _ in network.named_parameters()]
    optimizer = torch.optim.Adam(network.parameters(), lr=LR)
    draw = _torch_batches(case)

    def loss(params: Any, x: Any, y: Any) -> Any:
        return torch.nn.functional.mse_loss(functional_call(network, params, (x,)), y)

    def meta_loss(params: Any, batch: Any) -> Any:
        def task(sx: Any, sy: Any, qx: Any, qy: Any) -> Any:
            adapted = params
            for _ in range(case.inner_steps):
                grads = grad(loss)(adapted, sx, sy)
                adapted = {name: adapted[name] - ALPHA * grads[name] for name in names}
            return loss(adapted, qx, qy)

        return vmap(task)(*batch).mean()

    def check(params: Arrays, batch: Arrays) -> Arrays:
        values = dict(zip(names, map(torch.from_numpy, params), strict=True))
        grads = grad(meta_loss)(values, [torch.from_numpy(part) for part in batch])
        return [grads[name].numpy() for name in names]

    def steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            meta_loss(dict(network.named_parameters()), draw()).backward()
            optimizer.step()

    return check, steps


def higher(case: Case) -> Contender:
    """A loop over tasks in higher's inner-loop context, `copy_initial_weights=False`."""
    import higher as library
    import torch
    from torch.nn.functional import mse_loss

    network = _module(case)
    inner = torch.optim.SGD(network.parameters(), lr=ALPHA)
    optimizer = torch.optim.Adam(network.parameters(), lr=LR)
    draw = _torch_batches(case)

    def backward(batch: Any) -> None:
        optimizer.zero_grad()
        for sx, sy, qx, qy in zip(*batch, strict=True):
            with library.innerloop_ctx(network, inner, copy_initial_weights=False) as (fast, fast_optimizer):
                for _ in range(case.inner_steps):
                    fast_optimizer.step(mse_loss(fast(sx), sy))
                torch.autograd.backward(mse_loss(fast(qx), qy) / case.tasks)

    return _module_check(network, backward), _module_steps(backward, draw, optimizer)


def torchopt(case: Case) -> Contender:
    """A loop over tasks with torchopt.MetaSGD (differentiable SGD) and its saving and restoring of state."""
    import torch
    import torchopt as library
    from torch.nn.functional import mse_loss

    network = _module(case)
    inner = library.MetaSGD(network, lr=ALPHA)
    optimizer = torch.optim.Adam(network.parameters(), lr=LR)
    draw = _torch_batches(case)

    def backward(batch: Any) -> None:
        optimizer.zero_grad()
        network_state = library.extract_state_dict(network, by="reference", detach_buffers=True)
        inner_state = library.extract_state_dict(inner, by="reference")
        losses = []
        for sx, sy, qx, qy in zip(*batch, strict=True):
            for _ in range(case.inner_steps):
                inner.step(mse_loss(network(sx), sy))
            losses.append(mse_loss(network(qx), qy))
            library.recover_state_dict(network, network_state)
            library.recover_state_dict(inner, inner_state)
        torch.autograd.backward(torch.mean(torch.stack(losses)))

    return _module_check(network, backward), _module_steps(backward, draw, optimizer)


def parallel_metalearn(case: Case) -> Contender:
    """Parallel-metalearn's MAML: its vmap over tasks, with its differentiable SGD of a fixed rate."""
    import torch
    from metalearn.algorithms import MAML
    from metalearn.inner_optimizers import InnerSGD
    from metalearn.loss.base import BaseLoss
    from metalearn.model_wrappers.MAMLWrapper import MAML_Model
    from torch import nn

    class Regression(BaseLoss):  # type: ignore[misc]
        def forward(self, out_dict: Any, targets: Any, model_states: Any = None, **_: Any) -> Any:  # noqa: ARG002
            loss = nn.functional.mse_loss(out_dict["logits"], targets)
            return loss, loss

    class Told(nn.Module):
        """A module that is told more than its input."""

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Any, **_: Any) -> Any:
            return self.inner(x)

    *body, head = _module(case)
    network = MAML_Model(Told(nn.Sequential(*body)), Told(head))
    rule = InnerSGD(
        network.get_fast_weights(), inner_lr=ALPHA, max_inner_steps=case.inner_steps, learn_lr=False, first_order=False
    )
    method = MAML(
        model=network,
        optimizer=torch.optim.Adam(network.parameters(), lr=LR),
        inner_optimizer=rule,
        support_loss_fn=Regression(),
        inner_steps=case.inner_steps,
        chunk_size=case.tasks,
    )
    draw = _torch_batches(case)

    def steps(count: int) -> None:
        for _ in range(count):
            method.step(iter([draw()]))

    return _module_check(network, lambda batch: method.step(iter([batch]))), steps


def _module(case: Case) -> Any:
    from torch import nn

    (first, second, third), (_, _, last) = case.sizes[:3], case.sizes[1:]
    return nn.Sequential(
        nn.Linear(first, second), nn.ReLU(), nn.Linear(second, third), nn.ReLU(), nn.Linear(third, last)
    )


def _module_check(network: Any, backward: Callable[[Any], None]) -> Callable[[Arrays, Arrays], Arrays]:
    import torch

    def check(params: Arrays, batch: Arrays) -> Arrays:
        with torch.no_grad():
            for parameter, value in zip(network.parameters(), params, strict=True):
                parameter.copy_(torch.from_numpy(value))
        backward([torch.from_numpy(part) for part in batch])
        return [parameter.grad.numpy().copy() for parameter in network.parameters()]

    return check


def _module_steps(backward: Callable[[Any], None], draw: Callable[[], Any], optimizer: Any) -> Callable[[int], None]:
    def steps(count: int) -> None:
        for _ in range(count):
            backward(draw())
            optimizer.step()

    return steps


def jax(case: Case) -> Contender:
    """Jit of a scan over steps of vmap of grad, optax's Adam, batches drawn inside; seeds by one more vmap."""
    import jax as library
    import jax.numpy as jnp
    import optax

    def loss(params: Any, x: Any, y: Any) -> Any:
        for index, (weight, bias) in enumerate(params):
            x = x @ weight + bias
            x = library.nn.relu(x) if index < len(params) - 1 else x
        return jnp.mean((x - y) ** 2)

    def meta_loss(params: Any, batch: Any) -> Any:
        def task(sx: Any, sy: Any, qx: Any, qy: Any) -> Any:
            adapted = params
            for _ in range(case.inner_steps):
                grads = library.grad(loss)(adapted, sx, sy)
                adapted = library.tree.map(lambda value, grad: value - ALPHA * grad, adapted, grads)
            return loss(adapted, qx, qy)

        return jnp.mean(library.vmap(task)(*batch))

    def draw(key: Any) -> Any:
        keys = library.random.split(key, 4)
        amplitude = library.random.uniform(keys[0], (case.tasks, 1, 1), minval=0.1, maxval=5.0)
        phase = library.random.uniform(keys[1], (case.tasks, 1, 1), maxval=jnp.pi)
        xs = [library.random.uniform(one, (case.tasks, case.shots, 1), minval=-5.0, maxval=5.0) for one in keys[2:]]
        return [part for x in xs for part in (x, amplitude * jnp.sin(x - phase))]

    optimizer = optax.adam(LR)

    def step(params: Any, state: Any, key: Any) -> Any:
        key, drawn = library.random.split(key)
        grads = library.grad(meta_loss)(params, draw(drawn))
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state, key

    def layers(params: Arrays) -> Any:
        return [(jnp.asarray(params[i].T), jnp.asarray(params[i + 1])) for i in range(0, len(params), 2)]

    params = layers(fixed_params(case))
    keys = library.random.split(library.random.key(0), case.seeds)
    if case.seeds > 1:
        params = library.tree.map(lambda value: jnp.stack([value] * case.seeds), params)
        state, made = library.vmap(optimizer.init)(params), library.vmap(step)
    else:
        state, keys, made = optimizer.init(params), keys[0], step

    def several(length: int) -> Any:
        """So many steps in one call, as fast as JAX is."""
        body = lambda held, _: (made(*held), None)  # noqa: E731
        return library.jit(lambda *held: library.lax.scan(body, held, None, length=length)[0], donate_argnums=(0, 1, 2))

    finished: Any = library.block_until_ready
    compiled = {length: several(length) for length in _SCANNED}
    held = [params, state, keys]

    def check(params: Arrays, batch: Arrays) -> Arrays:
        grads = library.grad(meta_loss)(layers(params), [jnp.asarray(part) for part in batch])
        return [np.asarray(part).T for layer in grads for part in layer]

    def steps(count: int) -> None:
        for length in _SCANNED:
            for _ in range(count // length):
                held[:] = compiled[length](*held)
            count %= length
        finished(held)

    return check, steps


CONTENDERS: dict[str, Callable[[Case], Contender]] = {
    "mamlcli": ours,
    "mamlcli, not compiled": ours_eager,
    "mamlcli, one thread": ours_on_one_thread,
    "higher, loop": higher,
    "torchopt MetaSGD, loop": torchopt,
    "parallel-metalearn": parallel_metalearn,
    "torch.func vmap(grad), eager": torch_vmap,
    "JAX jit(scan(vmap(grad))) + optax": jax,
}
PACKAGES = {
    "higher, loop": "higher",
    "torchopt MetaSGD, loop": "torchopt",
    "parallel-metalearn": "metalearn",
    "JAX jit(scan(vmap(grad))) + optax": "optax",
}
