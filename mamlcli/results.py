"""What commands return, print under --json and write: each defined once, and the published schemas made from that.

Within a version fields may be added, and none is renamed or removed; so the models refuse what they do not know, and
the published schemas do not.
"""

from collections.abc import Container, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from mamlcli.config.experiment import Config
from mamlcli.errors import UsageError
from mamlcli.plain import Learned
from mamlcli.rows import (
    OPEN_SHAPE,
    SHAPE,
    AllSlotWeights,
    Approximation,
    CheckedFile,
    CheckpointRow,
    CheckRow,
    Choice,
    ComparedRun,
    ComparisonRow,
    Compiler,
    ConfigRow,
    Cores,
    CosineRow,
    Cost,
    Count,
    CurvePoint,
    DataFile,
    DeviceFound,
    DeviceType,
    Difference,
    Engine,
    EvalRow,
    FileRow,
    Info,
    Kernel,
    KindRow,
    ListedRow,
    LossPair,
    LossRow,
    MetricsRow,
    Number,
    PairedRow,
    PlottedFigure,
    PredictionRow,
    Protocol,
    Query,
    ReproducedNumber,
    RowPair,
    RunRow,
    Seconds,
    Seeds,
    SeedStep,
    SessionRow,
    SweepAxis,
    SweptRow,
    UnitRow,
    WorstRow,
)
from mamlcli.section import Order, Which
from mamlcli.tables.notebook import shown
from mamlcli.tables.of_results import (
    baselines_table,
    checks_table,
    compared_table,
    evaluation_table,
    few_steps,
    metrics_table,
    orders_table,
    predictions_table,
    reproduction_table,
    sweep_table,
)
from mamlcli.tables.table import Table


class Result(BaseModel):
    """What a command found."""

    # A command makes one of twenty models, each of which costs as much as a hundredth of importing torch.
    model_config: ClassVar[ConfigDict] = {**SHAPE, "frozen": True, "defer_build": True}
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

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What a result is in a line: its rows are counted, and `table()` shows them."""
        for name, value in super().__repr_args__():
            is_long = isinstance(value, list) and any(isinstance(item, dict) for item in value)
            yield name, _Brief(f"<{len(value)} rows>") if is_long else value


class _Brief(str):
    """Stands for what would be long."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


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

    def table(self) -> Table:
        """The last logged step: a row for each seed. `mamlcli.load(result).metrics()` has all steps."""
        return metrics_table(self.metrics)

    def _repr_html_(self) -> str:
        updates = f"{self.outer_steps} meta-updates of {len(self.seeds)} seed{'s' * (len(self.seeds) > 1)}"
        figures = [] if self.figure is None else [self.figure]
        return shown(f"Trained: {updates} in {self.wall_s:.1f} s, {self.run}", self.table(), figures=figures)


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
    kinds: list[KindRow] | None = None
    """The results of each kind of tasks by itself, where they are of several, like the families of a mixture."""
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

    def table(self, *, seeds: bool = False) -> Table:
        """The query loss at each K (`shots`) after each number of inner steps.

        Args:
            seeds: A row for each seed, in place of one over all of them; `ci95` is then over tasks.
        """
        return evaluation_table(self.results, seeds=seeds)

    def by_kind(self, *, seeds: bool = False) -> Table:
        """The same of each kind of tasks by itself, like the families of a mixture.

        No rows where tasks are of one kind.

        Args:
            seeds: As for `table`.
        """
        return evaluation_table(self.kinds or (), seeds=seeds)

    def baselines(self) -> Table:
        """The method after its last inner step beside its baselines, in the unit of each target.

        No rows where tasks have no names.
        """
        return baselines_table(self.units or ())

    def _repr_html_(self) -> str:
        said = [] if self.summary is None else [self.summary]
        table = self.baselines() or few_steps(self.table())
        return shown(f"Meta-test: {self.tasks} tasks, {self.run}", table, said=said, figures=self.figures)


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

    def table(self) -> Table:
        """The query loss of both orders; `difference` is first - second, between `low` and `high`."""
        return orders_table(self.results)

    def _repr_html_(self) -> str:
        heading = f"First and second order: {self.tasks} tasks, {self.run}"
        said = ["Where first - second is positive, second order is better.", *self.notes]
        return shown(heading, few_steps(self.table()), said=said, figures=self.figures)


