"""What every part of a config has in common, and the kinds of values that its fields hold. Loads no torch.

A family of tasks, a model and a method each bring a class of their own, which stands beside what it configures and
derives from `TasksSection`, `ModelSection` or `AlgorithmSection`.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from mamlcli.errors import UsageError

Item = TypeVar("Item", int, str)

Order: TypeAlias = Literal["first", "second"]
"""Whether the meta-gradient sees through the inner gradients ("second") or takes them as constants."""
InnerRule: TypeAlias = Literal["sgd", "momentum", "adam"]
"""What turns inner gradients into steps."""
RateKind: TypeAlias = Literal["tensor", "tensor_and_step", "parameter"]
"""What has a learned step size of its own."""
Adapts: TypeAlias = Literal["all", "head", "body"]
"""What of a model adapts to a task."""
Keep: TypeAlias = Literal["newest", "best"]
"""Which parameters a run is evaluated by."""
Tracker: TypeAlias = Literal["tensorboard", "wandb", "mlflow"]
"""Where a run can be logged beside its folder."""
Which: TypeAlias = Literal["initial", "newest", "best"]
"""Those, or the ones that training began with."""


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


def _all_positive(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] <= 0:
        raise ValueError(f"must hold positive numbers alone, got {list(value)}")
    return value


def _none_negative(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] < 0:
        raise ValueError(f"must hold no negative number, got {list(value)}")
    return value


def distinct(value: tuple[Item, ...]) -> tuple[Item, ...]:
    """Refuse a number or a name that stands there twice."""
    twice = sorted(item for item, count in Counter(value).items() if count > 1)
    if twice:
        kind = "name" if isinstance(twice[0], str) else "number"
        raise ValueError(f"must not hold the same {kind} twice, got {', '.join(map(str, twice[:10]))} again")
    return value


def auto_or_up_to(largest: int) -> BeforeValidator:
    """Accept `auto` or a whole number from 1 on."""

    def check(value: Any) -> Any:
        if value != "auto" and (type(value) is not int or not 1 <= value <= largest):
            raise ValueError(f"must be 'auto' or a whole number from 1 to {largest:,}")
        return value

    return BeforeValidator(check)


Interval: TypeAlias = Annotated[tuple[float, float], BeforeValidator(list_to_tuple), AfterValidator(_ordered)]
PositiveInterval: TypeAlias = Annotated[Interval, AfterValidator(_all_positive)]
NonNegativeInterval: TypeAlias = Annotated[Interval, AfterValidator(_none_negative)]
# torch's generator on the CPU reads 32 bits of a seed: larger ones would begin alike.
Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**32)]
Count: TypeAlias = Annotated[int, Field(ge=1, le=10**9)]
CountOrZero: TypeAlias = Annotated[int, Field(ge=0, le=10**9)]
Float32: TypeAlias = Annotated[float, AfterValidator(_in_float32)]
NonNegative: TypeAlias = Annotated[float, Field(ge=0), AfterValidator(_in_float32)]
Positive: TypeAlias = Annotated[float, Field(gt=0), AfterValidator(_in_float32)]
Decay: TypeAlias = Annotated[float, Field(ge=0, lt=1)]


def _from_folder(value: str, info: ValidationInfo) -> str:
    """Say where a file is that a config names: a relative name starts at the config's folder, or the working folder."""
    return str(Path((info.context or {}).get("folder", "")).absolute() / value)


FilePath: TypeAlias = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_from_folder)]


