"""Model-agnostic meta-learning, first and second order (Finn et al. 2017, arXiv:1703.03400).

All weights adapt by gradient descent, or those of the head or the body alone, with one constant rate or with rates that
are learned beside them, along the gradient or where a learned map and an optimiser turn it; the meta-gradient is found
through the steps as they were taken, of the loss after the last of them, or at first of the losses after each.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import model_validator

from mamlcli.errors import UsageError
from mamlcli.section import (
    Adapts,
    Count,
    CountOrZero,
    Decay,
    InnerRule,
    Interval,
    NonNegative,
    OrderedSection,
    RateKind,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mamlcli.methods.course import Course
    from mamlcli.methods.inner_loops import InnerMap, Rate
    from mamlcli.methods.method import Bench, Footprint, InnerLoop, Method
    from mamlcli.models.model import Model
    from mamlcli.types import Params, Shapes


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
    adapts: Adapts = "all"
    """What of the model adapts to a task: `all` weights; the `head` alone, its last layer (ANIL); or the `body` alone,
    all but that (BOIL). What does not adapt is learned all the same."""
    inner_optimizer: InnerRule = "sgd"
    """What turns inner gradients into steps: the optimisers of torch.optim, begun anew with each task. Second order
    sees through them."""
    inner_momentum: Decay = 0.9
    """How much of the last step's direction `momentum` keeps."""
    learned_inner_lr: RateKind | None = None
    """Learn the step sizes too, one for each tensor, for each tensor and step, or for each parameter (Meta-SGD). A step
    beyond those of training takes the rates of the last one."""
    inner_lr_init: Interval | None = None
    """Learned step sizes start uniform in [low, high]; null: all start at `inner_lr`."""
    preconditioner: Literal["meta_curvature", "t_net", "diagonal"] | None = None
    """Learn a map that inner gradients pass, which starts as the identity: a matrix for each side of each tensor
    (`meta_curvature`); T T^T with a matrix T for each layer (`t_net`); the same with a diagonal T, a number for each
    output of a layer (`diagonal`, an MT-net without its masks)."""
    per_step_losses: Count | None = None
    """n: the meta-loss weighs the query losses after every inner step, all alike at first, and from there in a straight
    line to the last one alone after n meta-updates (MAML++); null: the last one alone from the start."""
    first_order_steps: CountOrZero = 0
    """The first so many meta-updates are of first order, and the others of `order` (MAML++)."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.learned_inner_lr is None and self.inner_lr_init is not None:
            raise ValueError("inner_lr_init needs learned_inner_lr: tensor, tensor_and_step or parameter")
        if self.learned_inner_lr is not None and self.inner_steps == 0:
            raise ValueError("learned_inner_lr needs inner_steps of at least 1: nothing else learns them")
        if self.preconditioner is not None and self.inner_steps == 0:
            raise ValueError("preconditioner needs inner_steps of at least 1: nothing else learns it")
        if self.first_order_steps and self.inner_steps == 0:
            raise ValueError("first_order_steps needs inner_steps of at least 1: without a step there is no order")
        if self.per_step_losses is not None and self.inner_steps < 2:
            raise ValueError("per_step_losses needs inner_steps of at least 2: after one step there is but one loss")
        return self

    def without_effect(self) -> dict[str, str]:
        """Learned rates take the place of `inner_lr`, and one optimiser alone has a momentum."""
        idle = {"inner_lr": "this run has learned its inner learning rates"} if self.learned_inner_lr else {}
        if self.inner_optimizer != "momentum":
            idle["inner_momentum"] = f"algorithm.inner_optimizer is {self.inner_optimizer}"
        return idle


def maml(config: MamlConfig, bench: Bench) -> Method:
    """Build MAML: of all weights or some, along mapped gradients or plain ones, with what else its config says.

    Raises:
        UsageError: If the model has no part that is meant to adapt.
    """
    from mamlcli.methods.inner_loops import rate_panels
    from mamlcli.methods.maml_proofs import maml_checks
    from mamlcli.methods.meta_gradients import unrolled
    from mamlcli.methods.method import Descent, Method
    from mamlcli.methods.per_step_losses import planned_phases

    kind, steps, order = config.learned_inner_lr, config.inner_steps, config.order
    inner = inner_loop(config, bench)
    phases = planned_phases(inner, bench.loss_fn, course_of(config), inner_steps=steps)
    is_descent = (config.inner_optimizer, config.preconditioner) == ("sgd", None)
    return Method(
        title=_title(config),
        init=partial(_init, config, bench),
        inner=inner,
        meta_gradient=unrolled(inner, bench.loss_fn, inner_steps=steps, order=order),
        inner_steps=steps,
        num_params=bench.model.num_params,
        num_learned=sum(_learned_beside(config, bench.model)),
        order=order,
        phases=phases,
        unrolled_steps=steps,
        descent=Descent(config.inner_lr, steps, course_of(config), kind, config.adapts) if is_descent else None,
        footprint=partial(_footprint, config, bench),
        proofs=partial(maml_checks, config, bench),
        panels=partial(rate_panels, kind) if kind else lambda _: [],
    )


def inner_loop(config: MamlConfig, bench: Bench) -> InnerLoop:
    """What adapts, and how."""
    from mamlcli.methods.inner_loops import gradient_descent
    from mamlcli.methods.inner_optimizers import inner_optimizer

    return gradient_descent(
        bench.loss_fn,
        rate_of(config),
        adapts=adapting(config, bench.model),
        inner_map=_inner_map(config),
        optimizer=inner_optimizer(config.inner_optimizer, config.inner_momentum),
    )


def course_of(config: MamlConfig) -> Course:
    """What of the meta-gradient changes along a training."""
    from mamlcli.methods.course import Course

    return Course(config.order, config.first_order_steps, config.per_step_losses)


def rate_of(config: MamlConfig) -> Rate:
    """What multiplies a direction."""
    from mamlcli.methods.inner_loops import constant_rate, learned_rate

    kind = config.learned_inner_lr
    return learned_rate(kind) if kind else constant_rate(config.inner_lr)


def _inner_map(config: MamlConfig) -> InnerMap:
    from mamlcli.methods.inner_maps import learned_map

    return learned_map(config.preconditioner) if config.preconditioner else lambda _, grads: grads


def adapting(config: MamlConfig, model: Model) -> Callable[[str], bool]:
    """Which weights adapt, by name.

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
    return lambda name: (name in model.head) == (config.adapts == "head")


