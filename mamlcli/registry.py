"""Which families of tasks, models and methods there are: the only place that knows more than one of them.

A line here (or a plugin's call of `register_...`) is all that makes one usable. Loads no torch: an entry's builder
loads what it needs when it is called.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, get_args

from mamlcli.errors import UsageError
from mamlcli.methods import averaged, cavia, chain, hessian_free, imaml, joint, maml, reptile
from mamlcli.models import mlp
from mamlcli.section import AlgorithmSection, ModelSection, Section, TasksSection
from mamlcli.tasks import (
    absolute_value,
    cubic,
    damped_oscillator,
    dose_response,
    harmonic,
    linear,
    mixture,
    quadratic,
    ripple,
    sawtooth,
    sinusoid,
    surface,
    table,
    tanh,
)

Kind: TypeAlias = Literal["tasks", "model", "algorithm"]
"""A section of the config whose keys depend on what it chooses."""
Builder = TypeVar("Builder", bound=Callable[..., Any])


class Entry(NamedTuple):
    """Something that a config can name."""

    config: type[Section]
    """Its keys; its first field of `choosing_key` holds its name."""
    build: Callable[..., Any]
    """Makes the value; see `register_family`, `register_model` and `register_method`."""
    recall: Callable[[Any, Mapping[str, Any]], Any] | None = None
    """Makes the value from what a checkpoint kept of its data, which need not be at hand: maps (section, record) to it.
    None where there is no such data, and it is built."""
    read: Callable[[Any], Any] | None = None
    """Reads the data that the value is built from, and `build` takes them beside the section: maps the section to them.
    None where there are no such data."""


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
        "linear": Entry(linear.LinearTasks, linear.linear),
        "quadratic": Entry(quadratic.QuadraticTasks, quadratic.quadratic),
        "cubic": Entry(cubic.CubicTasks, cubic.cubic),
        "absolute_value": Entry(absolute_value.AbsoluteValueTasks, absolute_value.absolute_value),
        "tanh": Entry(tanh.TanhTasks, tanh.tanh),
        "sawtooth": Entry(sawtooth.SawtoothTasks, sawtooth.sawtooth),
        "harmonic": Entry(harmonic.HarmonicTasks, harmonic.harmonic),
        "surface": Entry(surface.SurfaceTasks, surface.surface),
        "ripple": Entry(ripple.RippleTasks, ripple.ripple),
        "mixture": Entry(mixture.MixtureTasks, lambda config: mixture.mixture(config, partial(build, "tasks"))),
        "table": Entry(table.TableTasks, table.table, table.recall_table, table.read_worlds),
    },
    "model": {"mlp": Entry(mlp.MlpConfig, mlp.mlp)},
    "algorithm": {
        "maml": Entry(maml.MamlConfig, maml.maml),
        "joint": Entry(joint.JointConfig, joint.joint),
        "averaged": Entry(averaged.AveragedConfig, averaged.averaged),
        "chain": Entry(chain.ChainConfig, chain.chain),
        "reptile": Entry(reptile.ReptileConfig, reptile.reptile),
        "cavia": Entry(cavia.CaviaConfig, cavia.cavia),
        "imaml": Entry(imaml.ImamlConfig, imaml.imaml),
        "hessian_free": Entry(hessian_free.HessianFreeConfig, hessian_free.hessian_free),
    },
}


def entries(kind: Kind) -> dict[str, Entry]:
    """What a section can choose, by name."""
    return dict(_ENTRIES[kind])


def build(kind: Kind, section: Section, *arguments: Any) -> Any:
    """Make the value that a section of a config describes; data that it needs are read where they are not passed."""
    read = reader(kind, section)
    if read is not None and not arguments:
        arguments = (read(),)
    return _entry(kind, section).build(section, *arguments)


def reader(kind: Kind, section: Section) -> Callable[[], Any] | None:
    """What reads the data that `build` takes beside a section; None where it takes none."""
    read = _entry(kind, section).read
    return None if read is None else partial(read, section)


def recall(kind: Kind, section: Section, record: Mapping[str, Any]) -> Any:
    """Make the value that a section of a config describes without its data, from what a checkpoint kept of them."""
    remembered = _entry(kind, section).recall
    return build(kind, section) if remembered is None else remembered(section, record)


def _entry(kind: Kind, section: Section) -> Entry:
    return _ENTRIES[kind][getattr(section, CHOICES[kind].key)]


def register_family(
    config: type[TasksSection],
    *,
    recall: Callable[[Any, Mapping[str, Any]], Any] | None = None,
    read: Callable[[Any], Any] | None = None,
) -> Callable[[Builder], Builder]:
    """Make a family of tasks usable under the name that its config class gives `family`.

    Decorates a function that maps the config to a `TaskFamily`.

    Args:
        config: Its keys.
        recall: Maps (config, record) to the same family without its tasks, where they come from data that need not be
            at hand once a run is trained: `record` is what its `TaskFamily.record` was.
        read: Maps the config to data that the decorated function takes as a second argument. Of the processes of a
            machine that train together one calls it, and all have its arrays, of NumPy, in one place of memory; the
            rest is pickled. `place_keys` of the config's class are the files, which are read again once they change.

    Raises:
        UsageError: If the class names no family, or one that is there.
    """
    return _registering("tasks", config, recall, read)


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


def _registering(
    kind: Kind,
    config: type[Section],
    recall: Callable[[Any, Mapping[str, Any]], Any] | None = None,
    read: Callable[[Any], Any] | None = None,
) -> Callable[[Builder], Builder]:
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
        _ENTRIES[kind][name] = Entry(config, builder, recall, read)
        return builder

    return register
