"""Model-agnostic meta-learning, first and second order (Finn et al. 2017, arXiv:1703.03400).

All weights adapt by gradient descent, or those of the head or the body alone, with one constant rate or with rates that
are learned beside them, along the gradient or where an optimiser turns it; the meta-gradient is found through the steps
as they were taken.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mamlcli.errors import UsageError
from mamlcli.section import CountOrZero, Interval, NonNegative, OrderedSection

if TYPE_CHECKING:
    from collections.abc import Callable

    from mamlcli.methods.inner_loops import Rate
    from mamlcli.methods.inner_optimizers import InnerOptimizer
    from mamlcli.methods.method import Bench, Footprint, InnerLoop, Log, MetaGradient, Method, Panel, Trained
    from mamlcli.models.model import Model
    from mamlcli.proofs.checks import Case, Check
    from mamlcli.proofs.reference import Textbook
    from mamlcli.tasks.samples import Samples, Task
    from mamlcli.types import LossFn, Order, Params


class MamlConfig(OrderedSection):
    """MAML: learns an initialisation from which a few gradient steps solve a new task."""

    test_keys: ClassVar[tuple[str, ...]] = ("inner_lr", "inner_optimizer", "inner_momentum")
    row_keys: ClassVar[tuple[str, ...]] = ("inner_lr", "inner_lr_init")

    name: Literal["maml"] = "maml"
    """The method. `maml` learns an initialisation to adapt from; `joint` trains one model on all samples of all tasks,
    without adaptation, and is the baseline; `chain` adapts a teacher on weighted support samples and a student on what
    the teacher says, and learns both initialisations and the weights from the student's loss."""
    inner_steps: CountOrZero = 1
    """Gradient steps of adaptation in meta-training."""
    inner_lr: NonNegative = 0.01
    """alpha: the step size of adaptation, in meta-training and at test time."""
    adapts: Literal["all", "head", "body"] = "all"
    """What of the model adapts to a task: `all` weights; the `head` alone, its last layer (ANIL); or the `body` alone,
    all but that (BOIL). What does not adapt is learned all the same."""
    inner_optimizer: Literal["sgd", "momentum", "adam"] = "sgd"
    """What turns inner gradients into steps: the optimisers of torch.optim, begun anew with each task. Second order
    sees through them."""
    inner_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """How much of the last step's direction `momentum` keeps."""
    learned_inner_lr: Literal["tensor", "tensor_and_step", "parameter"] | None = None
    """Learn the step sizes too, one for each tensor, for each tensor and step, or for each parameter (Meta-SGD). A step
    beyond those of training takes the rates of the last one."""
    inner_lr_init: Interval | None = None
    """Learned step sizes start uniform in [low, high]; null: all start at `inner_lr`."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.learned_inner_lr is None and self.inner_lr_init is not None:
            raise ValueError("inner_lr_init needs learned_inner_lr: tensor, tensor_and_step or parameter")
        if self.learned_inner_lr is not None and self.inner_steps == 0:
            raise ValueError("learned_inner_lr needs inner_steps of at least 1: nothing else learns them")
        return self

    def without_effect(self) -> dict[str, str]:
        """Learned rates take the place of `inner_lr`, and one optimiser alone has a momentum."""
        idle = {"inner_lr": "this run has learned its inner learning rates"} if self.learned_inner_lr else {}
        if self.inner_optimizer != "momentum":
            idle["inner_momentum"] = f"algorithm.inner_optimizer is {self.inner_optimizer}"
        return idle


def maml(config: MamlConfig, bench: Bench) -> Method:
    """Build MAML, of all weights or some, with rates that are fixed or learned, and an inner optimiser.

    Raises:
        UsageError: If the model has no part that is meant to adapt.
    """
    from mamlcli.methods.meta_gradients import unrolled
    from mamlcli.methods.method import Descent, Method

    kind, steps, order = config.learned_inner_lr, config.inner_steps, config.order
    plain = kind is None and config.adapts == "all" and config.inner_optimizer == "sgd"
    inner = _inner_loop(config, bench)
    return Method(
        title=_title(config),
        init=partial(_init, config, bench),
        inner=inner,
        meta_gradient=unrolled(inner, bench.loss_fn, inner_steps=steps, order=order),
        inner_steps=steps,
        num_params=bench.model.num_params,
        num_learned=sum(rate.numel() for rate in _init_rates(config, bench, bench.model.init(0), 0).values())
        if kind
        else 0,
        order=order,
        unrolled_steps=steps,
        descent=Descent(config.inner_lr, steps, order) if plain else None,
        footprint=partial(_footprint, config),
        proofs=partial(_proofs, config, bench),
        panels=partial(_panels, kind) if kind else lambda _: [],
    )


def _inner_loop(config: MamlConfig, bench: Bench) -> InnerLoop:
    from mamlcli.methods.inner_loops import gradient_descent

    return gradient_descent(
        bench.loss_fn, _rate(config), adapts=_adapts(config, bench.model), optimizer=_optimizer(config)
    )


def _rate(config: MamlConfig) -> Rate:
    from mamlcli.methods.inner_loops import constant_rate, learned_rate

    kind = config.learned_inner_lr
    return learned_rate(kind) if kind else constant_rate(config.inner_lr)


def _optimizer(config: MamlConfig) -> InnerOptimizer:
    from mamlcli.methods.inner_optimizers import SGD, adam, momentum

    return {"sgd": SGD, "momentum": momentum(config.inner_momentum), "adam": adam()}[config.inner_optimizer]


def _adapts(config: MamlConfig, model: Model) -> Callable[[str], bool]:
    """Which weights adapt.

    ANIL adapts the head alone (Raghu et al. 2020, arXiv:1909.09157); BOIL the body alone (Oh et al. 2021,
    arXiv:2008.08882).
    """
    if config.adapts == "all":
        return lambda _: True
    if not model.head or (config.adapts == "body" and len(model.head) == model.num_tensors):
        raise UsageError(
            f"algorithm.adapts: {config.adapts}: this model has no {config.adapts} apart from its other layers; use "
            "algorithm.adapts: all, or a model with a hidden layer"
        )
    return partial(_is_in, model.head) if config.adapts == "head" else lambda name: name not in model.head


def _is_in(names: tuple[str, ...], name: str) -> bool:
    return name in names


_PARTS = {"all": "MAML", "head": "ANIL", "body": "BOIL"}
_RATES = {
    None: "",
    "tensor": ", a learned rate per tensor",
    "tensor_and_step": ", a learned rate per tensor and step",
    "parameter": ", a learned rate per parameter",
}


def _title(config: MamlConfig) -> str:
    """What it is called; without a step there is no inner gradient, and so no order."""
    if config.inner_steps == 0:
        return "MAML without inner steps"
    what = _PARTS[config.adapts] + _RATES[config.learned_inner_lr]
    if config.learned_inner_lr == "parameter" and config.adapts == "all":
        what = "Meta-SGD"
    optimizer = {"sgd": "", "momentum": ", inner momentum", "adam": ", inner Adam"}[config.inner_optimizer]
    return f"{config.order}-order {what}{optimizer}"


def _footprint(config: MamlConfig, support_shots: int, query_shots: int) -> Footprint:
    """Rates that are learned keep the gradients that they were multiplied with; optimisers keep what they remember."""
    from mamlcli.methods.method import descent_footprint

    steps, order = config.inner_steps, config.order
    held = descent_footprint(steps, order, support_shots, query_shots)
    if config.learned_inner_lr is not None:
        held = held._replace(weights=3.0 + steps * (2 if order == "second" else 1))
    remembered = {"sgd": 0.0, "momentum": 1.0, "adam": 6.0}[config.inner_optimizer]
    return held._replace(weights=held.weights + remembered * (1 + steps * (order == "second")))


def _proofs(config: MamlConfig, bench: Bench, case: Case) -> list[Check]:
    import torch

    from mamlcli.methods.inner_loops import gradient_descent, init_rates
    from mamlcli.methods.meta_gradients import unrolled
    from mamlcli.methods.method import textbook_loss
    from mamlcli.proofs.descent import descent_checks, loop_checks
    from mamlcli.proofs.reference import Textbook, rates_of, textbook_optimizer

    kind, alpha, steps = config.learned_inner_lr, config.inner_lr, config.inner_steps
    adapts = _adapts(config, bench.model)
    textbook = Textbook(
        textbook_loss(bench),
        rates_of(kind, alpha, adapts),
        steps,
        textbook_optimizer(config.inner_optimizer, config.inner_momentum),
    )

    def on_quadratic(loss_fn: LossFn[Samples], order: Order) -> MetaGradient:
        """The plain meta-gradient for another loss; rates that are learned are all alpha, not as float32 has it."""
        plain = unrolled(gradient_descent(loss_fn, _rate(config)), loss_fn, inner_steps=steps, order=order)

        def gradient(theta: Params, tasks: Task) -> tuple[Params, Log]:
            one = {name: value[0] for name, value in theta.items()}
            drawn = init_rates(one, kind, interval=(alpha, alpha), inner_steps=steps, seed=0) if kind else {}
            same = {name: torch.full((1, *rate.shape), alpha, dtype=torch.float64) for name, rate in drawn.items()}
            return plain(theta | same, tasks)

        return gradient

    if config.inner_optimizer == "sgd":
        return descent_checks(textbook, on_quadratic, alpha, case)
    return loop_checks(textbook, case) + ([] if kind else [_optimizer_check(config, bench, textbook, case)])


def _optimizer_check(config: MamlConfig, bench: Bench, textbook: Textbook, case: Case) -> Check:
    import torch

    from mamlcli.methods.inner_loops import constant
    from mamlcli.methods.meta_gradients import adapted
    from mamlcli.proofs.descent import optimizer_check

    adapts = _adapts(config, bench.model)

    def by(inner: InnerLoop) -> Callable[[Params, Samples], Params]:
        def moved(params: Params, support: Samples) -> Params:
            found = adapted(inner, params, support, inner_steps=config.inner_steps, gradient=constant)[""]
            return {name: value for name, value in found.items() if adapts(name)}

        return moved

    def made(tensors: list[torch.Tensor]) -> torch.optim.Optimizer:
        if config.inner_optimizer == "adam":
            return torch.optim.Adam(tensors, lr=config.inner_lr)
        return torch.optim.SGD(tensors, lr=config.inner_lr, momentum=config.inner_momentum)

    plain = config.model_copy(update={"inner_optimizer": "sgd"})
    return optimizer_check(textbook, made, by(_inner_loop(config, bench)), by(_inner_loop(plain, bench)), case)


def _init(config: MamlConfig, bench: Bench, seed: int) -> Params:
    theta = bench.model.init(seed)
    return theta | _init_rates(config, bench, theta, seed)


def _init_rates(config: MamlConfig, bench: Bench, theta: Params, seed: int) -> Params:
    """The rates of what adapts, where they are learned."""
    from mamlcli.methods.inner_loops import init_rates

    kind, steps, adapts = config.learned_inner_lr, config.inner_steps, _adapts(config, bench.model)
    if kind is None:
        return {}
    interval = config.inner_lr_init or (config.inner_lr, config.inner_lr)
    moving = {name: value for name, value in theta.items() if adapts(name)}
    return init_rates(moving, kind, interval=interval, inner_steps=steps, seed=seed)


def _panels(kind: str, trained: Trained) -> list[Panel]:
    """The learned inner learning rates as they are at the end."""
    import numpy as np

    from mamlcli.methods.inner_loops import RATES
    from mamlcli.methods.method import Panel

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
