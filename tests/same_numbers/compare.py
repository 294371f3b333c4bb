"""Two runs beside each other: parameters, optimiser, metrics, evaluations."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

# What differs between two runs of the same numbers.
_NOT_NUMBERS = {"wall_s", "run", "runs", "checkpoint", "ms_per_step", "cost", "figures", "date", "versions", "protocol"}
_ROUNDING = 1e-5


def case_differences(before: Path, now: Path) -> list[str]:
    """Say where two runs, or two comparisons of orders, differ; nothing if they are the same."""
    runs = [path.parent.relative_to(before) for path in sorted(before.rglob("metrics.jsonl"))]
    if not runs:
        return ["there is nothing before"]
    lines: list[str] = []
    for run in runs:
        # A comparison's cosines were called metrics once.
        renamed = (now / run / "cosines.jsonl").exists() and not (before / run / "cosines.jsonl").exists()
        for name in ("evaluation.json", "comparison.json", "metrics.jsonl", "cosines.jsonl"):
            if (before / run / name).exists():
                new_name = "cosines.jsonl" if renamed and name == "metrics.jsonl" else name
                lines += _file_differences(before / run / name, now / run / new_name)
        if list((before / run / "checkpoints").glob("step-*.pt")):
            lines += _checkpoint_differences(before / run, now / run)
    return lines


def _file_differences(before: Path, now: Path) -> list[str]:
    if not now.exists():
        return [f"{now.name} is gone"]
    rounded = before.name == "evaluation.json" and '"model": "student"' in before.read_text()
    return [f"{now.name}{line}" for line in _differences(_read(before), _read(now), rounded=rounded)]


def _read(path: Path) -> Any:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return json.loads(path.read_text())


def _differences(before: Any, now: Any, *, rounded: bool) -> Iterator[str]:
    """Where plain values differ; a key that is new is no difference."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key, value in before.items():
            if key in _NOT_NUMBERS:
                continue
            if key not in now:
                yield f".{key} is gone"
            else:
                yield from (f".{key}{line}" for line in _differences(value, now[key], rounded=rounded))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from (f"[{index}]{line}" for line in _differences(one, other, rounded=rounded))
    elif before != now and not (rounded and _are_close(before, now)):
        yield f": {before!r} before, {now!r} now"


def _are_close(one: Any, other: Any) -> bool:
    numbers = isinstance(one, float) and isinstance(other, float)
    return numbers and math.isclose(one, other, rel_tol=_ROUNDING, abs_tol=_ROUNDING)


def _checkpoint_differences(before: Path, now: Path) -> list[str]:
    """Compare the newest checkpoints: names and their order, values bit for bit, counts."""
    contents = []
    for run in (before, now):
        paths = sorted((run / "checkpoints").glob("step-*.pt"), key=lambda path: int(path.stem.partition("-")[2]))
        if not paths:
            return ["there is no checkpoint now"]
        contents.append(torch.load(paths[-1], weights_only=True))
    one, other = contents
    lines = [f"checkpoint: {name} differs" for name in ("step", "updates") if one[name] != other[name]]
    if list(one["params"]) != list(other["params"]):
        return [*lines, f"checkpoint: parameters {list(one['params'])} before, {list(other['params'])} now"]
    pairs = [(f"params.{name}", value, other["params"][name]) for name, value in one["params"].items()]
    for key, values in one["optimizer"]["state"].items():
        theirs = other["optimizer"]["state"].get(key, {})
        pairs += [(f"optimizer.{name}", value, theirs.get(name)) for name, value in values.items()]
    for name, value, theirs in pairs:
        if not isinstance(theirs, torch.Tensor) or not torch.equal(value, theirs):
            lines.append(f"checkpoint: {name} differs")
    return lines
