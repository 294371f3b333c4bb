"""A method as a value: what adapts and by which rule (`InnerLoop`), and how the meta-gradient through it is found.

The two are apart, so that methods are combinations: an inner loop asks for the gradients that it steps along, and
whoever runs it says how they are found, as something to differentiate through or as constants.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from mamlcli.methods.course import Course
from mamlcli.models.model import Model
from mamlcli.plain import Learned as Learned
from mamlcli.proofs.checks import Case, Check
from mamlcli.section import Adapts, RateKind
from mamlcli.tasks.family import TaskFamily
from mamlcli.tasks.samples import PRESENT_SQUARED_ERROR, SQUARED_ERROR, Samples, Task
from mamlcli.types import Data, LossFn, Order, Params, Row

Log: TypeAlias = dict[str, Tensor]
"""Named values of each seed, shape (S,). `post_adapt_loss` is always among them, and `meta_loss` where the gradient is
not of that but of another loss."""

MetaGradient: TypeAlias = Callable[[Params, Task], tuple[Params, Log]]
"""Maps (name -> (S, ...), tasks (S, B, ...)) to gradients like the parameters, and a log."""

Gradient: TypeAlias = Callable[[LossFn[Data], Params, Data], Params]
"""Maps a loss, parameters and data to the gradient: see `through` and `constant` in `mamlcli.methods.inner_loops`."""

State: TypeAlias = Any
"""What an inner loop has adapted so far: any pytree of tensors."""


class InnerLoop(NamedTuple):
    """What adapts to a task, and by which rule. Pure functions of one seed and one task."""

    start: Callable[[Params], State]
    """Meta-parameters to the state in which nothing is adapted yet."""
    step: Callable[[Params, State, Samples, int, Gradient[Any]], State]
    """One inner step: (meta-parameters, state, support, the step's number from 0, gradient) to the next state."""
    predictors: Callable[[Params, State, Samples, int, Gradient[Any]], Mapping[str, Params]]
    """(meta-parameters, state, support, steps made, gradient) to the parameters of what predicts now, by name. The
    first is what a run is measured by."""


class Bench(NamedTuple):
    """What a method is built on."""

    family: TaskFamily
    model: Model
    support_shots: int
    """K, in meta-training."""
    loss_fn: LossFn[Samples]
    """The family's loss of the model: maps (the model's parameters, samples) to a scalar."""
    errors: Callable[[Params, Samples], Tensor]
    """The same of each sample, shape (n,)."""


class Descent(NamedTuple):
    """What backends know to compute in ways of their own: MAML whose inner steps are gradients by rates."""

    inner_lr: float | Tensor
    """Of all seeds; or of each, shape (S,), where runs of several rates are trained side by side."""
    inner_steps: int
    course: Course
    """Of which order the meta-gradient is, and of which losses, along the training."""
    rates: RateKind | None = None
    """What has a rate that is learned, in place of `inner_lr`."""
    adapts: Adapts = "all"
    """Which layers do: all, the last (`head`), or all but that (`body`)."""
    on_all_samples: bool = False
    """Whether the meta-loss is that of support and query samples together, as where nothing adapts."""

    @property
    def is_plain(self) -> bool:
        """Whether all weights adapt with one constant rate, and the meta-gradient is the same along the training."""
        is_the_same = self.course.turns() == [0]
        return is_the_same and (self.rates, self.adapts, self.on_all_samples) == (None, "all", False)


class Footprint(NamedTuple):
    """What differentiating one task holds at its peak, for the estimate of memory."""

    weights: float
    """As so many times the method's `num_params`: adapted weights, and derivatives in them."""
    samples: float
    """Activations of so many samples, at all units of the model."""


class Phase(NamedTuple):
    """A stretch of training with a meta-gradient of its own."""

    begins: int
    """After so many meta-updates."""
    meta_gradient: Callable[[Tensor], MetaGradient]
    """Maps the number of meta-updates made, a scalar that changes in place, to the meta-gradient. It reads it at each
    call: a number would become part of a compiled graph."""


class Panel(NamedTuple):
    """A figure of a method's own."""

    stem: str
    """Of the file's name."""
    what: str
    """For its title."""
    figure: str | Callable[..., Any]
    """A name in `figures.by_name.FIGURES`; or what maps (rows, title=...) to a matplotlib figure."""
    rows: Sequence[Row]
    labels: Mapping[str, Any] = {}
    """What else the figure is told, as keywords; plain values."""
    said: str = ""
    """What it shows, in a sentence or two, for where it is not drawn."""


class Trained(NamedTuple):
    """What a training leaves, for figures and words."""

    begun: Params
    """Meta-parameters before the first step, name -> (S, ...)."""
    params: Params
    """And after the last."""
    metrics: Sequence[Row]


class Method(NamedTuple):
    """A way to learn from many tasks what a new one is adapted from."""

    title: str
    """What it is called in tables and figures, like "second-order MAML"."""
    init: Callable[[int], Params]
    """Maps a seed to its initial meta-parameters: the model's, and whatever else is learned."""
    inner: InnerLoop
    meta_gradient: MetaGradient
    """Of the last phase's end, where there are several."""
    inner_steps: int
    """Steps of adaptation in meta-training."""
    num_params: int
    """Numbers in the meta-parameters of one seed that a task adapts a copy of."""
    num_learned: int = 0
    """Numbers of one seed that are learned beside those, like step sizes."""
    order: Order | None = None
    """None where there is no inner gradient to differentiate through, or but one way to do so."""
    phases: tuple[Phase, ...] = ()
    """Where the meta-gradient changes along the training: the first begins with it. None where it is the same."""
    no_slope: str | None = None
    """Why the meta-gradient is not the slope of a loss that could be measured, in a sentence; None where it is."""
    unrolled_steps: int = 0
    """Inner steps of one task that a compiler sees one after the other."""
    descent: Descent | None = None
    """Where it is plain gradient descent."""
    holds_copies: bool = True
    """Whether a task holds adapted weights of its own in meta-training, and not activations alone."""
    holds_path: bool = True
    """Whether a task holds what its inner steps were computed from until it is differentiated, and not the newest
    alone."""
    footprint: Callable[[int, int], Footprint] | None = None
    """(support shots, query shots) to what a task holds; None where that is about what second-order MAML of as many
    steps does, or first-order MAML where that is the order."""
    unlabelled_inputs: int = 0
    """U: inputs without a target that it wants of every task."""
    numbered_tasks: bool = False
    """Whether it wants to know which task of its pool each task of meta-training is; see `tasks.family.Request`."""
    logged: tuple[str, ...] = ()
    """Meta-parameters that stand in every row of the metrics."""
    parts: Mapping[str, str] = {}
    """What of the meta-parameters is spoken of by itself: words to the prefix of its names."""
    proofs: Callable[[Case], list[Check]] = lambda _: []
    """What `check-grads` shows of it beyond finite differences."""
    asides: Callable[[Case], Row | None] = lambda _: None
    """What `check-grads` reports of it that can neither hold nor fail; None for nothing."""
    proof_panels: Callable[[Case], list[Panel]] = lambda _: []
    """Figures of what `check-grads` finds of it that can neither hold nor fail, like how an error falls."""
    panels: Callable[[Trained], list[Panel]] = lambda _: []
    """Figures of its own, drawn when a training ends."""
    learned: Callable[[Params, Sequence[int]], Learned | None] = lambda *_: None
    """(meta-parameters, seeds) to what an evaluation says of them; None for nothing."""
    taught: Callable[[Params, Samples, int], Mapping[str, tuple[str, Samples]]] = lambda *_: {}
    """(meta-parameters of one seed, support, steps) to points worth drawing beside a predictor: its name to a label and
    the points."""


def phases_of(method: Method) -> tuple[Phase, ...]:
    """The stretches of a training, at least one."""
    return method.phases or (Phase(0, lambda _: method.meta_gradient),)


def phase_at(method: Method, made: int) -> Phase:
    """The stretch of the training that the next meta-update is of, after so many."""
    return [phase for phase in phases_of(method) if phase.begins <= made][-1]


def gradient_at(method: Method, made: int) -> MetaGradient:
    """The meta-gradient of the next meta-update, after so many."""
    return phase_at(method, made).meta_gradient(torch.tensor(made))


def descent_footprint(inner_steps: int, order: Order, support_shots: int, query_shots: int) -> Footprint:
    """What a task of MAML with a constant rate holds; the factors are measured."""
    if inner_steps == 0:
        return Footprint(0.0, 2.0 * query_shots)
    if order == "first":
        return Footprint(2.0 + min(inner_steps, 2), max(2.6 * support_shots, 2.0 * query_shots))
    return Footprint(2.0 + inner_steps, 1.6 * inner_steps * support_shots + 2 * max(support_shots, query_shots))


def textbook_loss(bench: Bench) -> LossFn[Samples]:
    """The loss of the bench written apart from the code under test, as far as the model can be."""
    predict = bench.model.reference() if bench.model.reference else bench.model.predict

    def loss_fn(params: Params, samples: Samples) -> Tensor:
        predictions = predict(params, samples.x)
        if bench.family.loss is SQUARED_ERROR:
            # Not mse_loss, whose double backward has no forward-mode derivative in torch 2.13.
            return torch.mean((predictions - samples.y) ** 2)
        if bench.family.loss is PRESENT_SQUARED_ERROR:
            there = (samples.y == samples.y).to(samples.y.dtype)
            return torch.sum(there * (predictions - torch.nan_to_num(samples.y)) ** 2) / torch.sum(there)
        return bench.family.loss.mean(predictions, samples.y)

    return loss_fn


def make_bench(family: TaskFamily, model: Model, support_shots: int) -> Bench:
    """Put together what a method is built on."""

    def loss_fn(params: Params, samples: Samples) -> Tensor:
        return family.loss.mean(model.predict(params, samples.x), samples.y)

    def errors(params: Params, samples: Samples) -> Tensor:
        return family.loss.each(model.predict(params, samples.x), samples.y)

    return Bench(family, model, support_shots, loss_fn, errors)
