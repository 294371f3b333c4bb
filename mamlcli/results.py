"""What commands return, print under --json and write: each defined once, and the published schemas made from that.

A result is a frozen model; its rows are plain dicts of a stated shape, as they stand in a table or a line of JSON.
`docs/schemas/` holds the JSON schemas. Within a version fields may be added, and none is renamed or removed; so the
models refuse what they do not know, and the published schemas do not.
"""

import json
from collections.abc import Container
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NotRequired, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator, with_config
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import TypedDict

from mamlcli.config.experiment import Config, EvaluationConfig
from mamlcli.config.published import PublishedRow
from mamlcli.config.reference import config_schema
from mamlcli.methods.method import Learned
from mamlcli.proofs.checks import Verdict
from mamlcli.section import Order, list_to_tuple
from mamlcli.statistics import Over

Count: TypeAlias = Annotated[int, Field(ge=0)]
Seconds: TypeAlias = Annotated[float, Field(ge=0)]
Number: TypeAlias = float | None
"""Null where a number is not finite."""
Seeds: TypeAlias = Annotated[tuple[Count, ...], BeforeValidator(list_to_tuple)]
DeviceType: TypeAlias = Literal["cpu", "cuda", "mps"]

_SHAPE = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)
# Methods may say more of themselves.
_OPEN_SHAPE: ConfigDict = {**_SHAPE, "extra": "allow"}


class Result(BaseModel):
    """What a command found."""

    model_config: ClassVar[ConfigDict] = {**_SHAPE, "frozen": True}
    command: ClassVar[str]
    """Of which command, as in the name of its schema."""

    @model_validator(mode="before")
    @classmethod
    def _of_this_schema(cls, value: Any) -> Any:
        """Read back what `as_json` gave, of this version and no other."""
        if not isinstance(value, dict) or "schema" not in value:
            return value
        if value["schema"] != f"mamlcli.{cls.command}/1":
            raise ValueError(f"must be of mamlcli.{cls.command}/1, got {value['schema']!r}")
        return {name: part for name, part in value.items() if name != "schema"}

    def as_json(self, *, without: Container[str] = ()) -> dict[str, Any]:
        """The object that is printed and written: plain values, `schema` first."""
        fields = {name: value for name, value in self.model_dump(mode="json").items() if name not in without}
        return {"schema": f"mamlcli.{self.command}/1"} | fields


@with_config(_SHAPE)
class Engine(TypedDict):
    """How it was computed."""

    device: DeviceType
    threads: Annotated[int, Field(ge=1)]
    compiled: bool
    inner_update: Literal["dense", "low_rank", "fused"]
    task_chunk: Annotated[int, Field(ge=1)]
    """Tasks differentiated at a time."""


@with_config(_OPEN_SHAPE)
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
    wall_s: Seconds
    """Seconds of training so far. What a method says of itself stands beside it, like `slot_weights` of a chain."""


class TrainResult(Result):
    """`maml train --json`."""

    command = "train"
    run: Path
    """The run folder."""
    status: Literal["done"]
    outer_steps: Count
    seeds: Seeds
    engine: Engine
    from_step: Count
    """Where this process took over; 0 for a run from its start."""
    wall_s: Seconds
    metrics: list[MetricsRow]
    """The last logged step, a row for each seed."""
    figure: Path | None
    """The loss figure; null where it could not be written."""


@with_config(_SHAPE)
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


@with_config(_SHAPE)
class Query(TypedDict):
    """On what losses are measured."""

    points: Annotated[int, Field(ge=1)]
    sampling: str
    test_seed: Count


@with_config(_SHAPE)
class Git(TypedDict):
    """Of the working directory's repository."""

    commit: str
    dirty: bool


@with_config(_SHAPE)
class MeasuredConfig(TypedDict):
    """The sections of a config that say what is measured."""

    tasks: dict[str, Any]
    """The family and its keys."""
    algorithm: dict[str, Any]
    """The method and its keys."""
    evaluation: EvaluationConfig


@with_config(_SHAPE)
class Protocol(TypedDict):
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


@with_config(_SHAPE)
class SlotWeights(TypedDict):
    """A of one seed of a chain."""

    seed: Count
    slots: list[Number]
    """A weight for each support slot."""


@with_config(_SHAPE)
class AllSlotWeights(TypedDict):
    """A of all seeds of a chain."""

    corrupted_slots: Count
    """The first so many slots carry corrupted targets."""
    weights: list[SlotWeights]


