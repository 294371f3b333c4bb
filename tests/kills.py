"""A run that is killed again and again, and must come out as one that was never touched."""

import random
import signal
from collections.abc import Callable
from pathlib import Path

from tests.same_run import assert_same_run
from tests.zygote import Zygote

CONFIG = """
name: killed
seeds: [0, 1]
device: cpu
tasks: {noise_std: 0.1}
model: {hidden_sizes: [8]}
outer: {steps: 400, meta_batch_size: 3, schedule: cosine}
evaluation: {tasks: 5, query_shots: 5, every_steps: 9}
run: {log_every_steps: 7, checkpoint_every_steps: 10, keep_checkpoints: 2}
engine: {compile: "off"}
"""
# A life ends before it has begun, in its middle or shortly before its end.
_LONGEST_LIFE_S = 1.5


def kill_at_random(zygote: Zygote, folder: Path, kills: int, seed: int, say: Callable[[str], None]) -> int:
    """Kill a run with SIGKILL at random moments, resume it, and compare it with one that was left alone.

    A run that ends before its next kill is compared, and another one is begun.

    Args:
        zygote: What starts processes.
        folder: An empty folder to work in.
        kills: How often to kill.
        seed: Of the random moments.
        say: Hears of each run that is done.

    Returns:
        How many runs were killed and compared.
    """
    (folder / "killed.yaml").write_text(CONFIG)
    whole = zygote.start(folder, "train", "-c", "killed.yaml", "--out", "whole")
    assert whole.wait() == 0, whole.err
    moments, done, runs = random.Random(seed), 0, 0
    while done < kills:
        runs += 1
        out = f"run-{runs}"
        while True:
            life = zygote.start(folder, "train", "-c", "killed.yaml", "--out", out, "--resume", "auto")
            if done < kills and life.wait(moments.uniform(0, _LONGEST_LIFE_S)) is None:
                life.signal(signal.SIGKILL)
            code = life.wait()
            if code == 0:
                break
            assert code == -signal.SIGKILL, life.err
            done += 1
        assert_same_run(folder / "whole", folder / out)
        assert sorted(path.name for path in (folder / out / "checkpoints").glob("step-*")) == [
            f"step-{step}.pt{suffix}" for step in (390, 400) for suffix in ("", ".sha256")
        ]
        say(f"{done} of {kills} kills; run {runs} equals the one that was left alone")
    return runs
