"""Under which settings a run is tested: those that may differ from its own, where the results go, how they say so."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mamlcli.best import Chosen
from mamlcli.config.changes import changes, may_change, refused_changes, without_effect
from mamlcli.config.experiment import Config
from mamlcli.config.file import Override, dump_config, parse_config
from mamlcli.errors import UsageError
from mamlcli.rows import Protocol, SeedStep
from mamlcli.runs.checkpoints import Checkpoint
from mamlcli.runs.provenance import environment, utc_now
from mamlcli.types import Params

# What is measured. The rest of a config was trained, or says how it is computed.
_SECTIONS = ("tasks", "algorithm", "evaluation")
# Of whom it is measured, beside these.
_KEEP = "run.keep"
_LONGEST_NAME = 100
# Seeds that a sentence names.
_MAX_NAMED = 10


def tested_config(own: Config, overrides: Sequence[str | Override]) -> Config:
    """Change how a run is tested.

    Args:
        own: The run's own config.
        overrides: As for `mamlcli.load_config`.

    Raises:
        ConfigError: If an override is wrong.
        UsageError: If one changes what was trained, or would change nothing.
    """
    config = parse_config(dump_config(own), source="config of the run", overrides=overrides)
    if refused := refused_changes(own, config, "evaluate"):
        lines = "\n".join(f"  {line}" for line in refused)
        raise UsageError(
            f"an evaluation changes how a run is tested, and cannot change what was trained or kept:\n{lines}\n"
            f"these may change: {may_change(own, 'evaluate')}"
        )
    if idle := without_effect(own, config):
        raise UsageError("\n".join(idle))
    return config


def results_folder(home: Path, own: Config, tested: Config) -> Path:
    """Where the results of a meta-test go: the home of the run's own settings, or a folder that names what differs.

    The same settings always have the same folder, and other settings another one. How it is computed (the device, the
    engine) is no such setting.
    """
    differing = {key: new for key, (_, new) in changes(own, tested).items() if key.startswith((*_SECTIONS, _KEEP))}
    if not differing:
        return home
    name = "_".join(f"{key}={_shown(value)}" for key, value in differing.items())
    if len(name) > _LONGEST_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        name = f"{name[: _LONGEST_NAME - len(digest) - 1]}-{digest}"
    return home / "evaluations" / name


def _shown(value: Any) -> str:
    """A value as it may stand in a file's name: numbers, words and commas."""
    shown = json.dumps(value, separators=(",", ":")).strip('[]"')
    # Of mappings in a list, what no file's name has.
    return re.sub(r'["{}\[\]]', "", shown).replace(":", "=") if isinstance(value, list | tuple) else shown


def chosen_params(checkpoint: Checkpoint, config: Config, begun: Params, *, random_init: bool) -> Chosen:
    """The parameters that are tested: those that training began with, or of a checkpoint what `run.keep` says."""
    if random_init:
        return Chosen("initial", begun, (0,) * len(config.seeds), (None,) * len(config.seeds))
    return checkpoint.chosen(config.run.keep)


def protocol(
    config: Config, overrides: Sequence[str | Override], checkpoint: Checkpoint, chosen: Chosen, device: torch.device
) -> Protocol:
    """Say all that a meta-test depends on, for evaluation.json: settings, parameters, code and machine."""
    return {
        "config": config.model_dump(mode="json", include=set(_SECTIONS)),
        "overrides": [one.text if isinstance(one, Override) else one for one in overrides],
        "test_seed": config.evaluation.seed,
        "checkpoint_step": checkpoint.step,
        "checkpoint_sha256": checkpoint.sha256,
        "parameters": chosen.which,
        "parameter_steps": seed_steps(config.seeds, chosen),
        "date": utc_now(),
        **environment(device),  # type: ignore[typeddict-item]
    }


def seed_steps(seeds: Sequence[int], chosen: Chosen) -> list[SeedStep]:
    """Which parameters each seed is tested with."""
    found = zip(seeds, chosen.steps, chosen.losses, strict=True)
    return [{"seed": seed, "step": step, "meta_validation_loss": loss} for seed, step, loss in found]


def steps_in_words(steps: Sequence[SeedStep]) -> str:
    """Say at which step each seed is tested.

    >>> steps_in_words([{"seed": 0, "step": 1200, "meta_validation_loss": 0.5}])
    'seed 0 at step 1200'
    >>> steps_in_words([{"seed": seed, "step": 1200, "meta_validation_loss": 0.5} for seed in range(9)])
    'every seed at step 1200'
    """
    at = {one["step"] for one in steps}
    named = [f"seed {one['seed']} at step {one['step']}" for one in steps[:_MAX_NAMED]]
    named = [f"every seed at step {at.pop()}"] if len(at) == 1 and len(steps) > 1 else named
    unmeasured = [str(one["seed"]) for one in steps if one["meta_validation_loss"] is None]
    without = f"; the newest where it was never finite: seed {', '.join(unmeasured[:_MAX_NAMED])}" if unmeasured else ""
    return ", ".join(named) + (", ..." if len(steps) > _MAX_NAMED and len(named) > 1 else "") + without
