"""What an experiment is: frozen models that refuse what they do not know.

Every field is documented where it is defined; the config reference is made from these texts.
"""

from collections import Counter
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

# The largest number of float32, and the smallest that is computed with in full.
_LARGEST, _SMALLEST = float.fromhex("0x1.fffffep+127"), 2.0**-126


def list_to_tuple(value: Any) -> Any:
    """YAML knows lists only; a frozen config holds tuples, and strict validation tells them apart."""
    return tuple(value) if isinstance(value, list) else value


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"must be [low, high] with low <= high, got [{value[0]}, {value[1]}]")
    if max(-value[0], value[1], value[1] - value[0]) > _LARGEST:
        raise ValueError(f"must fit into float32, whose largest number is {_LARGEST:.4g}, got {list(value)}")
    return value


def _in_float32(value: float) -> float:
    """Refuse what training, which is in float32, would take for infinity or for zero."""
    if value and not _SMALLEST <= abs(value) <= _LARGEST:
        raise ValueError(f"must be a number of float32, {_SMALLEST:.4g} to {_LARGEST:.4g} in size")
    return value


def _distinct(value: tuple[int, ...]) -> tuple[int, ...]:
    twice = sorted(item for item, count in Counter(value).items() if count > 1)
    if twice:
        raise ValueError(f"must not hold the same number twice, got {', '.join(map(str, twice[:10]))} again")
    return value


def _auto_or_up_to(largest: int) -> BeforeValidator:
    def check(value: Any) -> Any:
        if value != "auto" and (type(value) is not int or not 1 <= value <= largest):
            raise ValueError(f"must be 'auto' or a whole number from 1 to {largest:,}")
        return value

    return BeforeValidator(check)


