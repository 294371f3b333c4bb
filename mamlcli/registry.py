"""Which families of tasks, models and methods there are: the only place that knows more than one of them.

A line here (or a plugin's call of `register_...`) is all that makes one usable. Loads no torch: an entry's builder
loads what it needs when it is called.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, get_args

from mamlcli.errors import UsageError
from mamlcli.methods import chain, joint, maml
from mamlcli.models import mlp
from mamlcli.section import AlgorithmSection, ModelSection, Section, TasksSection
from mamlcli.tasks import damped_oscillator, dose_response, sinusoid

Kind: TypeAlias = Literal["tasks", "model", "algorithm"]
"""A section of the config whose keys depend on what it chooses."""
Builder = TypeVar("Builder", bound=Callable[..., Any])


class Entry(NamedTuple):
    """Something that a config can name."""

    config: type[Section]
    """Its keys; its first field of `choosing_key` holds its name."""
    build: Callable[..., Any]
    """Makes the value; see `register_family`, `register_model` and `register_method`."""


class Choice(NamedTuple):
    """A section that chooses by one of its keys."""

    key: str
    """Which key: `family` or `name`."""
    default: str
    """What is chosen where the key is left out."""
    base: type[Section]
    word: str
    """What is chosen, for messages."""


CHOICES: dict[Kind, Choice] = {
    "tasks": Choice("family", "sinusoid", TasksSection, "family"),
    "model": Choice("name", "mlp", ModelSection, "model"),
    "algorithm": Choice("name", "maml", AlgorithmSection, "method"),
}

_ENTRIES: dict[Kind, dict[str, Entry]] = {
    "tasks": {
        "sinusoid": Entry(sinusoid.SinusoidTasks, sinusoid.sinusoid),
        "damped_oscillator": Entry(damped_oscillator.DampedOscillatorTasks, damped_oscillator.damped_oscillator),
        "dose_response": Entry(dose_response.DoseResponseTasks, dose_response.dose_response),
    },
    "model": {"mlp": Entry(mlp.MlpConfig, mlp.mlp)},
    "algorithm": {
        "maml": Entry(maml.MamlConfig, maml.maml),
        "joint": Entry(joint.JointConfig, joint.joint),
        "chain": Entry(chain.ChainConfig, chain.chain),
    },
}


def entries(kind: Kind) -> dict[str, Entry]:
    """What a section can choose, by name."""
    return dict(_ENTRIES[kind])


def build(kind: Kind, section: Section, *arguments: Any) -> Any:
    """Make the value that a section of a config describes."""
    return _ENTRIES[kind][getattr(section, CHOICES[kind].key)].build(section, *arguments)


def register_family(config: type[TasksSection]) -> Callable[[Builder], Builder]:
    """Make a family of tasks usable under the name that its config class gives `family`.

    Decorates a function that maps the config to a `TaskFamily`.

    Raises:
        UsageError: If the class names no family, or one that is there.
    """
    return _registering("tasks", config)


def register_model(config: type[ModelSection]) -> Callable[[Builder], Builder]:
    """Make a model usable under the name that its config class gives `name`.

    Decorates a function that maps (config, number of inputs, number of outputs) to a `Model`.

    Raises:
        UsageError: If the class has no name, or one that is there.
    """
    return _registering("model", config)


def register_method(config: type[AlgorithmSection]) -> Callable[[Builder], Builder]:
    """Make a method usable under the name that its config class gives `name`.

    Decorates a function that maps (config, `Bench`) to a `Method`.

    Raises:
        UsageError: If the class has no name, or one that is there.
    """
    return _registering("algorithm", config)


def _registering(kind: Kind, config: type[Section]) -> Callable[[Builder], Builder]:
    choice = CHOICES[kind]
    field = config.model_fields.get(choice.key)
    names = get_args(field.annotation) if field else ()
    if not issubclass(config, choice.base) or len(names) != 1 or field is None or field.default != names[0]:
        raise UsageError(
            f"{config.__name__} must derive from {choice.base.__name__} and say {choice.key}: Literal[...] = ... with "
            f"the {choice.word}'s one name"
        )
    name = str(names[0])
    there = _ENTRIES[kind].get(name)
    if there is not None and there.config.__module__ != config.__module__:
        raise UsageError(f"a {choice.word} named {name!r} is there already; choose another name")

    def register(builder: Builder) -> Builder:
        _ENTRIES[kind][name] = Entry(config, builder)
        return builder

    return register
