"""Whole commands, as a user types them."""

import json
import subprocess
import sys
from pathlib import Path


def maml(command: str, what: str, *settings: str, out: Path) -> None:
    """Run a command of an experiment or a run in a process of its own, with `--set`, without what it prints."""
    set_ = [word for setting in settings for word in ("--set", setting)]
    line = [command, what, *set_, "--quiet", "--json", "--out", str(out)]
    subprocess.run([sys.executable, "-m", "mamlcli", *line], check=True, stdout=subprocess.DEVNULL)


def ms_per_step(run: Path) -> float:
    """Of a run, from its first logged step to its last."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    first, last = rows[0], rows[-1]
    return 1e3 * float(last["wall_s"] - first["wall_s"]) / float(last["step"] - first["step"])
