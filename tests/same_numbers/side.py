"""Trains and evaluates every case with the `mamlcli` that is on the path; runs in a process of its own for each side.

It uses the command line alone, which is what stays the same while everything behind it moves.
"""

import re
import sys
from pathlib import Path

from mamlcli.cli import main

_STOPPED = re.compile(r"stopped at step (\d+)")


def run_case(case: Path, folder: Path) -> None:
    """Run what the first line of a case says, into a folder; its output goes to `log`.

    Raises:
        RuntimeError: If a command ends with an exit code other than 0.
    """
    first_line = case.read_text("utf-8").splitlines()[0]
    if "compare-orders" in first_line:
        _maml("compare-orders", "--config", case, "--out", folder, "--quiet")
        return
    if stopped := _STOPPED.search(first_line):
        _maml("train", "--config", case, "--out", folder, "--quiet", "--set", f"outer.steps={stopped[1]}")
        _maml("train", "--config", case, "--resume", folder, "--quiet")
    else:
        _maml("train", "--config", case, "--out", folder, "--quiet")
    _maml("eval", folder, "--quiet")


def _maml(*arguments: object) -> None:
    sys.argv = ["maml", *map(str, arguments)]
    try:
        main()
    except SystemExit as error:
        if error.code:
            raise RuntimeError(f"{' '.join(sys.argv)} ended with {error.code}") from None


if __name__ == "__main__":
    for path in sorted(Path(sys.argv[1]).glob("*.yaml")):
        try:
            run_case(path, Path(path.stem))
        except RuntimeError as error:
            print(f"{path.stem}: {error}", file=sys.stderr)
