"""Rows and parts of what commands find: plain dicts of a stated shape, as they stand in a table or a line of JSON."""

from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Field, with_config
from typing_extensions import TypedDict

from mamlcli.config.experiment import EvaluationConfig
from mamlcli.config.published import PublishedRow
from mamlcli.plain import Over, Statement, Verdict
from mamlcli.section import Which, list_to_tuple

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
    task_ranks: NotRequired[Annotated[int, Field(ge=1)]]
    """Processes that share the tasks of each meta-batch."""


@with_config(OPEN_SHAPE)
class MetricsRow(TypedDict):
    """A seed at a logged step, as in metrics.jsonl."""

    step: Annotated[int, Field(ge=1)]
    seed: Count
    pre_adapt_loss: Number
    post_adapt_loss: Number
    meta_loss: NotRequired[Number]
    """Whose gradient is taken, where that is not `post_adapt_loss` throughout."""
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


class KindRow(EvalRow):
    """The same of one kind of tasks alone, where tasks are of several."""

    kind: str
    num_tasks: Annotated[int, Field(ge=1)]
    """Meta-test tasks of this kind."""


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
class PairedRow(TypedDict):
    """A run at one K after some inner steps, beside the baseline on the same seeds and tasks."""

    run: str
    """What it is called in this comparison."""
    shots: Annotated[int, Field(ge=1)]
    inner_steps: Count
    mean: Number
    """Query loss over the seeds and tasks that all runs have in common."""
    ci95: Number
    """Half-width of the 95% interval of the mean by itself; says little of a difference."""
    median: Number
    num_diverged: Count
    """Of seeds and tasks: those whose loss is not finite or above evaluation.diverged_above."""
    difference: Number
    """Its mean less the baseline's; null, like all that follows, of the baseline itself."""
    low: Number
    """Low end of the 95% interval of the difference, paired by seed and task."""
    high: Number
    statement: Statement | None
    """What the interval and the margin say of the run: `equivalent`, `better` or `worse` than the baseline,
    `inconclusive`, or `diverged` where the difference is not finite."""


@with_config(SHAPE)
class ComparedRun(TypedDict):
    """A run that was compared."""

    run: str
    """What it is called here."""
    path: Path
    """Its folder, or the checkpoint file."""
    method: str
    """In words."""
    seeds: Seeds
    """All that it has."""
    seeds_left_out: Seeds
    """Those of them that another run does not have."""
    seeds_diverged: Seeds
    """Those that diverged in training, of the seeds that were compared: they count with the parameters they kept."""
    outer_steps: Count
    """Meta-updates behind the checkpoint."""
    parameters: Which
    """Which ones of it, as `run.keep` says."""
    parameter_steps: list[SeedStep]
    tested_otherwise: list[str]
    """The settings of its own meta-test that are not the baseline's, as `key=value`; here it was tested as that was."""
    ms_per_step: Number
    """Median time of a meta-step of all its seeds, as it noted while it was trained; null where that is not known."""
    peak_memory_bytes: Count | None
    """Peak of one more meta-update of all its seeds; null where it does not fit here."""


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
    margin: NotRequired[Number]
    """The largest difference that does not matter, in the unit of the loss; null where no number was published."""
    difference: NotRequired[Number]
    """`mean` - `published`."""
    difference_ci95: NotRequired[Number]
    """Half-width of its 95% interval, which holds what both sides are uncertain by."""
    difference_ci90: NotRequired[Number]
    """Half-width of its 90% interval, whose ends are two one-sided tests at 5% each."""
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
    """What the interval of the difference says: `equivalent`, `better`, `worse`, `inconclusive` or `diverged`; of a
    bound `met`, `not met`, `inconclusive` or `diverged`. Else `no number published`, `not comparable: a fast run`, or
    `not run: ` and why."""


