"""Where a run comes from: command line, code, versions, device."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_PACKAGES = ("mamlcli", "torch", "numpy", "matplotlib", "pydantic", "typer")


def utc_now() -> str:
    """The time in UTC to the microsecond, so that two runs sort by it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def by_an_earlier_version(schema: str = "") -> str:
    """Say why what another version wrote cannot be used, and what to do about it."""
    named = f" ({schema})" if schema else ""
    remedy = "train it again, or evaluate it with the version that wrote it"
    return f"written by an earlier version of mamlcli{named}, whose configs have other keys; {remedy}"


def new_session(device: "torch.device", from_step: int | None = None) -> dict[str, Any]:
    """Describe one process that works on a run, for run.json; of a folder that holds runs, from no step."""
    steps = {} if from_step is None else {"from_step": from_step}
    return {"started": utc_now(), **steps, **environment(device)}


def environment(device: "torch.device") -> dict[str, Any]:
    """Describe what computes, and which code: command line, commit, versions, device and threads of this process."""
    import torch

    on_cuda = device.type == "cuda"
    return {
        "argv": sys.argv,
        "git": _git(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if on_cuda else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
    }


def _git() -> dict[str, Any] | None:
    """Commit of the working directory's repository, and whether it has uncommitted changes."""

    def ask(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
