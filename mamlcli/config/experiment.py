"""What an experiment is: frozen sections that refuse what they do not know.

The keys under `tasks`, `model` and `algorithm` are those of the family, model and method that they choose; their
classes stand beside what they configure, and are looked up in the registry. Every field is documented where it is
defined; the config reference is made from these texts. Loads no torch.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, model_validator

from mamlcli.config.choice import chosen, default_of
from mamlcli.section import (
    AlgorithmSection,
    Count,
    CountOrZero,
    Keep,
    ModelSection,
    Positive,
    Section,
    Seed,
    TasksSection,
    Tracker,
    auto_or_up_to,
    distinct,
    list_to_tuple,
)


class OuterConfig(Section):
    """The meta-update."""

    steps: Count = 60000
    """Meta-updates of a run."""
    meta_batch_size: Count = 25
    """B: tasks of a meta-batch."""
    optimizer: Literal["adam", "adamw", "nadam", "radam", "adamax", "adagrad", "rmsprop", "sgd", "momentum"] = "adam"
    """The optimiser of torch.optim, with PyTorch's defaults for all but the learning rate; `momentum` is SGD that keeps
    0.9 of the last step's direction."""
    lr: Positive = 0.001
    """Learning rate of the meta-update, before the schedule."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate goes from `lr` to zero over `steps`; `constant` stays."""
    max_grad_norm: Positive | None = None
    """Clip the meta-gradient of each seed to this 2-norm; null does not clip."""
    max_task_grad: Positive | None = None
    """Clamp each number of each task's own meta-gradient to plus or minus this, before the mean over tasks; null does
    not. Every task then holds a gradient of its own."""
    on_divergence: Literal["stop", "freeze"] = "stop"
    """What happens if a seed's loss or meta-gradient is not finite: `stop` ends the run with exit code 5; `freeze`
    keeps that seed as it was before the step, marks it in every table, and goes on while one is healthy."""


class EvaluationConfig(Section):
    """The meta-test."""

    tasks: Annotated[int, Field(ge=2, le=10**7)] = 600
    """Meta-test tasks, the same for every K, seed and run."""
    shots: Annotated[
        tuple[Count, ...],
        Field(max_length=100),
        BeforeValidator(list_to_tuple),
        AfterValidator(distinct),
        Field(min_length=1),
    ] = (5, 10, 20)
    """The K to evaluate, at most 100; each adapts on the first K support samples of a task."""
    inner_steps: CountOrZero = 10
    """Measure after 0 to this many steps of adaptation."""
    query_shots: Count = 100
    """Query samples of a meta-test task, on which every loss is measured."""
    grid: Annotated[int, Field(ge=2, le=10**6)] | None = None
    """Measure on this many evenly spaced inputs in place of random ones; published protocols differ."""
    seed: Seed = 0
    """The test seed: it alone chooses the meta-test tasks."""
    diverged_above: Positive = 100.0
    """A task counts as diverged where its query loss is not finite or above this."""
    every_steps: Count | None = None
    """Measure the meta-validation loss every so many meta-updates, and at the last; null does not. It is the mean query
    loss over `evaluation.tasks` fixed tasks of a split of their own, after the inner steps of meta-training on
    `tasks.support_shots` support samples. Such a step is logged too. Where meta-training has but so many tasks (a
    table, a pool) this and `run.keep: best` are set by themselves, unless the config says otherwise."""


class RunConfig(Section):
    """What a run writes, and when."""

    log_every_steps: Count = 100
    """Write metrics every so many meta-updates, and at the first and the last."""
    checkpoint_every_steps: Count = 5000
    """Save a checkpoint every so many meta-updates, and at the end."""
    keep_checkpoints: Count = 3
    """Keep this many checkpoints, the newest; an older one is deleted once a new one is whole."""
    keep: Keep = "newest"
    """Which parameters a run is evaluated by: the `newest`, or the `best`, those of each seed at the step with its
    least meta-validation loss; needs evaluation.every_steps. A run that measures that loss holds both."""
    log_to: Annotated[tuple[Tracker, ...], BeforeValidator(list_to_tuple), AfterValidator(distinct)] = ()
    """Log metrics, config and figures to these too, each in a folder of its own within the run's: `tensorboard`,
    `wandb` (offline) and `mlflow` (a file store). Each needs its package: `pip install 'mamlcli[tensorboard]'`."""


