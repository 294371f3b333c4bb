"""Checkpoints: tensors and plain values in a file, and a hash beside it that says it is whole."""

import hashlib
import io
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from mamlcli.best import Best, Chosen, choose
from mamlcli.config.changes import refused_changes
from mamlcli.config.experiment import Config
from mamlcli.config.file import dump_config, parse_config
from mamlcli.errors import CheckpointError, ConfigError, UsageError
from mamlcli.reading import open_file
from mamlcli.runs.archive import check_archive
from mamlcli.runs.best_content import best_content, best_of
from mamlcli.runs.checkpoint_files import hash_path, is_checkpoint_name, read_hash, step_of
from mamlcli.runs.checkpoint_files import list_checkpoints as list_checkpoints
from mamlcli.runs.compatible import optimizer_problem, params_problem
from mamlcli.runs.files import flush_folder, write_atomic
from mamlcli.runs.provenance import by_an_earlier_version
from mamlcli.section import Keep
from mamlcli.training import TrainState
from mamlcli.types import Params

SCHEMA = "mamlcli.checkpoint/3"
_EARLIER_SCHEMAS = ("mamlcli.checkpoint/1", "mamlcli.checkpoint/2")
MAX_BYTES = 2**34

T = TypeVar("T")


class Checkpoint(NamedTuple):
    """What a checkpoint file holds."""

    path: Path
    sha256: str
    """Of the file, in hexadecimal digits."""
    config: Config
    step: int
    params: Params
    optimizer: dict[str, Any]
    updates: list[int]
    """Updates made of each seed; fewer than `step` for one that diverged and was frozen."""
    best: Best | None = None
    """None where no meta-validation loss was measured yet, as in checkpoints of earlier versions."""
    record: Mapping[str, Any] = {}
    """What was kept of the data behind the tasks; see `TaskFamily.record`."""

    @property
    def frozen(self) -> dict[int, int]:
        """Which seeds have diverged, and at which step each."""
        made = zip(self.config.seeds, self.updates, strict=True)
        return {seed: updates + 1 for seed, updates in made if updates < self.step}

    def chosen(self, keep: Keep) -> Chosen:
        """The parameters that a run is evaluated by."""
        return choose(keep, self.params, self.best, self.step, torch.tensor(self.updates))


def save_checkpoint(folder: Path, state: TrainState, config: Config, record: Mapping[str, Any]) -> Path:
    """Write a checkpoint; once it is whole, all but the newest `run.keep_checkpoints` are deleted."""
    path = write_checkpoint(folder, state, config, record)
    prune_checkpoints(folder, state.step, config.run.keep_checkpoints)
    return path


def write_checkpoint(folder: Path, state: TrainState, config: Config, record: Mapping[str, Any]) -> Path:
    """Write `step-<n>.pt`, and before it `step-<n>.pt.sha256`, a line that `sha256sum -c` understands."""
    buffer = io.BytesIO()
    content = {
        "schema": SCHEMA,
        "config": dump_config(config),
        "step": state.step,
        "params": _plain(state.params),
        "optimizer": _plain(state.optimizer.state_dict()),
        "updates": state.updates.tolist(),
        "best": None if state.best is None else best_content(state.best),
        "tasks": dict(record),
    }
    torch.save(content, buffer)
    path = folder / f"step-{state.step}.pt"
    line = f"{hashlib.sha256(buffer.getvalue()).hexdigest()}  {path.name}\n"
    # Until the new content is there, the hash of what it replaces stays valid beside its own.
    before = read_hash(hash_path(path)) if path.exists() and hash_path(path).exists() else ""
    write_atomic(hash_path(path), (line + before).encode())
    write_atomic(path, buffer.getvalue())
    if before:
        write_atomic(hash_path(path), line.encode())
    return path


def prune_checkpoints(folder: Path, step: int, keep: int) -> None:
    """Delete all but the newest checkpoints up to a step, the file before its hash, and hashes without a file."""
    up_to = [path for path in list_checkpoints(folder) if step_of(path) <= step]
    for path in up_to[keep:]:
        path.unlink(missing_ok=True)
    for path in folder.glob("step-*.pt.sha256"):
        if is_checkpoint_name(path.stem) and not path.with_name(path.stem).exists():
            path.unlink(missing_ok=True)
    flush_folder(folder)