@with_config(SHAPE)
class RowPair(TypedDict):
    """What one row scores less what another does, paired by seed and task."""

    row: str
    beside: str
    """The other row."""
    shots: Annotated[int, Field(ge=1)]
    inner_steps: Count
    difference: Number
    """The mean of `row` less that of `beside`; negative in favour of `row`."""
    ci95: Number
    """Half-width of its 95% interval over seeds and tasks."""
    ci90: Number
    margin: Number
    """The largest difference that does not matter: a share of the mean of `beside`."""
    verdict: str
    """As of a published number: `equivalent`, `better`, `worse`, `inconclusive` or `diverged`."""


@with_config(SHAPE)
class CurvePoint(TypedDict):
    """A point of the figure of loss against inner steps."""

    curve: str
    shots: Annotated[int, Field(ge=1)]
    inner_steps: Count
    mean: Number
    ci95: Number
    published: NotRequired[Number]
    """What was published there; null where nothing was."""
    published_ci95: NotRequired[Number]


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
    """A row of `maml reproduce`."""

    row: str
    """Its name."""
    protocol: str
    """On what it is trained and tested, in words."""


@with_config(SHAPE)
class ConfigRow(TypedDict):
    """An experiment that comes along."""

    name: str
    summary: str
    time: str
    """How long it takes, in words."""
    command: str
    """What runs it."""
    path: str


@with_config(SHAPE)
class CheckedFile(TypedDict):
    """A file that was checked, and what is wrong in it."""

    file: str
    kind: Literal["config", "row"]
    """An experiment; or a published result and its experiment."""
    passed: bool
    problems: list[str]
    """Each with its place; the last line may be a remedy."""


class RunRow(TypedDict):
    """A run in a list of runs."""

    run: str
    """The folder."""
    kind: Literal["train", "compare-orders", "compare", "reproduce", "sweep"] | None
    """What made it; null where that cannot be read."""
    name: str | None
    """The experiment's name."""
    method: str | None
    """In words."""
    status: str
    """`done`, `running` while a process works in it, `killed` where none does and none said how it ended, `interrupted`
    by a signal, `diverged`, `failed` by another error, `stopped` by whoever heard of its steps, `unranked` of a sweep
    that was trained in parts and is not ranked yet, or `damaged`."""
    problem: str | None
    """Why it is damaged."""
    seeds: list[Count]
    outer_steps: Count | None
    """Meta-updates made, as far as its last logged step says; null where there is no one number."""
    steps: Count | None
    """Meta-updates that it is to make."""
    started: str | None
    """UTC, ISO 8601."""
    wall_s: Seconds | None
    """Seconds that processes have worked on it."""
    shots: Count | None
    """K of `loss`; null, like all that follows, where that was not measured."""
    inner_steps: Count | None
    """Steps of adaptation before `loss`."""
    loss: Number
    """The mean query loss of its own evaluation, over seeds and tasks; null also where it is not finite."""
    ci95: Number
    """Half-width of its 95% interval."""
    evaluated_at_step: Count | None
    """Meta-updates behind what was evaluated; null where nothing was."""
    inside: bool
    """Whether it is a part of a comparison, a reproduction or a sweep, or was moved aside."""


@with_config(SHAPE)
class SweepAxis(TypedDict):
    """A key that goes through several values."""

    key: str
    """Dotted, as in a config."""
    values: Annotated[list[Any], Field(min_length=1)]
    stacked: bool
    """Whether members that differ in it are rows of one program; where not, they are trained by several processes."""


@with_config(SHAPE)
class SweptRow(TypedDict):
    """A member of a sweep: a run of its own, and its loss on the meta-validation tasks."""

    rank: Annotated[int, Field(ge=1)] | None
    """From 1, by the mean; null where there is no finite one."""
    member: str
    """The name of its folder in `runs/`."""
    values: dict[str, Any]
    """What it has of each axis, by its dotted key."""
    status: str
    """How its training ended, as in a list of runs."""
    mean: Number
    """Query loss over seeds and meta-validation tasks, after the inner steps of meta-training."""
    ci95: Number
    """Half-width of the 95% interval of the mean."""
    difference: Number
    """Its mean less that of the winner, on the same seeds and tasks."""
    difference_ci95: Number
    """Half-width of the 95% interval of the paired difference; null for the winner itself."""
    statement: Statement | None
    """What that interval says of it beside the winner; null for the winner itself and for who has no mean."""
    num_diverged_seeds: Count
    """Seeds that diverged in training, and count with the parameters that they kept."""
    problem: str | None
    """Why it was not trained whole, where another reason than its own loss kept it from that."""


