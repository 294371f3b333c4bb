"""What each command prints under --json, as models; `docs/schemas/` holds them as JSON schemas.

Within a version fields may be added, and none is renamed or removed; so the models refuse what they do not know, for
the tests, and the published schemas do not.
"""

import json
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from mamlcli.config.experiment import Config, EvaluationConfig
from mamlcli.config.published import PublishedRow

Count: TypeAlias = Annotated[int, Field(ge=0)]
Seconds: TypeAlias = Annotated[float, Field(ge=0)]
Number: TypeAlias = float | None
"""Null where a number is not finite."""
Order: TypeAlias = Literal["first", "second"]
DeviceType: TypeAlias = Literal["cpu", "cuda", "mps"]


class _Object(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Engine(_Object):
    """How it was computed."""

    device: DeviceType
    threads: Annotated[int, Field(ge=1)]
    compiled: bool
    inner_update: Literal["dense", "low_rank", "fused"]
    task_chunk: Annotated[int, Field(ge=1)]
    """Tasks differentiated at a time."""


class MetricsRow(_Object):
    """A seed at a logged step, as in metrics.jsonl."""

    step: Annotated[int, Field(ge=1)]
    seed: Count
    pre_adapt_loss: Number
    post_adapt_loss: Number
    grad_norm: Number
    lr: float
    diverged_at_step: int | None
    """The step at which the seed was frozen."""
    slot_weights: list[Number] | None = None
    """A of a chain that learns it; other algorithms have no such field."""
    wall_s: Seconds


class Train(_Object):
    """`maml train --json`."""

    schema_: Annotated[Literal["mamlcli.train/1"], Field(alias="schema")]
    run: str
    """The run folder."""
    status: Literal["done"]
    outer_steps: Count
    seeds: list[Count]
    engine: Engine
    from_step: Count
    """Where this process took over; 0 for a run from its start."""
    wall_s: Seconds
    metrics: list[MetricsRow]
    """The last logged step, a row for each seed."""
    figure: str | None
    """The loss figure; null where it could not be written."""


class EvalRow(_Object):
    """A seed, or all of them, at one K after some inner steps."""

    model: Literal["student", "teacher"] | None = None
    """Which model of a chain; other algorithms have no such field."""
    seed: Count | Literal["all"]
    shots: Annotated[int, Field(ge=1)]
    inner_steps: Count
    mean: Number
    ci95: Number
    """Half-width of the 95% interval of the mean."""
    median: Number
    num_diverged: Count
    """Tasks whose loss is not finite or above evaluation.diverged_above."""
    interval: Literal[
        "over tasks",
        "over seeds and tasks",
        "over tasks of one seed; nothing is known of other seeds",
        "none: one seed says nothing of other seeds",
    ]
    """What `ci95` is over."""
    diverged_at_step: int | None
    num_diverged_seeds: Count
    """Seeds behind this row that were frozen in training."""


class Query(_Object):
    """On what losses are measured."""

    points: Annotated[int, Field(ge=1)]
    sampling: str
    test_seed: Count


class Git(_Object):
    """Of the working directory's repository."""

    commit: str
    dirty: bool


class MeasuredConfig(_Object):
    """The sections of a config that say what is measured."""

    tasks: dict[str, Any]
    """The family and its keys."""
    algorithm: dict[str, Any]
    """The method and its keys."""
    evaluation: EvaluationConfig


class Protocol(_Object):
    """All that the numbers of a meta-test depend on."""

    config: MeasuredConfig
    """As tested, overrides included."""
    overrides: list[str]
    """What was set for this evaluation, in the order given; empty where the run was tested by its own settings."""
    test_seed: Count
    checkpoint_step: Count
    checkpoint_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    date: str
    """UTC, ISO 8601."""
    argv: list[str]
    git: Git | None
    versions: dict[str, str]
    device: DeviceType
    device_name: str
    threads: Annotated[int, Field(ge=1)]
    cpus: int | None


class SlotWeights(_Object):
    """A of one seed of a chain."""

    seed: Count
    slots: list[Number]
    """A weight for each support slot."""


class AllSlotWeights(_Object):
    """A of all seeds of a chain."""

    corrupted_slots: Count
    """The first so many slots carry corrupted targets."""
    weights: list[SlotWeights]


class Eval(_Object):
    """`maml eval --json`."""

    schema_: Annotated[Literal["mamlcli.eval/1"], Field(alias="schema")]
    run: str
    """The folder that holds the result."""
    checkpoint: str
    outer_steps: Count
    start: Literal["trained", "random-init"]
    tasks: Annotated[int, Field(ge=2)]
    query: Query
    protocol: Protocol
    results: list[EvalRow]
    slot_weights: AllSlotWeights | None = None
    """Of a chain; other algorithms have no such field."""
    figures: list[str]


class ComparisonRow(_Object):
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


class CosineRow(_Object):
    """The cosine of both meta-gradients at a step of the second-order run."""

    step: Annotated[int, Field(ge=1)]
    seed: Count
    cosine: Number
    diverged_at_step: int | None


class Cost(_Object):
    """What an order costs."""

    ms_per_step: Number
    peak_memory_bytes: Count


class CompareOrders(_Object):
    """`maml compare-orders --json`."""

    schema_: Annotated[Literal["mamlcli.compare-orders/1"], Field(alias="schema")]
    run: str
    runs: dict[Order, str]
    """The run folder of each order."""
    interval: str
    """What the intervals of the differences are over."""
    results: list[ComparisonRow]
    evaluations: dict[Order, list[EvalRow]]
    query: Query
    cosines: list[CosineRow]
    cost: dict[Order, Cost]
    wall_s: Seconds
    notes: list[str]
    """What is to be said in words."""
    figures: list[str]


class CheckRow(_Object):
    """One check of the meta-gradient."""

    name: str
    compared_with: str
    relative_error: Number
    tolerance: float
    verdict: Literal["fails", "holds", "says nothing here"]
    """`says nothing here` of one that passed and would have passed with the mistake that it looks for."""
    passed: bool


class Info(_Object):
    """How both orders relate."""

    first_norm: Number
    second_norm: Number
    second_order_share: Number
    cosine: Number


class Approximation(_Object):
    """One central difference along the inner gradient, in place of a chain's exact gradient to A."""

    relative_error: Number
    relative_error_float32: Number
    ms: Seconds
    exact_ms: Seconds
    inner_steps: Annotated[int, Field(ge=1)]


class CheckGrads(_Object):
    """`maml check-grads --json`."""

    schema_: Annotated[Literal["mamlcli.check-grads/1"], Field(alias="schema")]
    passed: bool
    method: str
    """What was checked, in words."""
    inner_steps: Count
    """Of meta-training; 0 where there is no inner gradient."""
    checks: list[CheckRow]
    seeds: list[Count]
    tasks: Annotated[int, Field(ge=1)]
    info: Info
    approximation: Approximation | None
    """Of a chain; null for other algorithms."""


class DryRun(_Object):
    """`maml train --dry-run --json`."""

    schema_: Annotated[Literal["mamlcli.dry-run/1"], Field(alias="schema")]
    config: Config
    num_params: Annotated[int, Field(ge=1)]
    """Of one seed."""
    pre_adapt_loss: list[Number]
    """Of the first meta-batch, for each seed."""
    post_adapt_loss: list[Number]


class ReproducedNumber(_Object):
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


class CurvePoint(_Object):
    """A point of the figure of loss against gradient steps."""

    curve: str
    shots: Annotated[int, Field(ge=1)]
    inner_steps: Count
    mean: Number
    ci95: Number


class Reproduce(_Object):
    """`maml reproduce --json`."""

    schema_: Annotated[Literal["mamlcli.reproduce/1"], Field(alias="schema")]
    run: str
    fast: bool
    """Whether the trainings were cut short, so that no number means anything."""
    seeds: list[Count]
    results: list[ReproducedNumber]
    curves: list[CurvePoint]
    wall_s: Seconds
    figure: str | None


class ListedRow(PublishedRow):
    """A row of `configs/reproduce/`."""

    row: str
    """Its name."""


class ReproduceList(_Object):
    """`maml reproduce --list --json`."""

    schema_: Annotated[Literal["mamlcli.reproduce-list/1"], Field(alias="schema")]
    rows: list[ListedRow]


MODELS: dict[str, type[BaseModel]] = {
    "train": Train,
    "eval": Eval,
    "compare-orders": CompareOrders,
    "check-grads": CheckGrads,
    "dry-run": DryRun,
    "reproduce": Reproduce,
    "reproduce-list": ReproduceList,
}


def schema_files() -> dict[str, str]:
    """The files of `docs/schemas/`: name to text."""
    return {
        f"{name}-1.json": json.dumps(_open(model.model_json_schema()), indent=2) + "\n"
        for name, model in MODELS.items()
    }


def _open(schema: Any) -> Any:
    """A schema that allows the fields that are added within its version."""
    if isinstance(schema, dict):
        closed = schema.get("additionalProperties") is False
        return {key: _open(value) for key, value in schema.items() if not (closed and key == "additionalProperties")}
    return [_open(value) for value in schema] if isinstance(schema, list) else schema
