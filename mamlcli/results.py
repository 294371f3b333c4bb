"""What commands return, print under --json and write: each defined once, and the published schemas made from that.

Within a version fields may be added, and none is renamed or removed; so the models refuse what they do not know, and
the published schemas do not.
"""

from collections.abc import Container
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from mamlcli.config.experiment import Config
from mamlcli.methods.method import Learned
from mamlcli.rows import (
    OPEN_SHAPE,
    SHAPE,
    AllSlotWeights,
    Approximation,
    CheckRow,
    ComparisonRow,
    CosineRow,
    Cost,
    Count,
    CurvePoint,
    DataFile,
    DeviceType,
    Engine,
    EvalRow,
    Info,
    ListedRow,
    MetricsRow,
    Number,
    PredictionRow,
    Protocol,
    Query,
    ReproducedNumber,
    Seconds,
    Seeds,
    SeedStep,
    UnitRow,
    WorstRow,
)
from mamlcli.section import Order, Which


class Result(BaseModel):
    """What a command found."""

    model_config: ClassVar[ConfigDict] = {**SHAPE, "frozen": True}
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
    best: list[SeedStep] | None = None
    """The parameters that the run is evaluated by, where they are the best ones; null where they are the newest."""
    figure: Path | None
    """The loss figure; null where it could not be written."""


class EvalResult(Result):
    """`maml eval --json`."""

    command = "eval"
    run: Path
    """The folder that holds the result."""
    checkpoint: Path
    outer_steps: Count
    start: Literal["trained", "random-init"]
    tasks: Annotated[int, Field(ge=1)]
    query: Query
    protocol: Protocol
    results: list[EvalRow]
    slot_weights: AllSlotWeights | None = None
    """Of a chain; other methods have no such field, and may have others."""
    units: list[UnitRow] | None = None
    """The method and its baselines in the unit of each target; of tasks that have names."""
    worst: list[WorstRow] | None = None
    """The tasks that the method does worst on; of tasks that have names."""
    summary: str | None = None
    """How the method does against its baselines, in a sentence; of tasks that have names."""
    figures: list[Path]
    learned: Annotated[SkipJsonSchema[Learned | None], Field(exclude=True)] = None
    """What the method has learned beside the weights of models; its field stands among these."""

    model_config: ClassVar[ConfigDict] = {**OPEN_SHAPE, "frozen": True}

    @property
    def step(self) -> int:
        """Meta-updates behind the checkpoint that was tested; of its best parameters the protocol says their steps."""
        return self.outer_steps

    def as_json(self, *, without: Container[str] = ()) -> dict[str, Any]:
        """The object of `maml eval --json` and of evaluation.json, without what a method or its tasks do not say."""
        return {name: value for name, value in super().as_json(without=without).items() if value is not None}


class Comparison(Result):
    """`maml compare-orders --json`."""

    command = "compare-orders"
    run: Path
    runs: dict[Order, Path]
    """The run folder of each order."""
    tasks: Annotated[int, Field(ge=1)]
    """Of the meta-test."""
    parameters: Which
    """Which ones were compared, as `run.keep` says."""
    parameter_steps: dict[Order, list[SeedStep]]
    """Which ones of each seed."""
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


class PredictResult(Result):
    """`maml predict --json`."""

    command = "predict"
    checkpoint: Path
    checkpoint_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    outer_steps: Count
    """Of the checkpoint."""
    parameters: Which
    parameter_steps: list[SeedStep]
    """Meta-updates behind the parameters of each seed."""
    seeds: Seeds
    inner_steps: Count
    """Steps of adaptation to each task."""
    tasks: Annotated[int, Field(ge=1)]
    task_column: str
    """What the task is called in the table."""
    support: DataFile
    query: DataFile
    device: DeviceType
    predictions: list[PredictionRow] | None
    """A row for each of the query file, in its order; null where they were written to `out`."""
    out: Path | None
    """The table of predictions."""
    figure: Path | None
    """Null where none was asked for, or it could not be drawn."""
    notes: list[str]
    """What is to be said in words."""


class Reproduction(Result):
    """`maml reproduce --json`."""

    command = "reproduce"
    run: Path
    fast: bool
    """Whether the trainings were cut short, so that no number means anything."""
    seeds: Seeds
    results: list[ReproducedNumber]
    curves: list[CurvePoint]
    described: dict[str, str] = {}
    """What each row is, where it was published and what its source leaves open."""
    wall_s: Seconds
    figure: Path | None


class ReportResult(Result):
    """`maml report --json`."""

    command = "report"
    runs: Annotated[list[Path], Field(min_length=1)]
    """The run folders."""
    html: Path
    """The page."""
    markdown: Path
    """The same as Markdown."""


class RowList(Result):
    """`maml reproduce --list --json`."""

    command = "reproduce-list"
    rows: list[ListedRow]
