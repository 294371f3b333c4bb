"""The soak: `python -m tests.soak --kills 200` kills runs at random moments and compares them, bit for bit."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.kills import kill_at_random
from tests.zygote import Zygote


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32, help="of the random moments")
    options = parser.parse_args()

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    say(f"seed {options.seed}")
    with tempfile.TemporaryDirectory() as folder, Zygote() as zygote:
        runs = kill_at_random(zygote, Path(folder), options.kills, options.seed, say)
    say(f"{options.kills} kills, {runs} runs: every one equals the run that was left alone, bit for bit")


if __name__ == "__main__":
    main()