class ComparedRuns(Result):
    """`maml compare --json`."""

    command = "compare"
    run: Path
    """The folder of the comparison."""
    baseline: str
    """What the run is called that the others are compared with."""
    runs: list[ComparedRun]
    """The baseline among them, in the order in which they were named."""
    seeds: Seeds
    """Those that all runs have, and that were compared."""
    tasks: Annotated[int, Field(ge=1)]
    """Of the meta-test."""
    query: Query
    margin: Annotated[float, Field(ge=0)]
    """The largest difference that does not matter, as a part of the baseline's mean at the same K and step."""
    interval: str
    """What the intervals of the differences are over."""
    results: list[PairedRow]
    """At each K after each inner step, the baseline first."""
    notes: list[str]
    """What is to be said in words, as what was tested again and which seeds were left out."""
    wall_s: Seconds
    figures: list[Path]

    def table(self) -> Table:
        """Every run at each K after each inner step; `difference` is its mean less the baseline's."""
        return compared_table(self.results)

    def _repr_html_(self) -> str:
        heading = f"{len(self.runs)} runs on {self.tasks} tasks, compared with {self.baseline}: {self.run}"
        said = [f"Where a difference is negative, the run is better than {self.baseline}.", *self.notes]
        return shown(heading, few_steps(self.table()), said=said, figures=self.figures)


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
    notes: list[str] = []
    """What could not be checked, and why; and what else was measured, in words."""
    run: Path | None = None
    """The folder that holds the report and its figures; null where none was asked for."""
    figures: list[Path] = []

    def table(self) -> Table:
        """What was compared with what, and how it went."""
        return checks_table(self.checks)

    def _repr_html_(self) -> str:
        passed = "all checks hold" if self.passed else "not all checks hold"
        return shown(f"Meta-gradient of {self.method}: {passed}", self.table(), figures=self.figures)


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

    def table(self) -> Table:
        """A row for each of the query file: task, inputs, and of each target the mean, `_sd` and what each seed says.

        Raises:
            UsageError: If they were written to a file.
        """
        if self.predictions is None:
            raise UsageError(f"the predictions were written to {self.out}: read them there, or call it without out=")
        return predictions_table(self.predictions, self.task_column, self.seeds)

    def _repr_html_(self) -> str:
        heading = f"Predicted: {self.query['rows']} rows of {self.tasks} task{'s' * (self.tasks > 1)}"
        where = [] if self.out is None else [f"They are in {self.out}."]
        figures = [self.figure] if self.figure is not None and self.figure.suffix == ".png" else []
        table = Table(()) if self.predictions is None else self.table()
        return shown(heading, table, said=[*self.notes, *where], figures=figures)


class PlotResult(Result):
    """`maml plot --json`."""

    command = "plot"
    run: Path
    """The folder whose figures were drawn again."""
    width: Literal["column", "page"]
    figures: list[PlottedFigure]


class Reproduction(Result):
    """`maml reproduce --json`."""

    command = "reproduce"
    run: Path
    fast: bool
    """Whether the trainings were cut short, so that no number means anything."""
    seeds: Seeds
    results: list[ReproducedNumber]
    pairs: list[RowPair] = []
    """Rows that are set beside another one, at every number of theirs that both were measured at."""
    curves: list[CurvePoint]
    described: dict[str, str] = {}
    """What each row is, where it was published and what its source leaves open."""
    wall_s: Seconds
    figure: Path | None

    def table(self) -> Table:
        """Published numbers beside what was found."""
        return reproduction_table(self.results)

    def _repr_html_(self) -> str:
        figures = [] if self.figure is None else [self.figure]
        return shown(f"Published and found: {self.run}", self.table(), figures=figures)


