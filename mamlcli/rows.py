"""Rows and parts of what commands find: plain dicts of a stated shape, as they stand in a table or a line of JSON."""

from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Field, with_config
from typing_extensions import TypedDict

from mamlcli.config.experiment import EvaluationConfig
from mamlcli.config.published import PublishedRow
from mamlcli.plain import Verdict
from mamlcli.section import Which, list_to_tuple
from mamlcli.statistics import Over

Count: TypeAlias = Annotated[int, Field(ge=0)]
Seconds: TypeAlias = Annotated[float, Field(ge=0)]
Number: TypeAlias = float | None
"""Null where a number is not finite."""
Seeds: TypeAlias = Annotated[tuple[Count, ...], BeforeValidator(list_to_tuple)]
DeviceType: TypeAlias = Literal["cpu", "cuda", "mps"]

# Of every row and result.
SHAPE = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)
# Methods may say more of themselves.
OPEN_SHAPE: ConfigDict = {**SHAPE, "extra": "allow"}


@with_config(SHAPE)
class Engine(TypedDict):
    """How it was computed."""

    device: DeviceType
    threads: Annotated[int, Field(ge=1)]
    compiled: bool
    inner_update: Literal["dense", "low_rank", "fused"]
    task_chunk: Annotated[int, Field(ge=1)]
    """Tasks differentiated at a time."""


@with_config(OPEN_SHAPE)
class MetricsRow(TypedDict):
    """A seed at a logged step, as in metrics.jsonl."""

    step: Annotated[int, Field(ge=1)]
    seed: Count
    pre_adapt_loss: Number
    post_adapt_loss: Number
    grad_norm: Number
    lr: float
    diverged_at_step: int | None
    """The step at which the seed was frozen."""
    meta_validation_loss: NotRequired[Number]
    """After this step, where it is measured."""
    wall_s: Seconds
    """Seconds of training so far. What a method says of itself stands beside it, like `slot_weights` of a chain."""


@with_config(SHAPE)
class EvalRow(TypedDict):
    """A seed, or all of them, at one K after some inner steps."""

    model: NotRequired[str]
    """Which predictor, where a method has several, like the student and the teacher of a chain."""
    seed: Count | Literal["all"]
    shots: Annotated[int, Field(ge=1)]
    inner_steps: Count
    mean: Number
    ci95: Number
    """Half-width of the 95% interval of the mean."""
    median: Number
    num_diverged: Count
    """Tasks whose loss is not finite or above evaluation.diverged_above."""
    interval: Over
    """What `ci95` is over."""
    diverged_at_step: int | None
    num_diverged_seeds: Count
    """Seeds behind this row that were frozen in training."""


@with_config(SHAPE)
class SeedStep(TypedDict):
    """The parameters that a seed is evaluated by."""

    seed: Count
    step: Count
    """Meta-updates behind them."""
    meta_validation_loss: Number
    """Null where it was not measured or not finite."""


@with_config(SHAPE)
class UnitRow(TypedDict):
    """What a method or a baseline scores on one target, in its own unit: errors as they are in the user's numbers."""

    who: str
    """The method, or the baseline."""
    target: str
    """The column."""
    shots: Annotated[int, Field(ge=1)]
    inner_steps: Count | None
    """Null for what makes none, like a mean."""
    mse: Number
    """Mean squared error over the query rows of a task, then over tasks."""
    ci95: Number
    """Half-width of its 95% interval."""
    rmse: Number
    """The root of `mse`."""
    rmse_low: Number
    """The root of the low end of the interval of `mse`, or 0 where that is below."""
    rmse_high: Number
    fraction: Number
    """`mse` as a fraction of the pooled mean's on the same query rows."""
    num_tasks: Count
    """Tasks with query rows that have the target."""
    num_diverged: Count
    """Of seeds and tasks: those whose loss in the model's unit is not finite or above evaluation.diverged_above."""
    difference: Number
    """`mse` less the method's on the same tasks, where both are finite; the method's is that after as many inner steps,
    or the last where there are none or 0. Null in the method's own rows."""
    difference_ci95: Number
    """Half-width of the 95% interval of the difference, paired by task."""
    verdict: Literal["better", "worse", "not told apart"] | None
    """Of the method against this baseline. Null in the method's own rows, and where there is nothing to compare."""
    note: str | None
    """Why numbers are missing, or what is to be known of them."""


@with_config(SHAPE)
class WorstRow(TypedDict):
    """A task that the method does badly on, at the largest K after the last inner step."""

    name: str
    target: str
    rmse: Number
    """In the target's unit; null where the adaptation diverged."""
    fraction: Number
    """Its mean squared error as a fraction of the pooled mean's on the same rows."""


@with_config(SHAPE)
class Query(TypedDict):
    """On what losses are measured."""

    points: Annotated[int, Field(ge=1)]
    sampling: str
    test_seed: Count
    scaled: bool
    """Whether the loss is of targets that were scaled, and not as they stand."""


@with_config(SHAPE)
class Git(TypedDict):
    """Of the working directory's repository."""

    commit: str
    dirty: bool


@with_config(SHAPE)
class MeasuredConfig(TypedDict):
    """The sections of a config that say what is measured."""

    tasks: dict[str, Any]
    """The family and its keys."""
    algorithm: dict[str, Any]
    """The method and its keys."""
    evaluation: EvaluationConfig