@with_config(SHAPE)
class SessionRow(TypedDict):
    """A process that worked on a run; null is what it did not say."""

    started: str | None
    ended: str | None
    from_step: Count | None
    to_step: Count | None
    device: str | None
    device_name: str | None
    threads: Count | None
    compiled: bool | None
    inner_update: str | None
    commit: str | None
    """Of the working directory's repository."""
    dirty: bool | None
    """Whether it had changes that were not committed."""
    versions: dict[str, str]
    command: list[str]
    """Its command line."""


@with_config(SHAPE)
class CheckpointRow(TypedDict):
    """A file of a run's checkpoints."""

    step: Count
    bytes: Count
    problem: str | None
    """Why it is not whole; null where it is, by its hash."""


@with_config(SHAPE)
class FileRow(TypedDict):
    """A file of a run."""

    path: str
    """From the run's folder."""
    bytes: Count


@with_config(SHAPE)
class LossRow(TypedDict):
    """What a run scores at one K after some inner steps."""

    shots: Annotated[int, Field(ge=1)]
    inner_steps: Count
    mean: Number
    ci95: Number


@with_config(SHAPE)
class Difference(TypedDict):
    """Something that two runs differ in."""

    what: str
    """A key of the config, or a part of what computed it, like `versions.torch`."""
    values: tuple[Any, Any]
    """Of the first and of the second; null also where it has no such thing."""


@with_config(SHAPE)
class LossPair(TypedDict):
    """What two runs score at one K after some inner steps, where both were measured there."""

    shots: Annotated[int, Field(ge=1)]
    inner_steps: Count
    first: Number
    first_ci95: Number
    second: Number
    second_ci95: Number


class DeviceFound(TypedDict):
    """A kind of device, and whether it can be used."""

    device: DeviceType
    name: str | None
    """Null where there is none."""
    double_backward_error: Number
    """Of a meta-gradient in float32, relative to its closed form; null where there is no device, or it failed."""
    works: bool
    """Whether it is here and that error is rounding."""


@with_config(SHAPE)
class Cores(TypedDict):
    """The cores that this process may use."""

    name: str
    usable: Annotated[int, Field(ge=1)]
    used_by_others: Number
    """On average over a fraction of a second; null where the system does not say."""
    load: list[float]
    """The load averages of 1, 5 and 15 minutes; empty where the system has none."""


@with_config(SHAPE)
class Compiler(TypedDict):
    """The C++ compiler that is used."""

    command: str
    version: str
    graphs: bool
    """Whether torch.compile can use it too; if not, it builds the kernel alone."""


@with_config(SHAPE)
class Kernel(TypedDict):
    """The meta-update in C++, as it is built on this machine."""

    path: str | None
    """Its file; null where it could not be built."""
    num_bytes: Count
    was_kept: bool
    """Whether it had been built before."""
    error: Number
    """Of its meta-gradient in float64, relative to the plain one; null where it could not be computed."""
    works: bool
    problem: str | None
    """What keeps it from being built or from being kept."""


@with_config(SHAPE)
class Choice(TypedDict):
    """What `auto` chooses for a config, now."""

    config: str
    device: DeviceType
    plan: str
    """How it is computed, and why, in words."""
    passed_over: list[str]
    """What keeps faster ways from it."""
    threads: Annotated[int, Field(ge=1)]
    memory_bytes: Count
    """What training is estimated to hold at its peak."""