class EvalResult(Result):
    """`maml eval --json`."""

    command = "eval"
    run: Path
    """The folder that holds the result."""
    checkpoint: Path
    outer_steps: Count
    start: Literal["trained", "random-init"]
    tasks: Annotated[int, Field(ge=2)]
    query: Query
    protocol: Protocol
    results: list[EvalRow]
    slot_weights: AllSlotWeights | None = None
    """Of a chain; other methods have no such field, and may have others."""
    figures: list[Path]
    learned: Annotated[SkipJsonSchema[Learned | None], Field(exclude=True)] = None
    """What the method has learned beside the weights of models; its field stands among these."""

    model_config: ClassVar[ConfigDict] = {**_OPEN_SHAPE, "frozen": True}

    @property
    def step(self) -> int:
        """Meta-updates behind the parameters that were tested."""
        return self.outer_steps

    def as_json(self, *, without: Container[str] = ()) -> dict[str, Any]:
        """The object of `maml eval --json` and of evaluation.json, without what a method does not say."""
        return {name: value for name, value in super().as_json(without=without).items() if value is not None}


@with_config(_SHAPE)
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


@with_config(_SHAPE)
class CosineRow(TypedDict):
    """The cosine of both meta-gradients at a step of the second-order run."""

    step: Annotated[int, Field(ge=1)]
    seed: Count
    cosine: Number
    diverged_at_step: int | None


@with_config(_SHAPE)
class Cost(TypedDict):
    """What an order costs."""

    ms_per_step: Number
    peak_memory_bytes: Count


class Comparison(Result):
    """`maml compare-orders --json`."""

    command = "compare-orders"
    run: Path
    runs: dict[Order, Path]
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
    figures: list[Path]


@with_config(_SHAPE)
class CheckRow(TypedDict):
    """One check of the meta-gradient."""

    name: str
    compared_with: str
    relative_error: Number
    tolerance: float
    verdict: Verdict
    """`says nothing here` of one that passed and would have passed with the mistake that it looks for."""
    passed: bool


@with_config(_SHAPE)
class Info(TypedDict):
    """How both orders relate."""

    first_norm: Number
    second_norm: Number
    second_order_share: Number
    cosine: Number


@with_config(_SHAPE)
class Approximation(TypedDict):
    """One central difference along the inner gradient, in place of a chain's exact gradient to A."""

    relative_error: Number
    relative_error_float32: Number
    ms: Seconds
    exact_ms: Seconds
    inner_steps: Annotated[int, Field(ge=1)]


class GradientReport(Result):
    """`maml check-grads --json`."""

    command = "check-grads"
    passed: bool
    method: str
    """What was checked, in words."""
    inner_steps: Count
    """Of meta-training; 0 where there is no inner gradient."""
    checks: list[CheckRow]
    seeds: Seeds
    tasks: Annotated[int, Field(ge=1)]
    info: Info
    approximation: Approximation | None
    """Of a chain; null for other methods."""


class DryRun(Result):
    """`maml train --dry-run --json`."""

    command = "dry-run"
    config: Config
    num_params: Annotated[int, Field(ge=1)]
    """Of one seed."""
    pre_adapt_loss: list[Number]
    """Of the first meta-batch, for each seed."""
    post_adapt_loss: list[Number]


@with_config(_SHAPE)
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


@with_config(_SHAPE)
class CurvePoint(TypedDict):
    """A point of the figure of loss against gradient steps."""

    curve: str
    shots: Annotated[int, Field(ge=1)]
    inner_steps: Count
    mean: Number
    ci95: Number


class Reproduction(Result):
    """`maml reproduce --json`."""

    command = "reproduce"
    run: Path
    fast: bool
    """Whether the trainings were cut short, so that no number means anything."""
    seeds: Seeds
    results: list[ReproducedNumber]
    curves: list[CurvePoint]
    wall_s: Seconds
    figure: Path | None


class ListedRow(PublishedRow):
    """A row of `configs/reproduce/`."""

    row: str
    """Its name."""


class RowList(Result):
    """`maml reproduce --list --json`."""

    command = "reproduce-list"
    rows: list[ListedRow]


MODELS: dict[str, type[Result]] = {
    "train": TrainResult,
    "eval": EvalResult,
    "compare-orders": Comparison,
    "check-grads": GradientReport,
    "dry-run": DryRun,
    "reproduce": Reproduction,
    "reproduce-list": RowList,
}


def schema_files() -> dict[str, str]:
    """The files of `docs/schemas/`: name to text; what commands print, and the config that they read."""
    schemas = {name: _schema(name, model) for name, model in MODELS.items()} | {"config": config_schema()}
    return {f"{name}-1.json": json.dumps(schema, indent=2) + "\n" for name, schema in schemas.items()}


def _schema(name: str, model: type[Result]) -> dict[str, Any]:
    """The schema of what `as_json` gives."""
    schema: dict[str, Any] = _open(model.model_json_schema(mode="serialization"))
    schema["properties"] = {"schema": {"const": f"mamlcli.{name}/1", "type": "string"}, **schema["properties"]}
    schema["required"] = ["schema", *schema["required"]]
    return schema


def _open(schema: Any) -> Any:
    """A schema that allows the fields that are added within its version."""
    if isinstance(schema, dict):
        closed = schema.get("additionalProperties") is False
        return {key: _open(value) for key, value in schema.items() if not (closed and key == "additionalProperties")}
    return [_open(value) for value in schema] if isinstance(schema, list) else schema