_PARTS = {"all": "MAML", "head": "ANIL", "body": "BOIL"}
_MAPS = {"meta_curvature": "Meta-Curvature", "t_net": "T-net", "diagonal": "diagonal MT-net"}
_RATES = {
    "tensor": "a learned rate per tensor",
    "tensor_and_step": "a learned rate per tensor and step",
    "parameter": "a learned rate per parameter",
}


def _title(config: MamlConfig) -> str:
    """What it is called; without a step there is no inner gradient, and so no order."""
    from mamlcli.methods.inner_optimizers import IN_TITLES

    if config.inner_steps == 0:
        return "MAML without inner steps"
    rate, preconditioner, losses, begins = (
        config.learned_inner_lr,
        config.preconditioner,
        config.per_step_losses,
        config.first_order_steps if config.order == "second" else 0,
    )
    what, said = _PARTS[config.adapts], []
    if config.adapts == "all" and preconditioner:
        what, preconditioner = _MAPS[preconditioner], None
    elif config.adapts == "all" and rate == "parameter":
        what, rate = "Meta-SGD", None
    elif config.adapts == "all" and rate == "tensor_and_step" and losses and begins:
        what, rate, losses, begins = "MAML++", None, None, 0
    said += [_RATES[rate]] if rate else []
    said += [_MAPS[preconditioner]] if preconditioner else []
    said += IN_TITLES[config.inner_optimizer]
    said += ["per-step losses"] if losses else []
    said += ["a first-order start"] if begins else []
    return ", ".join([f"{config.order}-order {what}", *said])


def _footprint(config: MamlConfig, bench: Bench, support_shots: int, query_shots: int) -> Footprint:
    """Beside what descent holds: gradients before a rate, a map or an optimiser, and the losses after each step."""
    from mamlcli.methods.method import Footprint, descent_footprint

    steps, order = config.inner_steps, config.order
    weights, samples = descent_footprint(steps, order, support_shots, query_shots)
    # A first-order step is forgotten once it is made.
    kept = steps if order == "second" else 1
    if config.learned_inner_lr is not None:
        weights = 3.0 + steps * (2 if order == "second" else 1)
    weights += {"sgd": 0.0, "momentum": 1.0, "adam": 6.0}[config.inner_optimizer] * (1 + steps * (order == "second"))
    maps = _learned_beside(config, bench.model)[1]
    if maps:
        weights += (1.0 + 0.8 * maps / bench.model.num_params) * kept
    if config.per_step_losses is not None:
        weights += 0.7 * (steps - kept)
        samples += 1.1 * (steps - 1) * query_shots
    if config.adapts == "all":
        return Footprint(weights, samples)
    part = _numbers(bench.model.shapes_of(adapting(config, bench.model))) / bench.model.num_params
    # Features that do not adapt have no inner gradient.
    return Footprint(weights * part + 0.3 * (1 - part), samples * (0.65 if config.adapts == "head" else 1.0))


def _learned_beside(config: MamlConfig, model: Model) -> tuple[int, int]:
    """Numbers that are learned beside the weights of one seed, in rates and in maps; nothing is allocated."""
    from mamlcli.methods.inner_loops import rate_shapes
    from mamlcli.methods.inner_maps import map_shapes

    kind, preconditioner = config.learned_inner_lr, config.preconditioner
    shapes = model.shapes_of(adapting(config, model)) if kind or preconditioner else {}
    return (
        _numbers(rate_shapes(shapes, kind, config.inner_steps)) if kind else 0,
        _numbers(map_shapes(shapes, preconditioner)) if preconditioner else 0,
    )


def _numbers(shapes: Shapes) -> int:
    return sum(prod(shape) for shape in shapes.values())


def _init(config: MamlConfig, bench: Bench, seed: int) -> Params:
    """The weights, and what is learned beside them: the rates and the maps of what adapts."""
    from mamlcli.methods.inner_loops import init_rates
    from mamlcli.methods.inner_maps import init_maps

    kind, steps, adapts = config.learned_inner_lr, config.inner_steps, adapting(config, bench.model)
    theta = bench.model.init(seed)
    moving = {name: value for name, value in theta.items() if adapts(name)}
    interval = config.inner_lr_init or (config.inner_lr, config.inner_lr)
    rates = init_rates(moving, kind, interval=interval, inner_steps=steps, seed=seed) if kind else {}
    shapes = {name: tuple(value.shape) for name, value in moving.items()}
    return theta | rates | (init_maps(shapes, config.preconditioner) if config.preconditioner else {})