class Sweep(Result):
    """`maml sweep --json`."""

    command = "sweep"
    run: Path
    axes: list[SweepAxis]
    seeds: Seeds
    tasks: Annotated[int, Field(ge=1)]
    """Of the meta-validation, by which members are ranked."""
    shots: Annotated[int, Field(ge=1)] | None
    """K, there; null where not all members have the same."""
    inner_steps: Count | None
    """Steps of adaptation before the loss, there; null where not all members make as many."""
    interval: str
    """What the intervals are over."""
    parameters: Which
    """Which ones of each member are ranked, as `run.keep` says."""
    results: list[SweptRow]
    """The best first; those without a finite loss last."""
    winner: str | None
    """The member that ranks first; null where only a part was trained, or none has a finite loss."""
    winner_run: Path | None
    test_tasks: Count
    """Of the meta-test of the winner; 0 where there was none."""
    winner_test: list[EvalRow]
    """The meta-test of the winner, made once: over seeds, or of the only one."""
    picked: Path | None
    """The config that `pick` wrote."""
    wall_s: Seconds
    notes: list[str]
    """What is to be said in words."""
    figures: list[Path]

    def adaptation(self) -> str:
        """How members adapt before the loss that they are ranked by, in words: like "K = 10, 1 inner step"."""
        own = self.inner_steps
        steps = "the inner steps of each" if own is None else f"{own} inner step{'s' * (own != 1)}"
        return f"{'K of each' if self.shots is None else f'K = {self.shots}'}, {steps}"

    def table(self) -> Table:
        """The members, the best first: their values, and their loss on the meta-validation tasks."""
        return sweep_table(self.results)

    def _repr_html_(self) -> str:
        heading = f"Sweep of {', '.join(axis['key'] for axis in self.axes)}: {self.tasks} meta-validation tasks"
        return shown(heading, self.table(), said=self.notes, figures=self.figures)


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


class ConfigList(Result):
    """`maml configs ls --json`."""

    command = "configs-ls"
    configs: list[ConfigRow]


class ShownConfig(Result):
    """`maml configs show --json`."""

    command = "configs-show"
    source: str
    """The name or the file."""
    config: Config
    """With every default, and what was set."""


class CopiedConfig(Result):
    """`maml configs cp --json`."""

    command = "configs-cp"
    source: str
    """The name."""
    file: Path
    """The copy."""
    data: list[Path]
    """Files of data that it names, which stay where they are."""
    next: str
    """What runs it."""


class CheckedConfigs(Result):
    """`maml configs validate --json`."""

    command = "configs-validate"
    passed: bool
    files: list[CheckedFile]


class RunList(Result):
    """`maml runs ls --json`."""

    command = "runs-ls"
    root: Path
    total: Count
    """Runs that match; `runs` holds the first of them where a limit was set."""
    runs: list[RunRow]


class RunShown(Result):
    """`maml runs show --json`."""

    command = "runs-show"
    run: RunRow
    config: dict[str, Any]
    """The keys of the config that are not at their default, which may depend on the tasks."""
    config_problem: str | None
    """Why the config cannot be read."""
    sessions: list[SessionRow]
    """The processes that worked on it, in their order."""
    checkpoints: list[CheckpointRow]
    """The newest first."""
    evaluation: list[LossRow]
    """Over seeds; empty where it was not evaluated."""
    inside: list[RunRow]
    """The runs inside a comparison or a reproduction."""
    files: list[FileRow]
    """All but checkpoints and what stands inside other runs."""


class RunDiff(Result):
    """`maml runs diff --json`."""

    command = "runs-diff"
    runs: Annotated[list[RunRow], Field(min_length=2, max_length=2)]
    config: list[Difference]
    environment: list[Difference]
    """What computed them, as far as it differs: versions, commit, device, threads, of each run's last process."""
    losses: list[LossPair]
    """Means of each run by itself, over its own seeds: no paired differences."""
    notes: list[str]
    """What is to be said in words."""


class Doctor(Result):
    """`maml doctor --json`."""

    command = "doctor"
    works: bool
    """Whether nothing is broken; what is merely missing breaks nothing."""
    problems: list[str]
    """What is broken, in words."""
    warnings: list[str]
    """What makes experiments slower, or may do so."""
    versions: dict[str, str]
    extras: dict[str, bool]
    """Optional parts, and whether all packages of each are installed."""
    cores: Cores
    devices: list[DeviceFound]
    compiler: Compiler | None
    kernel: Kernel
    folder: Path
    """Where runs are written when no folder is named."""
    free_disk_bytes: Count
    """There."""
    free_memory_bytes: Count | None
    choice: Choice | None
    """For the config; null where it cannot be computed here."""
