"""Ray Train as the launcher: the script of the documentation, with the real package on this machine alone."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import mamlcli
from mamlcli.ranks import without_launcher
from mamlcli.runs.checkpoints import list_checkpoints
from tests.conftest import ROOT
from tests.pages import DOCS, blocks
from tests.same_run import assert_same_run

(SCRIPT,) = (block.text for block in blocks(DOCS / "scaling.md") if block.file == "with_ray.py")
RUN = """
name: ray
seeds: [0, 1, 2]
device: cpu
model: {hidden_sizes: [8, 8]}
outer: {steps: 1000, meta_batch_size: 25}
run: {log_every_steps: 50, checkpoint_every_steps: 100}
engine: {threads: 1, compile: off}
"""
RUNNING = "runpy.run_path('script.py', run_name='__main__')"
ALONE = f"import runpy; {RUNNING}"
# Of as many cores as there are workers, whatever the machine has.
CLUSTER = f"import ray, runpy; ray.init('local', num_cpus=2); {RUNNING}"
# Nobody is told that Ray was used, nothing is written at home, and workers are no nicer to others than the tests are.
RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
RAY |= {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2"}
# Of a cluster that begins twice beside other tests, in seconds.
BOUND_S = 300


def started(
    folder: Path, program: str, *, workers: int, config: str = RUN, sessions: str = ""
) -> "subprocess.Popen[bytes]":
    """Run the script with another disk, experiment and number of workers; what it says is in a file.

    A cluster has its sockets below `sessions`, whose name must be short.
    """
    here = {
        "/shared": str(folder),
        '"sinusoid"': repr(str(folder / "ray.yaml")),
        "num_workers=4": f"num_workers={workers}",
    }
    text = SCRIPT
    for there, own in here.items():
        assert there in text
        text = text.replace(there, own)
    (folder / "script.py").write_text(text)
    (folder / "ray.yaml").write_text(config)
    environment = without_launcher(os.environ) | RAY | {"PYTHONPATH": str(ROOT), "RAY_TMPDIR": sessions}
    with (folder / "said").open("w") as said:
        return subprocess.Popen(
            [sys.executable, "-c", program], cwd=folder, env=environment, stdout=said, stderr=subprocess.STDOUT
        )


def ended(process: "subprocess.Popen[bytes]", folder: Path) -> str:
    """What a program has said, once it has ended by itself and left nothing behind."""
    theirs: set[int] = set()
    until = time.monotonic() + BOUND_S
    while process.poll() is None:
        theirs |= processes_of(process.pid).keys()
        if time.monotonic() > until:
            process.kill()
            for pid in theirs:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.5)
    while any(map(is_there, theirs)):
        assert time.monotonic() < until
        time.sleep(0.1)
    return (folder / "said").read_text()


def processes_of(pid: int) -> dict[int, str]:
    """What a process has started, and what these have; each with its title."""
    found: dict[int, str] = {}
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # who is asked may end meanwhile
            for child in map(int, path.read_text().split()):
                found |= {child: title_of(child), **processes_of(child)}
    return found


def title_of(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def is_there(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.fixture
def sessions() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as short:
        yield short


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run by one process, without Ray."""
    return mamlcli.train(mamlcli.parse_config(RUN), out=tmp_path_factory.mktemp("alone") / "run").run


def test_local_mode_trains_what_mamlcli_does_alone(tmp_path: Path, alone: Path) -> None:
    process = started(tmp_path, ALONE, workers=0)
    assert "status='done'" in ended(process, tmp_path)
    assert_same_run(alone, tmp_path / "sinusoid")


def test_what_goes_wrong_comes_out_of_local_mode(tmp_path: Path) -> None:
    process = started(tmp_path, ALONE, workers=0, config=RUN.replace("steps: 1000", "steps: 1000, lr: 1e30"))
    assert "mamlcli.errors.DivergedError: the loss is not finite for seed 0" in ended(process, tmp_path)
    assert process.returncode == 1


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="processes are looked up in /proc")
def test_two_workers_train_what_one_process_does_bit_for_bit_though_one_of_them_is_killed(
    tmp_path: Path, alone: Path, sessions: str
) -> None:
    process, run = started(tmp_path, CLUSTER, workers=2, sessions=sessions), tmp_path / "sinusoid"
    until = time.monotonic() + BOUND_S
    while process.poll() is None and time.monotonic() < until and not list_checkpoints(run / "checkpoints"):
        time.sleep(0.01)
    workers = [pid for pid, title in processes_of(process.pid).items() if title.startswith("ray::RayTrainWorker")]
    for pid in workers[1:]:
        os.kill(pid, signal.SIGKILL)
    said = ended(process, tmp_path)
    assert "status='done'" in said, said
    assert len(workers) == 2
    began = [session["from_step"] for session in json.loads((run / "run.json").read_text())["sessions"]]
    assert len(began) == 2
    assert began[0] == 0 < began[1]
    assert_same_run(alone, run)
