"""The axes of a sweep: which keys of a config go through several values, and the configs that come of it."""

import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from mamlcli.config.changes import not_default
from mamlcli.config.experiment import Config
from mamlcli.config.file import Override, dump_config, parse_config
from mamlcli.errors import ConfigError, Remedy, UsageError
from mamlcli.escaping import shorten, visible

MAX_MEMBERS = 1000
"""Configs of one sweep."""
_LONGEST_NAME = 120
_MAX_PROBLEMS = 20
# What says how a run is tested, kept and computed, and not what it learns: by none of it can runs be ranked.
_NO_AXES = ("name", "seeds", "device", "evaluation", "run", "engine", "parallel")

Axes: TypeAlias = Mapping[str, Sequence[Any]]
"""Values of each key, by its dotted name."""
Points: TypeAlias = Sequence[Mapping[str, Any]]
"""Members one by one, where they make no grid: the same keys in each, with a value for each."""


class Member(NamedTuple):
    """A config of the grid."""

    name: str
    """Of its folder, like `inner_lr=0.01_lr=0.001`."""
    values: dict[str, Any]
    """What it has of each axis."""
    config: Config


def axes_of(points: Points) -> dict[str, list[Any]]:
    """The values that each key goes through in some points.

    Raises:
        UsageError: If they are none, or not of the same keys.
    """
    if not points or not all(isinstance(point, Mapping) for point in points):
        raise UsageError('points of a sweep are a list of values by key, like [{"outer.lr": 0.001}]')
    if any(point.keys() != points[0].keys() for point in points):
        raise UsageError("points of a sweep have the same keys")
    found: dict[str, list[Any]] = {key: [] for key in points[0]}
    for point in points:
        for key, value in point.items():
            if value not in found[key]:
                found[key].append(value)
    return found


def members_of(config: Config, axes: Axes | Points) -> list[Member]:
    """The members of a sweep: of axes every combination of their values, the last axis going through its values first.

    Args:
        config: What stays as it is.
        axes: At least one key, each with at least one value; or the members one by one.

    Raises:
        UsageError: If a key cannot be an axis, or there are too many members.
        ConfigError: If a key is unknown, or a value cannot be one of its key.
    """
    if isinstance(axes, Mapping):
        by_key: Axes = axes
        points: Iterable[tuple[Any, ...]] = itertools.product(*axes.values())
    else:
        by_key = axes_of(axes)
        points = (tuple(point[key] for key in by_key) for point in axes)
    _check(by_key, math.prod(map(len, by_key.values())) if isinstance(axes, Mapping) else len(axes))
    short = short_keys(by_key)
    members: list[Member] = []
    problems: dict[str, None] = {}
    remedy: Remedy | None = None
    for values in points:
        chosen = dict(zip(by_key, values, strict=True))
        try:
            made = _changed(config, chosen)
            members.append(Member(_name({short[key]: value for key, value in chosen.items()}), chosen, made))
        except ConfigError as error:
            problems |= dict.fromkeys(error.problems)
            remedy = remedy or error.remedy
    if problems:
        raise ConfigError(list(problems)[:_MAX_PROBLEMS], remedy)
    if len({member.name for member in members}) < len(members):
        raise UsageError("two members of the sweep would have the same folder: they are the same, or differ in signs")
    return members


def _check(axes: Axes, count: int) -> None:
    if not axes:
        remedy = Remedy('pass axes={"outer.lr": [0.001, 0.0003]}', "use --set outer.lr=0.001,0.0003")
        raise UsageError("a sweep needs an axis, a key with several values", remedy)
    for key, values in axes.items():
        section = key.partition(".")[0]
        if section in _NO_AXES:
            what = "it says how runs are named, tested or computed, not what they learn"
            said = f"{visible(shorten(key))} is no axis: {what}"
            remedy = Remedy("set it in the config, for all members", "give it one value, for all members")
            if section == "seeds":
                remedy = Remedy("set them in the config: each member has all", "use --seeds 0-2: each member has all")
            raise UsageError(said, remedy)
        if isinstance(values, str | Mapping) or not values:
            raise UsageError(f"{visible(shorten(key))}: an axis is a list of values, like [0.001, 0.0003]")
        if len({repr(value) for value in values}) < len(values):
            raise UsageError(f"{visible(shorten(key))}: an axis has each value once")
    if count > MAX_MEMBERS:
        raise UsageError(f"the axes make {count:,} members; a sweep has at most {MAX_MEMBERS:,}: take fewer values")


def _changed(config: Config, values: Mapping[str, Any]) -> Config:
    """A config with other values of some keys; what follows from others follows anew."""
    kept = [Override(f"{key}={_yaml(value)}", f"{key}") for key, value in not_default(config).items() if key != "name"]
    set_ = [Override(f"{key}={_yaml(value)}", f"axis {key}={shown(value)}") for key, value in values.items()]
    text = f"name: {_yaml(config.name)}"
    if parse_config(text, overrides=kept) != config:
        text, kept = dump_config(config), []
    return parse_config(text, source="config of the sweep", overrides=[*kept, *set_])


def _yaml(value: Any) -> str:
    """A value on one line, as YAML reads it."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, allow_nan=True)


def shown(value: Any) -> str:
    """A value as a person writes it.

    >>> shown([40, 40]), shown(0.001), shown(None), shown("cosine")
    ('40,40', '0.001', 'null', 'cosine')
    """
    return value if isinstance(value, str) else _yaml(value).strip("[]").replace(", ", ",").replace('"', "")


def short_keys(axes: Iterable[str]) -> dict[str, str]:
    """What axes are called in names: the end of each key, unless two have the same.

    >>> short_keys(["outer.lr", "algorithm.name"])
    {'outer.lr': 'lr', 'algorithm.name': 'algorithm'}
    """
    ends = [key.removesuffix(".name").rpartition(".")[2] for key in axes]
    return {key: end if ends.count(end) == 1 else key for key, end in zip(axes, ends, strict=True)}


def _name(values: Mapping[str, Any]) -> str:
    """What the folder of a member is called."""
    text = "_".join(f"{key}={shown(value)}" for key, value in values.items())
    name = re.sub(r"[^A-Za-z0-9._,=+-]", "-", text)
    if len(name) > _LONGEST_NAME:
        raise UsageError(
            f"the folder of a member would be called {shorten(visible(name))}, in {len(name)} letters of at most "
            f"{_LONGEST_NAME}: take fewer axes, or shorter values"
        )
    return name
