"""`python -m tests.same_numbers COMMIT`: the same numbers as at that commit, bit for bit, or where they differ.

Each side trains and evaluates its own `cases/`, so that keys of the config may be renamed; cases are compared by name.
A field that is new is no difference; one that is gone is. The evaluation of a chain is compared to rounding.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.same_numbers.compare import case_differences

ROOT = Path(__file__).parents[2]
CASES = Path("tests/same_numbers/cases")


def main() -> int:
    """Compare; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.same_numbers", description=__doc__)
    parser.add_argument("commit", help="what to compare with")
    parser.add_argument("--keep", type=Path, help="a new folder to keep the runs of both sides in")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        kept = options.keep or Path(scratch)
        checkout = Path(scratch) / "checkout"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(checkout), options.commit], check=True)
        try:
            before = _side(checkout, kept / "before", options.only)
            now = _side(ROOT, kept / "now", options.only)
            return _report(before, now)
        finally:
            subprocess.run([*git, "remove", "--force", str(checkout)], check=True)


def _side(checkout: Path, runs: Path, only: str) -> Path:
    """Run the cases of a checkout with its own code; returns the folder of the runs."""
    own = checkout / CASES
    cases = runs / "cases"
    cases.mkdir(parents=True)
    for case in (own if own.is_dir() else ROOT / CASES).glob("*.yaml"):
        if only in case.stem:
            (cases / case.name).write_bytes(case.read_bytes())
    print(f"{runs.name}: {len(list(cases.iterdir()))} cases", file=sys.stderr)
    path = {"PYTHONPATH": str(checkout), "XDG_CACHE_HOME": str(runs / "cache")}
    side = Path(__file__).with_name("side.py")
    (runs / "cache").mkdir(mode=0o700)
    with (runs / "log").open("w") as log:
        command = [sys.executable, str(side), "cases"]
        subprocess.run(command, cwd=runs, env=os.environ | path, stdout=log, stderr=subprocess.STDOUT, check=True)
    return runs


def _report(before: Path, now: Path) -> int:
    names = [{path.stem for path in (side / "cases").glob("*.yaml")} for side in (before, now)]
    moved = 0
    for name in sorted(names[0] | names[1]):
        if not all(name in side for side in names):
            print(f"{name}: only {'before' if name in names[0] else 'now'}")
            continue
        found = case_differences(before / name, now / name)
        moved += bool(found)
        print(f"{name}: {'the same' if not found else 'MOVED'}")
        for line in found[:10]:
            print(f"  {line}")
    for side in (before, now):
        failed = [line for line in (side / "log").read_text().splitlines() if " ended with " in line]
        moved += len(failed)
        print("".join(f"{side.name}: {line}\n" for line in failed), end="")
    print("all numbers are the same" if not moved else f"{moved} case(s) moved or failed")
    return int(moved > 0)


if __name__ == "__main__":
    raise SystemExit(main())
