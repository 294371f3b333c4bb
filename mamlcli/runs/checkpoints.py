"""Checkpoints: tensors and plain values in a file, and a hash beside it that says it is whole."""

import hashlib
import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from mamlcli.config import Config
from mamlcli.config_file import config_differences, dump_config, parse_config
from mamlcli.errors import CheckpointError, ConfigError
from mamlcli.runs.files import write_atomic
from mamlcli.training import TrainState
from mamlcli.types import Params

SCHEMA = "mamlcli.checkpoint/2"

T = TypeVar("T")


class Checkpoint(NamedTuple):
    """What a checkpoint file holds."""

    path: Path
    config: Config
    step: int
    params: Params
    optimizer: dict[str, Any]
    updates: list[int]
    """Updates made of each seed; fewer than `step` for one that diverged and was frozen."""

    @property
    def frozen(self) -> dict[int, int]:
        """Which seeds have diverged, and at which step each."""
        made = zip(self.config.seeds, self.updates, strict=True)
        return {seed: updates + 1 for seed, updates in made if updates < self.step}


def save_checkpoint(folder: Path, state: TrainState, config: Config) -> Path:
    """Write `step-<n>.pt`, and before it `step-<n>.pt.sha256`, a line that `sha256sum -c` understands."""
    buffer = io.BytesIO()
    content = {
        "schema": SCHEMA,
        "config": dump_config(config),
        "step": state.step,
        "params": {name: theta.detach() for name, theta in state.params.items()},
        "optimizer": state.optimizer.state_dict(),
        "updates": state.updates.tolist(),
    }
    torch.save(content, buffer)
    path = folder / f"step-{state.step}.pt"
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    write_atomic(_hash_path(path), f"{digest}  {path.name}\n".encode())
    write_atomic(path, buffer.getvalue())
    return path


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a checkpoint file that may come from anywhere; no code in it is run.

    A file in a folder `checkpoints` of a run must have its hash beside it; any other is checked if it has one.

    Raises:
        CheckpointError: If the file is damaged, or is no checkpoint of this program.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read the checkpoint: {error.strerror}") from None
    hash_path = _hash_path(path)
    if not hash_path.exists() and (path.parent.parent / "run.json").exists():
        raise CheckpointError(f"{path}: cannot be trusted: {hash_path.name} is missing")
    if hash_path.exists() and hash_path.read_text("utf-8", "replace")[:64] != hashlib.sha256(raw).hexdigest():
        raise CheckpointError(f"{path}: damaged: its SHA-256 differs from the one in {hash_path.name}")
    try:
        content = torch.load(io.BytesIO(raw), map_location=device, weights_only=True)
    except pickle.UnpicklingError:
        reason = "it is damaged, or holds more than tensors and plain values"
        raise CheckpointError(f"{path}: not a checkpoint that can be read: {reason}") from None
    except Exception as error:  # what torch raises on a file made of chance bytes is not documented
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(f"{path}: not a checkpoint that can be read: {reason}") from None
    return _checked(path, content)


def _checked(path: Path, content: Any) -> Checkpoint:
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise CheckpointError(f"{path}: not a checkpoint of mamlcli ({SCHEMA})")
    try:
        config = parse_config(content["config"], source=f"{path}(config)")
        checkpoint = Checkpoint(path, config, *(content[name] for name in _PARTS))
    except (ConfigError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path}: not a checkpoint that this version can use: {error}") from None
    return checkpoint


def restore(state: TrainState, checkpoint: Checkpoint, config: Config) -> None:
    """Put a checkpoint's parameters, optimiser state and step into a state of the same shape, in place.

    Raises:
        CheckpointError: If it is of another experiment, or names, shapes or dtypes differ.
    """
    check_fits(checkpoint, state.params)
    check_experiment(checkpoint, config)
    ours = state.optimizer.state_dict()["param_groups"]
    with torch.no_grad():
        for name, theta in state.params.items():
            theta.copy_(checkpoint.params[name])
    try:
        state.optimizer.load_state_dict({"state": checkpoint.optimizer["state"], "param_groups": ours})
        state.updates.copy_(torch.tensor(checkpoint.updates))
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{checkpoint.path}: the optimiser's state does not fit: {error}") from None
    for group in state.optimizer.param_groups:
        group["lr"] = state.lr
    state.step = checkpoint.step
    state.alive.copy_(state.updates == checkpoint.step)


def check_fits(checkpoint: Checkpoint, expected: Params) -> None:
    """Raise CheckpointError unless the parameters have the expected names, shapes and dtypes."""

    def describe(params: Any) -> dict[str, str]:
        try:
            return {name: f"{tuple(theta.shape)} {theta.dtype}" for name, theta in params.items()}
        except AttributeError:
            return {"params": "no tensors"}

    ours, theirs = describe(expected), describe(checkpoint.params)
    differences = [
        f"{name}: {theirs.get(name, 'missing')} in the file, {ours.get(name, 'not there')} in the config"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
    if differences:
        raise CheckpointError(f"{checkpoint.path}: of another model: " + "; ".join(differences))


def check_experiment(checkpoint: Checkpoint, config: Config) -> None:
    """Raise CheckpointError unless a checkpoint was made by this experiment."""
    different = config_differences(checkpoint.config, config)
    if different:
        raise CheckpointError(f"{checkpoint.path}: of another experiment: " + "; ".join(different))


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoint files of a folder, the newest step first."""
    found = [(int(match[1]), path) for path in folder.glob("step-*.pt") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


def use_newest(folder: Path, use: Callable[[Path], T], note: Callable[[str], None]) -> T | None:
    """Use the newest checkpoint of a run that can be used, naming each that cannot.

    Args:
        folder: The run's folder of checkpoints.
        use: Loads a file; a CheckpointError sends it on to the one before.
        note: Hears of each file that is passed over.

    Returns:
        What `use` returned, or None if there is no file at all.

    Raises:
        CheckpointError: If there are files and none can be used.
    """
    paths = list_checkpoints(folder)
    for path in paths:
        try:
            return use(path)
        except CheckpointError as error:
            note(f"warning: checkpoint not used: {error}")
    if paths:
        raise CheckpointError(f"{folder.parent}: none of its {len(paths)} checkpoints can be used")
    return None


_PARTS = ("step", "params", "optimizer", "updates")
_NAME = re.compile(r"step-(\d{1,12})\.pt")


def _hash_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")