class Section(BaseModel):
    """A part of a config: frozen, strict, and closed to keys that it does not know."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Choosing(NamedTuple):
    """How a section that holds others of its kind finds them: in the context of a validation, under their kind."""

    classes: Mapping[str, type[Section]]
    """The class of each name."""
    make: Callable[[Any], Section]
    """Makes a section of a mapping, by the class of the name that stands in it."""


class Holds(NamedTuple):
    """What a section says that holds others of its kind: a list of mappings, each with the keys of one of them."""

    key: str
    """The list."""
    base: type[Section]
    """Which classes may stand there: those that derive from it, and hold none themselves."""
    entry: type[Section]
    """Its fields but the section itself are keys of a mapping too."""
    shared: frozenset[str]
    """Keys that all of them take from the section around."""


class TasksSection(Section):
    """What every family of tasks has: how many samples a task of meta-training holds.

    A family's class adds `family: Literal["its name"] = "its name"` and the keys of its own.
    """

    test_keys: ClassVar[tuple[str, ...]] = ()
    """Keys that an evaluation may change, since they say on which tasks a run is tested."""

    row_keys: ClassVar[tuple[str, ...]] = ()
    """Keys that may differ between runs which are trained as rows of one program: other numbers, of the same shapes."""

    place_keys: ClassVar[tuple[str, ...]] = ()
    """Keys that say where the data lie, which may be elsewhere as long as they are the same."""

    holds: ClassVar[Holds | None] = None
    """Where it holds other sections of families."""

    family: str
    """The family's name; its class gives the one value that it can have."""
    support_shots: Count = 10
    """K: support samples of a task in meta-training."""
    query_shots: Count = 10
    """Q: query samples of a task in meta-training."""

    def misfit(self, seeds: tuple[int, ...]) -> str | None:  # noqa: ARG002
        """Say what of the rest of an experiment the tasks cannot be with, and the remedy; None if nothing."""
        return None

    def defaults(self) -> dict[str, Any]:
        """Values that fit these tasks, of keys elsewhere in the config: they hold where the config says nothing."""
        return {}


class FunctionTasksSection(TasksSection):
    """What families have in common whose tasks are functions y = f(x), drawn with their inputs."""

    test_keys: ClassVar[tuple[str, ...]] = ("x", "noise_std", "corrupted_slots")
    row_keys: ClassVar[tuple[str, ...]] = ("x", "noise_std")

    num_inputs: ClassVar[int] = 1
    """Coordinates of x."""

    x: Interval = (-5.0, 5.0)
    """Inputs of support and query samples are uniform in [low, high]."""
    noise_std: NonNegative = 0.0
    """Standard deviation of the Gaussian noise on every y, support and query."""
    oracle_inputs: bool = False
    """Whether the model is told the task: the parameters of the function are inputs beside x. The best that adaptation
    could reach."""
    corrupted_slots: CountOrZero = 0
    """C: the targets of the first C support samples of every task say nothing: they are uniform in [-5, 5]."""
    pool: Annotated[int, Field(ge=1, le=10**6)] | None = None
    """N: meta-training draws from N tasks, ever new samples of each; null is endless. Each seed has N of its own;
    meta-test tasks are always new."""

    def defaults(self) -> dict[str, Any]:
        """From a pool, tasks that were not learned from say when to stop."""
        return {"evaluation.every_steps": 500, "run.keep": "best"} if self.pool else {}

    @model_validator(mode="after")
    def _leaves_clean_slots(self) -> Self:
        if self.corrupted_slots >= self.support_shots:
            raise ValueError(
                f"corrupted_slots must be less than support_shots ({self.support_shots}), got {self.corrupted_slots}"
            )
        return self


class ModelSection(Section):
    """What every model has: a name. Its class adds `name: Literal["its name"] = "its name"` and the keys of its own."""

    name: str
    """The model's name."""


class AlgorithmSection(Section):
    """What every method has: a name. Its class adds `name: Literal["its name"] = "its name"` and its own keys."""

    test_keys: ClassVar[tuple[str, ...]] = ()
    """Keys that an evaluation may change, since they say how a task is adapted to when training is over."""

    row_keys: ClassVar[tuple[str, ...]] = ()
    """Keys that may differ between runs which are trained as rows of one program: they say where training begins, or
    are numbers that the method takes from `given.<key>` among the meta-parameters of a seed where it stands there."""

    name: str
    """The method's name."""

    def in_order(self, order: Order) -> Self:  # noqa: ARG002
        """The same method with the meta-gradient of this order.

        Raises:
            UsageError: If it has no order.
        """
        raise UsageError(f"algorithm.name: {self.name} has one way to its meta-gradient, and so no order to compare")

    def misfit(self, support_shots: int, test_shots: tuple[int, ...]) -> str | None:  # noqa: ARG002
        """Say what of the rest of an experiment the method cannot be with, and the remedy; None if nothing."""
        return None

    def without_effect(self) -> dict[str, str]:
        """Keys among `test_keys` that would change nothing as the others are, and why."""
        return {}


class OrderedSection(AlgorithmSection):
    """What methods have in common that differentiate through inner gradients, or take them as constants."""

    order: Order = "second"
    """`second` differentiates through the inner gradients; `first` takes them as constants."""

    def in_order(self, order: Order) -> Self:
        """The same method with the meta-gradient of this order."""
        return self.model_copy(update={"order": order})
