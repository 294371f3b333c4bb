"""Model-agnostic meta-learning, first and second order (Finn et al. 2017, arXiv:1703.03400).

All weights adapt by gradient descent, with one constant rate or with rates that are learned beside them; the
meta-gradient is found through the steps as they were taken.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import model_validator

from mamlcli.section import CountOrZero, Interval, NonNegative, OrderedSection

if TYPE_CHECKING:
    from mamlcli.methods.method import Bench, Footprint, Log, MetaGradient, Method, Panel, Trained
    from mamlcli.proofs.checks import Case, Check
    from mamlcli.tasks.samples import Samples, Task
    from mamlcli.types import LossFn, Order, Params


class MamlConfig(OrderedSection):
    """MAML: learns an initialisation from which a few gradient steps solve a new task."""

    test_keys: ClassVar[tuple[str, ...]] = ("inner_lr",)
    row_keys: ClassVar[tuple[str, ...]] = ("inner_lr", "inner_lr_init")

    name: Literal["maml"] = "maml"
    """The method. `maml` learns an initialisation to adapt from; `joint` trains one model on all samples of all tasks,
    without adaptation, and is the baseline; `chain` adapts a teacher on weighted support samples and a student on what
    the teacher says, and learns both initialisations and the weights from the student's loss."""
    inner_steps: CountOrZero = 1
    """Gradient steps of adaptation in meta-training."""
    inner_lr: NonNegative = 0.01
    """alpha: the step size of adaptation, in meta-training and at test time."""
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
        """Learned rates take the place of `inner_lr`."""
        return {"inner_lr": "this run has learned its inner learning rates"} if self.learned_inner_lr else {}


def maml(config: MamlConfig, bench: Bench) -> Method:
    """Build MAML, with rates that are fixed or learned."""
    from mamlcli.methods.inner_loops import constant_rate, gradient_descent, learned_rate
    from mamlcli.methods.meta_gradients import unrolled
    from mamlcli.methods.method import Descent, Method

    kind, steps, order = config.learned_inner_lr, config.inner_steps, config.order
    inner = gradient_descent(bench.loss_fn, learned_rate(kind) if kind else constant_rate(config.inner_lr))
    tensors = bench.model.num_tensors
    rates = {"tensor": tensors, "tensor_and_step": tensors * steps, "parameter": bench.model.num_params}
    return Method(
        title=_title(config),
        init=partial(_init, config, bench),
        inner=inner,
        meta_gradient=unrolled(inner, bench.loss_fn, inner_steps=steps, order=order),
        inner_steps=steps,
        num_params=bench.model.num_params,
        num_learned=rates[kind] if kind else 0,
        order=order,
        unrolled_steps=steps,
        descent=None if kind else Descent(config.inner_lr, steps, order),
        footprint=partial(_footprint, config),
        proofs=partial(_proofs, config, bench),
        panels=partial(_panels, kind) if kind else lambda _: [],
    )


def _title(config: MamlConfig) -> str:
    """What it is called; without a step there is no inner gradient, and so no order."""
    if config.inner_steps == 0:
        return "MAML without inner steps"
    what = {
        None: "MAML",
        "tensor": "MAML, a learned rate per tensor",
        "tensor_and_step": "MAML, a learned rate per tensor and step",
        "parameter": "Meta-SGD",
    }
    return f"{config.order}-order {what[config.learned_inner_lr]}"


def _footprint(config: MamlConfig, support_shots: int, query_shots: int) -> Footprint:
    """Rates that are learned keep the gradients that they were multiplied with."""
    from mamlcli.methods.method import descent_footprint

    steps, order = config.inner_steps, config.order
    held = descent_footprint(steps, order, support_shots, query_shots)
    if config.learned_inner_lr is None:
        return held
    return held._replace(weights=3.0 + steps * (2 if order == "second" else 1))


def _proofs(config: MamlConfig, bench: Bench, case: Case) -> list[Check]:
    import torch

    from mamlcli.methods.inner_loops import constant_rate, gradient_descent, init_rates, learned_rate
    from mamlcli.methods.meta_gradients import unrolled
    from mamlcli.methods.method import textbook_loss
    from mamlcli.proofs.descent import descent_checks
    from mamlcli.proofs.reference import rates_of

    kind, alpha, steps = config.learned_inner_lr, config.inner_lr, config.inner_steps

    def on_quadratic(loss_fn: LossFn[Samples], order: Order) -> MetaGradient:
        """The plain meta-gradient for another loss; rates that are learned are all alpha, not as float32 has it."""
        inner = gradient_descent(loss_fn, learned_rate(kind) if kind else constant_rate(alpha))
        plain = unrolled(inner, loss_fn, inner_steps=steps, order=order)

        def gradient(theta: Params, tasks: Task) -> tuple[Params, Log]:
            one = {name: value[0] for name, value in theta.items()}
            drawn = init_rates(one, kind, interval=(alpha, alpha), inner_steps=steps, seed=0) if kind else {}
            same = {name: torch.full((1, *rate.shape), alpha, dtype=torch.float64) for name, rate in drawn.items()}
            return plain(theta | same, tasks)

        return gradient

    return descent_checks(textbook_loss(bench), rates_of(kind, alpha), on_quadratic, alpha, steps, case)


def _init(config: MamlConfig, bench: Bench, seed: int) -> Params:
    theta = bench.model.init(seed)
    if config.learned_inner_lr is None:
        return theta
    from mamlcli.methods.inner_loops import init_rates

    interval = config.inner_lr_init or (config.inner_lr, config.inner_lr)
    kind, steps = config.learned_inner_lr, config.inner_steps
    return theta | init_rates(theta, kind, interval=interval, inner_steps=steps, seed=seed)


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