class EngineConfig(Section):
    """How it is computed; none of it changes the numbers beyond rounding."""

    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the meta-update; `auto` does where a compiler is there and the run is long enough to earn it back, and
    says so."""
    inner_update: Literal["auto", "dense", "low_rank", "fused"] = "auto"
    """How adapted weights are held: `dense` is a matrix per task, `low_rank` the factors of its change, `fused` is
    dense in a C++ kernel (gradient steps of MLPs by given or learned rates, with Adam, AdamW or SGD on a CPU); `auto`
    is low_rank from hidden layers of 128 units on, and else fused where it can be."""
    task_chunk: Annotated[Literal["auto"] | int, auto_or_up_to(10**9)] = "auto"
    """Tasks differentiated at a time; fewer hold less memory. `auto` cuts what holds more than about 16 MiB, which is
    also faster."""
    threads: Annotated[Literal["auto"] | int, auto_or_up_to(1024)] = "auto"
    """CPU threads of training and meta-test, at most 1,024. `auto` is one for each core where each has seeds of its
    own, as in the C++ kernel. Else it is one for small experiments, and more as there is more to compute, but no more
    than there are idle cores, and fewer once other processes want them: threads that wait for each other are as slow
    as the one without a core."""


class ParallelConfig(Section):
    """How processes share the work where a launcher like torchrun has started several."""

    shard: Literal["auto", "tasks", "seeds"] = "auto"
    """What each process takes its share of. `seeds`: it trains some of the seeds, to the same bits as a single process
    where the C++ kernel does, and talks to the others a few times a second at most. `tasks`: it differentiates some
    tasks of each meta-batch, and gradients are added up at each meta-update, which changes their rounding. `auto` is
    seeds where there are at least as many as processes, and else tasks."""


MEANT: Mapping[str, Mapping[str, str]] = {
    "device": {"gpu": "cuda", "nvidia": "cuda", "rocm": "cuda", "metal": "mps", "apple": "mps", "mac": "mps"},
}
"""What others call the values of a key: key -> their word -> ours."""


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What an experiment, and so a folder of runs, can be called."""


class Config(Section):
    """One experiment."""

    name: Annotated[str, Field(pattern=rf"^{NAME.pattern}$")]
    """The experiment's name and the folder of its runs: up to 64 letters, digits, '.', '_' and '-'."""
    seeds: Annotated[
        tuple[Seed, ...],
        Field(max_length=10_000),
        BeforeValidator(list_to_tuple),
        AfterValidator(distinct),
        Field(min_length=1),
    ] = (0, 1, 2)
    """The seeds of the run, trained side by side; each has its own initial parameters and tasks."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; `auto` takes CUDA if it is there and the CPU otherwise, and says which."""
    tasks: Annotated[SerializeAsAny[TasksSection], chosen("tasks")] = Field(default_factory=default_of("tasks"))
    """The tasks to learn from: a family, and its keys."""
    model: Annotated[SerializeAsAny[ModelSection], chosen("model")] = Field(default_factory=default_of("model"))
    """The model, and its keys."""
    algorithm: Annotated[SerializeAsAny[AlgorithmSection], chosen("algorithm")] = Field(
        default_factory=default_of("algorithm")
    )
    """The method, and its keys."""
    outer: OuterConfig = OuterConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    run: RunConfig = RunConfig()
    engine: EngineConfig = EngineConfig()
    parallel: ParallelConfig = ParallelConfig()

    @model_validator(mode="after")
    def _defaults_of_tasks(self) -> Self:
        for key, value in self.tasks.defaults().items():
            name, _, field = key.partition(".")
            own = getattr(self, name)
            if field in own.model_fields_set if field else name in self.model_fields_set:
                continue
            # A frozen model is set once, here, while it is made.
            object.__setattr__(self, name, own.model_copy(update={field: value}) if field else value)
            self.model_fields_set.add(name)
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        misfits = (
            self.algorithm.misfit(self.tasks.support_shots, self.evaluation.shots),
            self.tasks.misfit(self.seeds),
        )
        if any(misfits):
            raise ValueError("; ".join(filter(None, misfits)))
        return self

    @model_validator(mode="after")
    def _best_is_measured(self) -> Self:
        if self.run.keep == "best" and self.evaluation.every_steps is None:
            raise ValueError(
                "run.keep: best needs a meta-validation loss that says which parameters are the best; set "
                "evaluation.every_steps to measure it, or run.keep: newest"
            )
        return self