Interval: TypeAlias = Annotated[tuple[float, float], BeforeValidator(list_to_tuple), AfterValidator(_ordered)]
# torch's generator on the CPU reads 32 bits of a seed: larger ones would begin alike.
Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**32)]
Count: TypeAlias = Annotated[int, Field(ge=1, le=10**9)]
CountOrZero: TypeAlias = Annotated[int, Field(ge=0, le=10**9)]
Float32: TypeAlias = Annotated[float, AfterValidator(_in_float32)]
NonNegative: TypeAlias = Annotated[Float32, Field(ge=0)]
Positive: TypeAlias = Annotated[Float32, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class TasksConfig(_Section):
    """The family of tasks: y = amplitude * sin(frequency * x - phase) + noise."""

    family: Literal["sinusoid"] = "sinusoid"
    """The task family."""
    amplitude: Interval = (0.1, 5.0)
    """Amplitudes are uniform in [low, high]."""
    phase: Interval = (0.0, 3.141592653589793)
    """Phases are uniform in [low, high], in radians."""
    frequency: Interval = (1.0, 1.0)
    """Angular frequencies are uniform in [low, high], in radians per unit of x."""
    x: Interval = (-5.0, 5.0)
    """Inputs of support and query samples are uniform in [low, high]."""
    noise_std: NonNegative = 0.0
    """Standard deviation of the Gaussian noise on every y, support and query."""
    oracle_inputs: bool = False
    """Whether the model is told the task: amplitude, phase and frequency are inputs beside x. The best that adaptation
    could reach."""
    support_shots: Count = 10
    """K: support samples of a task in meta-training."""
    query_shots: Count = 10
    """Q: query samples of a task in meta-training."""
    corrupted_slots: CountOrZero = 0
    """C: the targets of the first C support samples of every task say nothing: they are uniform in [-5, 5]."""

    @model_validator(mode="after")
    def _leaves_clean_slots(self) -> "TasksConfig":
        if self.corrupted_slots >= self.support_shots:
            raise ValueError(
                f"corrupted_slots must be less than support_shots ({self.support_shots}), got {self.corrupted_slots}"
            )
        return self


class ModelConfig(_Section):
    """The functional MLP from x to y."""

    hidden_sizes: Annotated[tuple[Count, ...], BeforeValidator(list_to_tuple)] = (40, 40)
    """Units of each hidden layer; an empty list is a linear model."""
    activation: Literal["relu", "tanh", "sigmoid", "gelu", "silu", "elu", "softplus"] = "relu"
    """What follows each hidden layer."""
    init: Literal["torch_default", "truncated_normal"] = "torch_default"
    """`torch_default`: as `torch.nn.Linear`. `truncated_normal`: weights of std 0.01 cut at two std, zero
    biases, as in the original MAML code."""


class AlgorithmConfig(_Section):
    """How the meta-gradient is made."""

    name: Literal["maml", "joint", "chain"] = "maml"
    """`maml` learns an initialisation to adapt from; `joint` trains one model on all samples of all tasks, without
    adaptation, and is the baseline; `chain` adapts a teacher on weighted support samples and a student on what the
    teacher says, and learns both initialisations and the weights from the student's loss."""
    order: Literal["first", "second"] = "second"
    """`second` differentiates through the inner gradients; `first` takes them as constants."""
    inner_steps: CountOrZero = 1
    """Gradient steps of adaptation in meta-training."""
    inner_lr: NonNegative = 0.01
    """alpha: the step size of adaptation, in meta-training and at test time."""
    learned_inner_lr: Literal["tensor", "tensor_and_step", "parameter"] | None = None
    """Learn the step sizes too, one for each tensor, for each tensor and step, or for each parameter (Meta-SGD). A step
    beyond those of training takes the rates of the last one."""
    inner_lr_init: Interval | None = None
    """Learned step sizes start uniform in [low, high]; null: all start at `inner_lr`."""
    unlabelled_inputs: Count = 20
    """U: inputs of a task that a chain's teacher labels for its student. Only `chain` draws them."""
    learn_slot_weights: bool = True
    """Whether a chain learns A, the weights of its support slots; they start at 1, and stay there if not."""

    @model_validator(mode="after")
    def _fits_together(self) -> "AlgorithmConfig":
        if self.learned_inner_lr is None and self.inner_lr_init is not None:
            raise ValueError("inner_lr_init needs learned_inner_lr: tensor, tensor_and_step or parameter")
        if self.learned_inner_lr is not None and (self.name != "maml" or self.inner_steps == 0):
            raise ValueError(
                "learned_inner_lr needs name: maml and inner_steps of at least 1: nothing else learns them"
            )
        if self.name == "chain" and (self.inner_steps == 0 or self.inner_lr == 0):
            raise ValueError("chain needs inner_steps of at least 1 and an inner_lr above 0: else nothing is taught")
        return self


class OuterConfig(_Section):
    """The meta-update."""

    steps: Count = 60000
    """Meta-updates of a run."""
    meta_batch_size: Count = 25
    """B: tasks of a meta-batch."""
    optimizer: Literal["adam", "adamw", "nadam", "radam", "adamax", "adagrad", "rmsprop", "sgd"] = "adam"
    """The optimiser of torch.optim, with PyTorch's defaults for all but the learning rate."""
    lr: Positive = 0.001
    """Learning rate of the meta-update, before the schedule."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate goes from `lr` to zero over `steps`; `constant` stays."""
    max_grad_norm: Positive | None = None
    """Clip the meta-gradient of each seed to this 2-norm; null does not clip."""
    on_divergence: Literal["stop", "freeze"] = "stop"
    """What happens if a seed's loss or meta-gradient is not finite: `stop` ends the run with exit code 5; `freeze`
    keeps that seed as it was before the step, marks it in every table, and goes on while one is healthy."""


class EvaluationConfig(_Section):
    """The meta-test."""

    tasks: Annotated[int, Field(ge=2, le=10**7)] = 600
    """Meta-test tasks, the same for every K, seed and run."""
    shots: Annotated[
        tuple[Count, ...],
        Field(max_length=100),
        BeforeValidator(list_to_tuple),
        AfterValidator(_distinct),
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


class RunConfig(_Section):
    """What a run writes, and when."""

    log_every_steps: Count = 100
    """Write metrics every so many meta-updates, and at the first and the last."""
    checkpoint_every_steps: Count = 5000
    """Save a checkpoint every so many meta-updates, and at the end."""
    keep_checkpoints: Count = 3
    """Keep this many checkpoints, the newest; an older one is deleted once a new one is whole."""


class EngineConfig(_Section):
    """How it is computed; none of it changes the numbers beyond rounding."""

    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the meta-update; `auto` does where a compiler is there and the run is long enough to earn it back, and
    says so."""
    inner_update: Literal["auto", "dense", "low_rank", "fused"] = "auto"
    """How adapted weights are held: `dense` is a matrix per task, `low_rank` the factors of its change, `fused` is
    dense and compiles to one C++ kernel (MAML, ReLU and Adam on a CPU); `auto` is low_rank from hidden layers of 128
    units on, and else fused where it can be."""
    task_chunk: Annotated[Literal["auto"] | int, _auto_or_up_to(10**9)] = "auto"
    """Tasks differentiated at a time; fewer hold less memory. `auto` cuts what holds more than about 16 MiB, which is
    also faster."""
    threads: Annotated[Literal["auto"] | int, _auto_or_up_to(1024)] = "auto"
    """CPU threads of training and meta-test, at most 1,024; `auto` is one for small experiments, and more as there is
    more to compute, but no more than there are idle cores, and fewer once other processes want them: threads that
    wait for a core slow a step down manyfold."""


class Config(_Section):
    """One experiment."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    """The experiment's name and the folder of its runs: up to 64 letters, digits, '.', '_' and '-'."""
    seeds: Annotated[
        tuple[Seed, ...],
        Field(max_length=10_000),
        BeforeValidator(list_to_tuple),
        AfterValidator(_distinct),
        Field(min_length=1),
    ] = (0, 1, 2)
    """The seeds of the run, trained side by side; each has its own initial parameters and tasks."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; `auto` takes CUDA if it is there and the CPU otherwise, and says which."""
    tasks: TasksConfig = TasksConfig()
    model: ModelConfig = ModelConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    outer: OuterConfig = OuterConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    run: RunConfig = RunConfig()
    engine: EngineConfig = EngineConfig()

    @model_validator(mode="after")
    def _chain_is_tested_as_trained(self) -> "Config":
        shots = self.tasks.support_shots
        if self.algorithm.name == "chain" and self.evaluation.shots != (shots,):
            raise ValueError(
                f"a chain has one weight for each of its support slots, so it is tested with as many: set "
                f"evaluation.shots: [{shots}], got {list(self.evaluation.shots)}"
            )
        return self

    @model_validator(mode="after")
    def _fused_can_be(self) -> "Config":
        if self.engine.inner_update == "fused" and (obstacles := fused_obstacles(self)):
            raise ValueError(f"engine.inner_update: fused cannot be with {', '.join(obstacles)}; use auto")
        return self


def fused_obstacles(config: Config) -> list[str]:
    """Say what of a config the fused meta-update is not made for; nothing if it can be used."""
    algorithm, engine = config.algorithm, config.engine
    return [
        obstacle
        for obstacle, is_there in {
            f"algorithm.name: {algorithm.name}": algorithm.name != "maml",
            f"algorithm.learned_inner_lr: {algorithm.learned_inner_lr}": algorithm.learned_inner_lr,
            f"model.activation: {config.model.activation}": config.model.activation != "relu",
            f"outer.optimizer: {config.outer.optimizer}": config.outer.optimizer != "adam",
            f"device: {config.device}": config.device not in ("auto", "cpu"),
            f"engine.task_chunk: {engine.task_chunk}": engine.task_chunk != "auto",
            "engine.compile: off": engine.compile == "off",
        }.items()
        if is_there
    ]


def known_keys(model: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """List every key of a config in dotted form, sections before their fields.

    >>> known_keys()[:4]
    ['name', 'seeds', 'device', 'tasks']
    """
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += known_keys(field.annotation, prefix + name + ".")
    return keys


def config_reference() -> str:
    """Describe every key in a Markdown table, from the texts beside the fields."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for key in known_keys():
        section, _, name = key.rpartition(".")
        model: Any = Config.model_fields[section].annotation if section else Config
        field = model.model_fields[name]
        if not isinstance(field.default, BaseModel):
            meaning = " ".join((field.description or "").split()).replace("|", r"\|")
            lines.append(f"| `{key}` | {_shown(field.default, required=field.is_required())} | {meaning} |")
    return "\n".join(lines)


def _shown(default: Any, *, required: bool) -> str:
    if required:
        return "required"
    if isinstance(default, tuple):
        return f"`[{', '.join(map(str, default))}]`"
    return "`null`" if default is None else f"`{default}`"