def set_aside(path: Path) -> Path:
    """Give a checkpoint that cannot be used a name under which it is neither loaded, replaced nor deleted."""
    aside = path.with_name(f"{path.name}.unusable")
    count = 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.unusable-{count}")
    path.rename(aside)
    if hash_path(path).exists():
        hash_path(path).rename(hash_path(aside))
    return aside


def load_checkpoint(path: Path, device: torch.device | str = "cpu", *, max_bytes: int = MAX_BYTES) -> Checkpoint:
    """Read a checkpoint file that may come from anywhere; no code in it is run.

    A file in a folder `checkpoints` of a run must have its hash beside it; any other is checked if it has one.

    Args:
        path: The file.
        device: Where its tensors go.
        max_bytes: A longer file is refused unread.

    Raises:
        CheckpointError: If the file is damaged, or is no checkpoint of this program.
    """
    raw, sha256 = _read(path, max_bytes)
    try:
        check_archive(raw)
        content = torch.load(io.BytesIO(raw), map_location=device, weights_only=True)
    except pickle.UnpicklingError:
        reason = "it is damaged, or holds more than tensors and plain values"
        raise CheckpointError(f"{path}: not a checkpoint that can be read: {reason}") from None
    except Exception as error:  # what torch raises on a file made of chance bytes is not documented
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(f"{path}: not a checkpoint that can be read: {reason}") from None
    return _checked(path, sha256, content)


def _read(path: Path, max_bytes: int) -> tuple[bytes, str]:
    """Read a file and compare it with its hash; returns both."""
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                reason = f"it is longer than {max_bytes} bytes"
                raise CheckpointError(f"{path}: not a checkpoint of this experiment: {reason}")
            raw = file.read(size)  # no more is allocated than the file was long
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read the checkpoint: {error.strerror}") from None
    beside = hash_path(path)
    if not beside.exists():
        if (path.parent.parent / "run.json").exists():
            raise CheckpointError(f"{path}: cannot be trusted: {beside.name} is missing")
        return raw, hashlib.sha256(raw).hexdigest()
    try:
        lines = read_hash(beside).splitlines()
    except OSError as error:
        raise CheckpointError(f"{beside}: cannot read it: {error.strerror}") from None
    sha256 = hashlib.sha256(raw).hexdigest()
    if sha256 not in [line[:64] for line in lines]:
        raise CheckpointError(f"{path}: damaged: its SHA-256 differs from the one in {beside.name}")
    return raw, sha256


def _checked(path: Path, sha256: str, content: Any) -> Checkpoint:
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema in _EARLIER_SCHEMAS:
        raise CheckpointError(f"{path}: {by_an_earlier_version(schema)}")
    if schema != SCHEMA:
        raise CheckpointError(f"{path}: not a checkpoint of mamlcli ({SCHEMA})")
    try:
        config = parse_config(content["config"], source=f"{path}(config)")
        checkpoint = Checkpoint(path, sha256, config, *(content[name] for name in _PARTS))
    except ConfigError as error:
        problems = "\n".join(error.problems)
        raise CheckpointError(f"{path}: not a checkpoint that this version can use: {problems}", error.remedy) from None
    except (KeyError, AttributeError, TypeError, UsageError) as error:
        raise CheckpointError(f"{path}: not a checkpoint that this version can use: {error}") from None
    step, updates = checkpoint.step, checkpoint.updates
    if type(step) is not int or not 0 <= step <= config.outer.steps:
        raise CheckpointError(f"{path}: not a checkpoint that this version can use: its step is {str(step)[:20]}")
    counts = isinstance(updates, list) and all(type(count) is int and 0 <= count <= step for count in updates)
    if not counts or len(updates) != len(config.seeds):
        raise CheckpointError(f"{path}: not a checkpoint that this version can use: its updates are no counts per seed")
    found = best_of(content.get("best"), config, step)
    if isinstance(found, str):
        raise CheckpointError(f"{path}: not a checkpoint that this version can use: of its best parameters, {found}")
    record = content.get("tasks", {})
    if not isinstance(record, dict):
        raise CheckpointError(
            f"{path}: not a checkpoint that this version can use: what it kept of its tasks is no record"
        )
    return checkpoint._replace(best=found, record=record)


