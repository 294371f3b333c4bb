"""What of an experiment may differ from what was trained, and when; everything else stays as it was."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from mamlcli.config.experiment import Config, known_keys

When: TypeAlias = Literal["resume", "evaluate"]
"""A run is trained on under another config; or it is tested under other settings than its own."""

# A key, or a section for all of its keys. A key that is missing here was trained, or names the run.
# `run.log_every_steps` is missing because the metrics of a run have one interval: rows between those of the first part
# cannot be made any more, and config.yaml would no longer give the same run.
MAY_CHANGE: Mapping[str, tuple[When, ...]] = {
    # How it is computed: the numbers stay as they are to rounding, and a resumed run warns where that is all.
    "device": ("resume", "evaluate"),
    "engine": ("resume", "evaluate"),
    # How it is tested.
    "evaluation": ("resume", "evaluate"),
    # On which tasks and with which step it is tested; to train on under others would be another experiment.
    "tasks.amplitude": ("evaluate",),
    "tasks.phase": ("evaluate",),
    "tasks.frequency": ("evaluate",),
    "tasks.x": ("evaluate",),
    "tasks.noise_std": ("evaluate",),
    "tasks.corrupted_slots": ("evaluate",),
    "algorithm.inner_lr": ("evaluate",),
    # How far a run goes, and what is kept of it on the way.
    "outer.steps": ("resume",),
    "run.checkpoint_every_steps": ("resume",),
    "run.keep_checkpoints": ("resume",),
}


def changes(before: Config, after: Config) -> dict[str, tuple[Any, Any]]:
    """List the keys that differ between two experiments, in the order of the config, each with both values.

    >>> one, other = Config(name="a"), Config(name="a", device="cpu")
    >>> changes(one, other)
    {'device': ('auto', 'cpu')}
    """
    old, new = (_flat(one.model_dump()) for one in (before, after))
    return {key: (old[key], new[key]) for key in known_keys() if key in old and old[key] != new[key]}


def refused_changes(before: Config, after: Config, when: When) -> list[str]:
    """Say of each key that differs and must not what it was and what it is now; nothing if all may."""
    return [
        f"{key}: {old} in the run, {new} now"
        for key, (old, new) in changes(before, after).items()
        if when not in MAY_CHANGE.get(key, ()) + MAY_CHANGE.get(key.partition(".")[0], ())
    ]


def may_change(when: When) -> str:
    """Name what may change, for a message: keys, and sections with a star."""
    sections = Config.model_fields.keys() - {"name", "seeds", "device"}
    return ", ".join(f"{key}.*" if key in sections else key for key, allowed in MAY_CHANGE.items() if when in allowed)


def without_effect(before: Config, after: Config) -> list[str]:
    """Say of each changed key that an evaluation would not use why it would not."""
    reasons = {
        "algorithm.inner_lr": "this run has learned its inner learning rates"
        if after.algorithm.learned_inner_lr
        else "",
        "evaluation.query_shots": "evaluation.grid takes the place of random query points"
        if after.evaluation.grid
        else "",
    }
    changed = changes(before, after)
    return [f"{key} would change nothing: {reason}" for key, reason in reasons.items() if reason and key in changed]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
