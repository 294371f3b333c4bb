"""What adapts, and by which rule: gradient descent of all weights or some, with rates that are fixed or learned.

Pure functions of one task; nothing here knows of families, models or configs.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from mamlcli.methods.inner_optimizers import SGD, InnerOptimizer, Memory
from mamlcli.methods.method import Gradient, InnerLoop, Panel, Trained
from mamlcli.section import RateKind
from mamlcli.tasks.samples import Samples
from mamlcli.types import Data, LossFn, Order, Params, Shapes

Rate: TypeAlias = Callable[[Params, str, int], float | Tensor]
"""Maps (meta-parameters, a parameter's name, the number of the inner step) to what multiplies its gradient."""

InnerMap: TypeAlias = Callable[[Params, Params], Params]
"""Maps (meta-parameters, inner gradients) to what is stepped along in their place: a preconditioner."""

RATES, MAPS = "inner_lr.", "inner_map."
"""What the names of learned rates, and of what learned maps are made of, begin with."""
GIVEN = "given."
"""What the names begin with of what each seed is given beside its meta-parameters, and nothing learns: where runs of
several values of a key are trained side by side, `given.<key>` holds that of each."""
BESIDE = (RATES, MAPS, GIVEN)
"""Meta-parameters with such names are no weights of the model, and do not adapt."""
# Keeps the rates of a seed apart from whatever else is drawn with it.
_STREAM = 1


def through(loss_fn: LossFn[Data], params: Params, data: Data) -> Params:
    """The gradient as a function of the parameters, to be differentiated: second order."""
    gradient: Params = torch.func.grad(loss_fn)(params, data)
    return gradient


def constant(loss_fn: LossFn[Data], params: Params, data: Data) -> Params:
    """The gradient as a constant: first order."""
    with torch.no_grad():  # torch.func.grad computes it all the same; what is lost is how it came about
        return through(loss_fn, params, data)


def gradient_of(order: Order) -> Gradient[Samples]:
    """How a meta-gradient of this order finds inner gradients."""
    return through if order == "second" else constant


def descend(params: Params, grads: Params, rate: Callable[[str], float | Tensor]) -> Params:
    """Theta' = theta - rate * gradient, for each name."""
    return {name: theta - rate(name) * grads[name] for name, theta in params.items()}


class Descending(NamedTuple):
    """A task's weights on their way."""

    theta: Params
    """All weights of the model, those that do not adapt too."""
    memory: Memory


def gradient_descent(
    loss_fn: LossFn[Samples],
    rate: Rate,
    *,
    adapts: Callable[[str], bool] = lambda _: True,
    inner_map: InnerMap = lambda _, grads: grads,
    optimizer: InnerOptimizer = SGD,
) -> InnerLoop:
    """Adapt weights: theta' <- theta' - rate * direction(map(grad L_support(theta'))).

    With a constant rate and nothing else it is the inner loop of MAML (Finn et al. 2017, arXiv:1703.03400,
    Algorithm 1). Rates and maps that are learned stand among the meta-parameters under the names of `BESIDE`, and do
    not adapt.

    Args:
        loss_fn: Maps (the model's parameters, samples) to a scalar loss.
        rate: What multiplies a direction.
        adapts: Which weights do, by name: all, or those of a part of the model.
        inner_map: What becomes of gradients first.
        optimizer: What becomes of them then; its memory begins anew with each task.
    """

    def start(params: Params) -> Descending:
        theta = {name: value for name, value in params.items() if not name.startswith(BESIDE)}
        return Descending(theta, optimizer.start(_part(theta, adapts)))

    def step(
        params: Params, state: Descending, support: Samples, number: int, gradient: Gradient[Samples]
    ) -> Descending:
        theta, moving = state.theta, _part(state.theta, adapts)
        grads = gradient(lambda part, samples: loss_fn(theta | part, samples), moving, support)
        directions, memory = optimizer.direction(inner_map(params, grads), state.memory, number)
        return Descending(theta | descend(moving, directions, lambda name: rate(params, name, number)), memory)

    return InnerLoop(start, step, lambda _params, state, _support, _steps, _gradient: {"": state.theta})


def _part(theta: Params, adapts: Callable[[str], bool]) -> Params:
    return {name: value for name, value in theta.items() if adapts(name)}


def constant_rate(inner_lr: float) -> Rate:
    """The same alpha for every parameter and step; that which a seed is given in place of it, if any."""
    return lambda params, _name, _step: params.get(f"{GIVEN}inner_lr", inner_lr)


def learned_rate(kind: RateKind) -> Rate:
    """Rates that are meta-parameters.

    One for each tensor; one for each tensor and step (as in MAML++, Antoniou et al. 2019, arXiv:1810.09502); or one for
    each parameter (Meta-SGD, Li et al. 2017, arXiv:1707.09835). A step beyond those of training takes the rates of the
    last one. Rates learned for few steps need not be good for more: those of one step usually diverge after five.
    """

    def rate(params: Params, name: str, step: int) -> Tensor:
        learned = params[RATES + name]
        return learned if kind == "parameter" else learned[min(step, len(learned) - 1)]

    return rate


def init_rates(theta: Params, kind: RateKind, *, interval: tuple[float, float], inner_steps: int, seed: int) -> Params:
    """Draw the initial rates of one seed, uniform in [low, high].

    Args:
        theta: The parameters of the model.
        kind: What has a rate of its own.
        interval: Low and high; equal for a constant.
        inner_steps: Steps of adaptation in training, >= 1.
        seed: Seed of a generator of its own.

    Returns:
        See `rate_shapes`.
    """
    rng = np.random.default_rng((seed, _STREAM))
    shapes = rate_shapes({name: tuple(value.shape) for name, value in theta.items()}, kind, inner_steps)
    return {name: torch.from_numpy(rng.uniform(*interval, shape)).float() for name, shape in shapes.items()}


def rate_shapes(shapes: Shapes, kind: RateKind, inner_steps: int) -> Shapes:
    """Those of `inner_lr.<name>`: (1,) for `tensor`, (inner_steps,) for `tensor_and_step`, and the parameter's own."""
    of_all = {"tensor": (1,), "tensor_and_step": (inner_steps,)}
    return {RATES + name: of_all.get(kind, shape) for name, shape in shapes.items()}


def rate_panels(kind: RateKind, trained: Trained) -> list[Panel]:
    """The learned inner learning rates as they are at the end."""
    rows = []
    for name, value in trained.params.items():
        if not name.startswith(RATES):
            continue
        for step in range(value.shape[1]) if kind == "tensor_and_step" else [None]:
            now, before = (rates if step is None else rates[:, step] for rates in (value, trained.begun[name]))
            low, median, high = np.quantile(now.cpu().numpy(), [0.05, 0.5, 0.95]).tolist()
            numbers = {"begun": float(before.mean()), "low": low, "median": median, "high": high}
            rows.append({"tensor": name.removeprefix(RATES), "step": None if step is None else step + 1} | numbers)
    return [Panel("inner_lr", "learned inner learning rates", "rates", rows)]


def adapt(
    loss_fn: LossFn[Data], params: Params, support: Data, *, inner_lr: float | Params, inner_steps: int, order: Order
) -> Params:
    """Adapt parameters to one task on its support set.

    Repeats theta' <- theta' - alpha * grad L_support(theta')
    (Finn et al. 2017, arXiv:1703.03400, Algorithm 1).

    Args:
        loss_fn: Maps (params, support) to a scalar loss.
        params: Meta-parameters theta, name -> tensor; not modified.
        support: One task's data, any pytree of tensors; here samples x and y, each of shape (K, 1).
        inner_lr: alpha, >= 0; or a tensor for each parameter, which multiplies its gradient.
        inner_steps: Gradient steps, >= 0; 0 returns params unchanged.
        order: "second" differentiates through the inner gradients; "first" treats them as constants.

    Returns:
        Adapted parameters; same names and shapes as params.

    Raises:
        ValueError: If inner_steps or inner_lr is negative.

    Examples:
        >>> theta = {"w": torch.tensor(1.0, requires_grad=True)}
        >>> quadratic = lambda params, target: (params["w"] - target).square() / 2
        >>> adapted = adapt(quadratic, theta, torch.tensor(3.0), inner_lr=0.5, inner_steps=1, order="second")
        >>> adapted["w"].item()  # 1 - 0.5 * (1 - 3)
        2.0
    """
    if inner_steps < 0 or (not isinstance(inner_lr, dict) and inner_lr < 0):
        raise ValueError(f"inner_steps and inner_lr must be >= 0, got {inner_steps} and {inner_lr}")
    rates = inner_lr if isinstance(inner_lr, dict) else dict.fromkeys(params, inner_lr)
    gradient = through if order == "second" else constant
    for _ in range(inner_steps):
        params = descend(params, gradient(loss_fn, params, support), rates.__getitem__)
    return params