def restore(state: TrainState, checkpoint: Checkpoint, config: Config) -> None:
    """Put a checkpoint's parameters, optimiser state and step into a new state of the same shape, in place.

    Raises:
        CheckpointError: If it is of another experiment, names, shapes or dtypes differ, or a number is not finite;
            the state is as it was.
    """
    check_experiment(checkpoint, config)
    check_fits(checkpoint, state.params)
    if problem := optimizer_problem(state, checkpoint.optimizer, checkpoint.step):
        raise CheckpointError(f"{checkpoint.path}: the optimiser's state does not fit: {problem}")
    ours = state.optimizer.state_dict()["param_groups"]
    with torch.no_grad():
        for name, theta in state.params.items():
            theta.copy_(checkpoint.params[name])
    state.optimizer.load_state_dict({"state": checkpoint.optimizer["state"], "param_groups": ours})
    state.updates.copy_(torch.tensor(checkpoint.updates))
    for group in state.optimizer.param_groups:
        group["lr"] = state.lr
    state.step = checkpoint.step
    state.alive.copy_(state.updates == checkpoint.step)
    state.best = checkpoint.best


def check_fits(checkpoint: Checkpoint, expected: Params) -> None:
    """Raise CheckpointError unless the parameters have the expected names, shapes and dtypes, and are finite."""
    if problem := params_problem(expected, checkpoint.params):
        raise CheckpointError(f"{checkpoint.path}: {problem}")
    if checkpoint.best and (problem := params_problem(expected, checkpoint.best.params)):
        raise CheckpointError(f"{checkpoint.path}: the best parameters are {problem}")


def check_size(checkpoint: Checkpoint, num_params: int) -> None:
    """Raise CheckpointError if a checkpoint holds fewer numbers than its own config makes parameters.

    Before the parameters of that config are made: a few bytes could ask for any number of them.
    """
    params = checkpoint.params if isinstance(checkpoint.params, dict) else {}
    held = sum(theta.numel() for theta in params.values() if isinstance(theta, torch.Tensor))
    if held < num_params:
        raise CheckpointError(f"{checkpoint.path}: of another model: {held} parameters, {num_params} in its config")


def check_experiment(checkpoint: Checkpoint, config: Config) -> None:
    """Raise CheckpointError unless a checkpoint was made by this experiment, or a run of it may go on from there."""
    different = refused_changes(checkpoint.config, config, "resume")
    if different:
        raise CheckpointError(f"{checkpoint.path}: of another experiment: " + "; ".join(different))


def use_newest(folder: Path, use: Callable[[Path], T], note: Callable[[str], None]) -> tuple[T, list[Path]] | None:
    """Use the newest checkpoint of a run that can be used, naming each that cannot.

    Args:
        folder: The run's folder of checkpoints.
        use: Loads a file; a CheckpointError sends it on to the one before.
        note: Hears of each file that is passed over.

    Returns:
        What `use` returned, and the files that were passed over; None if there is no file at all.

    Raises:
        CheckpointError: If there are files and none can be used.
    """
    paths = list_checkpoints(folder)
    for index, path in enumerate(paths):
        try:
            return use(path), paths[:index]
        except CheckpointError as error:
            note(f"warning: checkpoint not used: {error}")
    if paths:
        raise CheckpointError(f"{folder.parent}: none of its {len(paths)} checkpoints can be used")
    return None


def newest_checkpoint(run: Path, device: torch.device, note: Callable[[str], None]) -> Checkpoint:
    """The newest checkpoint of a run that can be used; see `use_newest`.

    Raises:
        CheckpointError: If there is none.
    """

    def load(path: Path) -> Checkpoint:
        return load_checkpoint(path, device)

    found = use_newest(run / "checkpoints", load, note)
    if found is None:
        raise CheckpointError(f"{run}: it has no checkpoint")
    return found[0]


_PARTS = ("step", "params", "optimizer", "updates")


def _plain(value: Any) -> Any:
    """The same with tensors that are nothing else: a compiler leaves attributes on them, which would be saved too."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.detach() if isinstance(value, torch.Tensor) else value
