"""What of an experiment may differ from what was trained, and when; everything else stays as it was."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from mamlcli.config.experiment import Config
from mamlcli.config.reference import known_keys
from mamlcli.registry import CHOICES
from mamlcli.section import Section

When: TypeAlias = Literal["resume", "evaluate"]
"""A run is trained on under another config; or it is tested under other settings than its own."""

# A key, or a section for all of its keys; a key decides before its section does. A key that is missing here was
# trained, or names the run. Beside these, a family says by `test_keys` on which tasks a run is tested, and a method how
# it adapts to them. `run.log_every_steps` is missing because the metrics of a run have one interval: rows between those
# of the first part cannot be made any more, and config.yaml would no longer give the same run.
MAY_CHANGE: Mapping[str, tuple[When, ...]] = {
    # How it is computed: the numbers stay as they are to rounding, and a resumed run warns where that is all.
    "device": ("resume", "evaluate"),
    "engine": ("resume", "evaluate"),
    "parallel": ("resume", "evaluate"),
    # How it is tested.
    "evaluation": ("resume", "evaluate"),
    "run.keep": ("resume", "evaluate"),
    # One interval of rows as well; and an evaluation measures none.
    "evaluation.every_steps": (),
    # How far a run goes, and what is kept of it on the way.
    "outer.steps": ("resume",),
    "run.checkpoint_every_steps": ("resume",),
    "run.keep_checkpoints": ("resume",),
    # Where it is logged beside its folder, each time from its folder.
    "run.log_to": ("resume",),
}
# On what the meta-validation loss is measured: losses along one run are of the same tasks, or the least of them says
# nothing.
_VALIDATED_ON = ("evaluation.tasks", "evaluation.query_shots", "evaluation.grid", "evaluation.seed")


def changes(before: Config, after: Config) -> dict[str, tuple[Any, Any]]:
    """List the keys that differ between two experiments, in the order of the config, each with both values.

    >>> one, other = Config(name="a"), Config(name="a", device="cpu")
    >>> changes(one, other)
    {'device': ('auto', 'cpu')}
    """
    old, new = (flat(one.model_dump()) for one in (before, after))
    keys = [key for key in known_keys() if key in old or key in new]
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def not_default(config: Config) -> dict[str, Any]:
    """The keys of a config that are not at the default that they have with these tasks, by their dotted names.

    >>> not_default(Config(name="a", device="cpu"))
    {'name': 'a', 'device': 'cpu'}
    """
    defaults = _defaults(type(config))
    for name in type(config).model_fields:
        section = getattr(config, name)
        if isinstance(section, Section):
            del defaults[name]
            defaults |= {f"{name}.{key}": value for key, value in _defaults(type(section)).items()}
    # A section that is chosen has the defaults of its own class; that it was chosen is a key like others.
    defaults |= {f"{kind}.{choice.key}": choice.default for kind, choice in CHOICES.items()}
    defaults |= config.tasks.defaults()
    return {key: value for key, value in flat(config.model_dump()).items() if value != defaults.get(key, value)}


def _defaults(kind: type[BaseModel]) -> dict[str, Any]:
    """The default of every field, as it is dumped; None where there is none, which no value there is."""
    found: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        value = field.get_default(call_default_factory=True)
        found[name] = value.model_dump() if isinstance(value, BaseModel) else value
    return {name: None if value is PydanticUndefined else value for name, value in found.items()}


def refused_changes(before: Config, after: Config, when: When) -> list[str]:
    """Say of each key that differs and must not what it was and what it is now; nothing if all may."""
    allowed, kept = _allowed(before, when), _kept(before, when)
    return [
        f"{key}: {old} in the run, {new} now"
        for key, (old, new) in changes(before, after).items()
        if key in kept or not {key, key.partition(".")[0]} & allowed.keys()
    ]


def may_change(config: Config, when: When) -> str:
    """Name what may change of an experiment, for a message: keys, and sections with a star."""
    sections, kept = Config.model_fields.keys() - {"name", "seeds", "device"}, _kept(config, when)

    def of_section(section: str) -> str:
        stays = [key for key in kept if key.startswith(f"{section}.")]
        return f"{section}.*" + (f" (not {', '.join(stays)})" if stays else "")

    return ", ".join(of_section(key) if key in sections else key for key in _allowed(config, when))


def _allowed(config: Config, when: When) -> dict[str, None]:
    allowed = {key: None for key, moments in MAY_CHANGE.items() if when in moments}
    allowed |= {f"tasks.{key}": None for key in config.tasks.place_keys}
    if when == "evaluate":
        for kind in CHOICES:
            allowed |= {f"{kind}.{key}": None for key in getattr(getattr(config, kind), "test_keys", ())}
    return allowed


def _kept(config: Config, when: When) -> list[str]:
    """The keys that stay as they are though others of their section may change."""
    kept = [key for key, moments in MAY_CHANGE.items() if when not in moments]
    if when == "resume" and config.evaluation.every_steps is not None:
        kept += _VALIDATED_ON
    return [key for key in kept if key.partition(".")[0] in _allowed(config, when)]


def without_effect(before: Config, after: Config) -> list[str]:
    """Say of each changed key that an evaluation would not use why it would not."""
    reasons = {f"algorithm.{key}": reason for key, reason in after.algorithm.without_effect().items()}
    if after.evaluation.grid:
        reasons["evaluation.query_shots"] = "evaluation.grid takes the place of random query points"
    changed = changes(before, after)
    return [f"{key} would change nothing: {reason}" for key, reason in reasons.items() if key in changed]


def flat(values: dict[str, Any]) -> dict[str, Any]:
    """Values by their dotted keys; of a key that holds keys of its own, all of them."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
    return flat
