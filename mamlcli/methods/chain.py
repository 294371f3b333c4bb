"""A vector learned through the training of two models: a weight for each slot of the support set.

A teacher adapts on the weighted errors of the support slots; a student adapts on what the teacher says of inputs
without a target; the student's loss on the query samples is the meta-loss. It is gradient descent twice. With e_k the
error of slot k, A its weight, theta the teacher and phi the student,

    theta' = theta - alpha d/dtheta (1/K) sum_k A_k e_k(theta)           (repeated)
    phi'   = phi - alpha d/dphi L(phi; U inputs, targets f(theta'))      (repeated)
    dM/dA  = -alpha v^T J for one step, with v = dM/dtheta' and J = d^2 / dtheta dA of (1/K) sum_k A_k e_k(theta).

The sum is divided by K, so that a teacher whose slots all count 1 adapts as MAML does.

A reaches the meta-loss M only through inner gradients, and so does the teacher: in first order, which takes them as
constants, neither has a gradient.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mamlcli.section import Count, OrderedSection, Positive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from mamlcli.methods.method import Bench, Footprint, Gradient, InnerLoop, Learned, Method, Panel, Trained
    from mamlcli.proofs.checks import Case, Check
    from mamlcli.tasks.samples import Samples
    from mamlcli.types import Params, Row

TEACHER, STUDENT, SLOT_WEIGHTS = "teacher.", "student.", "slot_weights"

# Teacher and student of a seed are drawn from generators of their own. A CPU generator of torch reads the low 32 bits
# of its seed alone.
_STUDENT_SEEDS = 0x5EED_C41D


class ChainConfig(OrderedSection):
    """A chain of two models: a teacher adapts on weighted support samples, a student on what the teacher says."""

    test_keys: ClassVar[tuple[str, ...]] = ("inner_lr",)

    name: Literal["chain"] = "chain"
    """The method."""
    inner_steps: Count = 1
    """Gradient steps of adaptation of each model in meta-training."""
    inner_lr: Positive = 0.01
    """alpha: the step size of adaptation of both models, in meta-training and at test time."""
    unlabelled_inputs: Count = 20
    """U: inputs of a task that the teacher labels for its student."""
    learn_slot_weights: bool = True
    """Whether A, the weights of the support slots, are learned; they start at 1, and stay there if not."""

    def misfit(self, support_shots: int, test_shots: tuple[int, ...]) -> str | None:
        """A chain is tested as it was trained."""
        if test_shots == (support_shots,):
            return None
        return (
            f"a chain has one weight for each of its support slots, so it is tested with as many: set "
            f"evaluation.shots: [{support_shots}], got {list(test_shots)}"
        )


def chain(config: ChainConfig, bench: Bench) -> Method:
    """Build a chain of two models of the same kind."""
    from mamlcli.methods.meta_gradients import unrolled
    from mamlcli.methods.method import Method

    inner = chain_loop(bench, config.inner_lr)
    return Method(
        title=f"{config.order}-order chain",
        init=partial(_init, config, bench),
        inner=inner,
        meta_gradient=unrolled(inner, mean_error(bench), inner_steps=config.inner_steps, order=config.order),
        inner_steps=config.inner_steps,
        num_params=2 * bench.model.num_params,
        num_learned=bench.support_shots if config.learn_slot_weights else 0,
        order=config.order,
        unrolled_steps=2 * config.inner_steps,
        footprint=partial(_footprint, config),
        unlabelled_inputs=config.unlabelled_inputs,
        logged=(SLOT_WEIGHTS,) if config.learn_slot_weights else (),
        parts={"the weights A of the support slots": SLOT_WEIGHTS, "the teacher": TEACHER, "the student": STUDENT},
        proofs=partial(_proofs, config, bench),
        asides=partial(_aside, config, bench),
        panels=partial(_panels, config, bench) if config.learn_slot_weights else lambda _: [],
        learned=partial(_learned, bench),
        taught=partial(_taught, config, bench),
    )


def _footprint(config: ChainConfig, support_shots: int, query_shots: int) -> Footprint:
    """The factors are measured."""
    from mamlcli.methods.method import Footprint

    steps, unlabelled = config.inner_steps, config.unlabelled_inputs
    largest = max(support_shots, unlabelled, query_shots)
    if config.order == "first":
        return Footprint(min(1.0 + steps, 2.5), 3.0 * largest)
    return Footprint(1.0 + steps, 1.6 * steps * (support_shots + unlabelled) + 3 * largest)


def _init(config: ChainConfig, bench: Bench, seed: int) -> Params:
    """`teacher.<name>`, `student.<name>`, and `slot_weights` of shape (K,) where they are learned."""
    import torch

    params = _with_prefix(TEACHER, bench.model.init(seed)) | _with_prefix(
        STUDENT, bench.model.init(_STUDENT_SEEDS ^ seed)
    )
    return params | ({SLOT_WEIGHTS: torch.ones(bench.support_shots)} if config.learn_slot_weights else {})


def _with_prefix(prefix: str, params: Params) -> Params:
    return {prefix + name: value for name, value in params.items()}


def part_of(prefix: str, params: Params) -> Params:
    """The parameters of one model, under the names the model knows."""
    return {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}


def mean_error(bench: Bench) -> Callable[[Params, Samples], Tensor]:
    """The loss of one model: the mean of its errors."""
    return lambda params, samples: bench.errors(params, samples).mean()


def weighted_mean(weights: Tensor, errors: Tensor) -> Tensor:
    """(1/K) sum_k A_k e_k, of two vectors (K,): with every weight at 1 the loss that MAML adapts on."""
    assert weights.shape == errors.shape, "(K,) against (K, 1) would broadcast"
    return (weights * errors).mean()


def chain_loop(bench: Bench, inner_lr: float) -> InnerLoop:
    """The inner loop: the teacher adapts step by step, and a student makes as many steps on what it says.

    After m steps means: the teacher has made m, and then the student m on what that teacher says. The support set is K
    labelled slots, then U inputs whose targets are not read.
    """
    from mamlcli.methods.inner_loops import descend
    from mamlcli.methods.method import InnerLoop
    from mamlcli.tasks.samples import Samples

    shots, student_loss = bench.support_shots, mean_error(bench)

    def step(params: Params, teacher: Params, support: Samples, _: int, gradient: Gradient[Any]) -> Params:
        weights = params[SLOT_WEIGHTS] if SLOT_WEIGHTS in params else support.x.new_ones(shots)

        def weighted_loss(teacher: Params, slots: Samples) -> Tensor:
            return weighted_mean(weights, bench.errors(teacher, slots))

        slots = Samples(support.x[:shots], support.y[:shots])
        return descend(teacher, gradient(weighted_loss, teacher, slots), lambda _: inner_lr)

    def predictors(
        params: Params, teacher: Params, support: Samples, steps: int, gradient: Gradient[Any]
    ) -> Mapping[str, Params]:
        unlabelled = support.x[shots:]
        said = Samples(unlabelled, bench.model.predict(teacher, unlabelled))
        student = part_of(STUDENT, params)
        for _ in range(steps):
            student = descend(student, gradient(student_loss, student, said), lambda _: inner_lr)
        return {"student": student, "teacher": teacher}

    return InnerLoop(lambda params: part_of(TEACHER, params), step, predictors)


def _proofs(config: ChainConfig, bench: Bench, case: Case) -> list[Check]:
    from mamlcli.proofs.chain import chain_checks
    from mamlcli.proofs.chain_reference import ChainLoop

    predict = bench.model.reference() if bench.model.reference else bench.model.predict
    loop = ChainLoop(predict, bench.support_shots, config.inner_lr, config.inner_steps)
    return chain_checks(loop, lambda name: name == SLOT_WEIGHTS or name.startswith(TEACHER), SLOT_WEIGHTS, case)


def _aside(config: ChainConfig, bench: Bench, case: Case) -> Row | None:
    """What the usual approximation of the gradient to A costs and loses."""
    from mamlcli.methods.chain_difference import Approximation
    from mamlcli.methods.meta_gradients import meta_losses

    steps = config.inner_steps
    losses = meta_losses(chain_loop(bench, config.inner_lr), mean_error(bench), inner_steps=steps, order="second")
    return Approximation(bench, config.inner_lr, steps, losses).compare(case)


def _panels(config: ChainConfig, bench: Bench, trained: Trained) -> list[Panel]:
    """The weights of the support slots over training."""
    from mamlcli.methods.method import Panel

    rows = slot_rows(trained.metrics, bench.family.corrupted_slots)
    what = f"what {config.order} order learns of each support slot"
    return [Panel(SLOT_WEIGHTS, what, "slot-weights", rows)]


def slot_rows(metrics: Sequence[Row], corrupted_slots: int) -> list[Row]:
    """The weights of the support slots over training, from rows of the metrics: one row for each slot."""
    return [
        {
            "step": row["step"],
            "seed": row["seed"],
            "slot": slot,
            "corrupted": slot < corrupted_slots,
            "weight": weight,
        }
        for row in metrics
        for slot, weight in enumerate(row[SLOT_WEIGHTS])
    ]


def _learned(bench: Bench, params: Params, seeds: Sequence[int]) -> Learned | None:
    """The weights of the support slots of every seed; corrupted slots come first."""
    from mamlcli.methods.method import Learned

    if SLOT_WEIGHTS not in params:
        return None
    weights, count = params[SLOT_WEIGHTS].tolist(), bench.family.corrupted_slots
    rows: list[Row] = []
    for name, part in (("corrupted", slice(0, count)), ("clean", slice(count, None))):
        values = [weight for slots in weights for weight in slots[part]]
        if values:
            mean = sum(values) / len(values)
            rows.append({"slots": name, "smallest": min(values), "mean": mean, "largest": max(values)})
    by_seed = [{"seed": seed, "slots": slots} for seed, slots in zip(seeds, weights, strict=True)]
    value = {"corrupted_slots": count, "weights": by_seed}
    return Learned(SLOT_WEIGHTS, value, "weights of the support slots, over slots and seeds:", rows)


def _taught(
    config: ChainConfig, bench: Bench, params: Params, support: Samples, steps: int
) -> Mapping[str, tuple[str, Samples]]:
    """What the adapted teacher says to its student."""
    from mamlcli.methods.inner_loops import constant
    from mamlcli.methods.meta_gradients import adapted
    from mamlcli.tasks.samples import Samples

    inner, unlabelled = chain_loop(bench, config.inner_lr), support.x[bench.support_shots :]
    teacher = adapted(inner, params, support, inner_steps=steps, gradient=constant)["teacher"]
    return {"student": ("what the teacher says", Samples(unlabelled, bench.model.predict(teacher, unlabelled)))}