@with_config(SHAPE)
class Protocol(TypedDict):
    """All that the numbers of a meta-test depend on."""

    config: MeasuredConfig
    """As tested, overrides included."""
    overrides: list[str]
    """What was set for this evaluation, in the order given; empty where the run was tested by its own settings."""
    test_seed: Count
    checkpoint_step: Count
    checkpoint_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    parameters: Which
    """Which ones of the checkpoint, as `run.keep` says; `newest` where no meta-validation loss was measured yet."""
    parameter_steps: list[SeedStep]
    """Which ones of each seed."""
    date: str
    """UTC, ISO 8601."""
    argv: list[str]
    git: Git | None
    versions: dict[str, str]
    device: DeviceType
    device_name: str
    threads: Annotated[int, Field(ge=1)]
    cpus: int | None


@with_config(SHAPE)
class PlottedFigure(TypedDict):
    """A figure that was drawn again."""

    what: str
    """Its name in the folder, like loss."""
    files: list[Path]


@with_config(SHAPE)
class SlotWeights(TypedDict):
    """A of one seed of a chain."""

    seed: Count
    slots: list[Number]
    """A weight for each support slot."""


@with_config(SHAPE)
class AllSlotWeights(TypedDict):
    """A of all seeds of a chain."""

    corrupted_slots: Count
    """The first so many slots carry corrupted targets."""
    weights: list[SlotWeights]


@with_config(SHAPE)
class ComparisonRow(TypedDict):
    """Both orders at one K after some inner steps."""

    shots: Annotated[int, Field(ge=1)]
    inner_steps: Count
    first: Number
    second: Number
    difference: Number
    """first - second."""
    low: Number
    """Low end of the 95% interval of the difference."""
    high: Number
    num_diverged_seeds: Count


@with_config(SHAPE)
class CosineRow(TypedDict):
    """The cosine of both meta-gradients at a step of the second-order run."""

    step: Annotated[int, Field(ge=1)]
    seed: Count
    cosine: Number
    diverged_at_step: int | None


@with_config(SHAPE)
class Cost(TypedDict):
    """What an order costs."""

    ms_per_step: Number
    peak_memory_bytes: Count


@with_config(SHAPE)
class CheckRow(TypedDict):
    """One check of the meta-gradient."""

    name: str
    compared_with: str
    relative_error: Number
    tolerance: float
    verdict: Verdict
    """`says nothing here` of one that passed and would have passed with the mistake that it looks for."""
    passed: bool


@with_config(SHAPE)
class Info(TypedDict):
    """How both orders relate."""

    first_norm: Number
    second_norm: Number
    second_order_share: Number
    cosine: Number


@with_config(SHAPE)
class Approximation(TypedDict):
    """One central difference along the inner gradient, in place of a chain's exact gradient to A."""

    relative_error: Number
    relative_error_float32: Number
    ms: Seconds
    exact_ms: Seconds
    inner_steps: Annotated[int, Field(ge=1)]


@with_config(SHAPE)
class ReproducedNumber(TypedDict):
    """A published number beside what its experiment gives."""

    row: str
    title: str
    shots: Annotated[int, Field(ge=1)]
    inner_steps: Count
    published: Number
    """Null where no number was published."""
    published_ci95: Number
    relation: Literal["equals", "at_most", "at_least"]
    mean: Number
    """Corrected as `correction` says; null, like all that follows, where the row could not be run."""
    ci95: Number
    """Half-width of its 95% interval over seeds and tasks; with one seed over its tasks alone."""
    ci95_seeds: Number
    """Half-width of its interval over seeds, for these tasks."""
    ci95_tasks: Number
    """Half-width of its interval over tasks, for these seeds."""
    plain_mean: Number
    """As measured."""
    plain_ci95: Number
    """As `ci95`, of the plain mean."""
    control_mean: Number
    """What a model that always says zero scores on these tasks."""
    control_expected: Number
    """What it scores over all tasks."""
    control_coefficient: Number
    """How much the mean moves with what zero scores; null where it corrects nothing."""
    correction: str | None
    """How `mean` was corrected, in words."""
    median: Number
    num_diverged: Count | None
    query: str | None
    verdict: str


@with_config(SHAPE)
class CurvePoint(TypedDict):
    """A point of the figure of loss against inner steps."""

    curve: str
    shots: Annotated[int, Field(ge=1)]
    inner_steps: Count
    mean: Number
    ci95: Number


@with_config(SHAPE)
class DataFile(TypedDict):
    """A file that was read."""

    path: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    rows: Annotated[int, Field(ge=1)]


@with_config(SHAPE)
class Predicted(TypedDict):
    """What is predicted of a target, in its unit."""

    mean: float
    """Over seeds."""
    sd: Number
    """The standard deviation over seeds; null for one seed."""
    per_seed: list[float]
    """In the order of `seeds`."""


@with_config(SHAPE)
class PredictionRow(TypedDict):
    """A row of the query file."""

    task: str
    """Empty where the files have no column for it."""
    inputs: dict[str, float]
    targets: dict[str, Predicted]


class ListedRow(PublishedRow):
    """A row of `configs/reproduce/`."""

    row: str
    """Its name."""
