"""A disk that is full: a plain message, an exit code, and what was there stays as it was."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Maml
from tests.same_run import metrics
from tests.zygote import Zygote

TRAIN = ("train", "-c", "tiny.yaml", "--out", "run")
# A checkpoint of tiny.yaml is about 6 KB, its metrics 2 KB, run.json less, and a figure more than 20 KB.
WIDE = ("--set", "model.hidden_sizes=[64]")


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(zygote: Zygote, folder: Path) -> None:
    assert zygote.start(folder, *TRAIN, *WIDE, "--set", "outer.steps=5").wait() == 0
    before = {path: path.read_bytes() for path in (folder / "run" / "checkpoints").iterdir()}
    arguments = (*TRAIN, *WIDE, "--set", "outer.steps=12", "--resume", "auto")
    full = zygote.start(folder, *arguments, fault="limit_files", num_bytes=4000)
    assert full.wait() == 3
    assert full.err.splitlines()[-1] == (
        "maml: run/checkpoints/step-10.pt: cannot read or write it: File too large; what was saved before is intact"
    )
    assert "Traceback" not in full.err
    after = {path: path.read_bytes() for path in (folder / "run" / "checkpoints").iterdir()}
    assert {path: after[path] for path in before} == before
    resumed = zygote.start(folder, *arguments)
    assert resumed.wait() == 0
    assert "continuing run at step 5" in resumed.err


def test_metrics_that_do_not_fit_keep_their_rows(zygote: Zygote, folder: Path) -> None:
    tiny = (*TRAIN, "--set", "run.log_every_steps=1", "--set", "outer.steps=100", "--resume", "auto")
    whole = zygote.start(folder, *tiny[:4], "whole", *tiny[5:])
    assert whole.wait() == 0
    full = zygote.start(folder, *tiny, fault="limit_files", num_bytes=12_000)
    assert full.wait() == 3
    assert "maml: run/metrics.jsonl: cannot read or write it: File too large" in full.err
    assert "Traceback" not in full.err
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()[:-1]  # the last one may be cut
    expected = metrics(folder / "whole")
    got = [{name: value for name, value in json.loads(line).items() if name != "wall_s"} for line in lines]
    assert got == expected[: len(got)]
    resumed = zygote.start(folder, *tiny)
    assert resumed.wait() == 0
    assert metrics(folder / "run") == expected


def test_a_figure_that_does_not_fit_fails_no_training(zygote: Zygote, folder: Path) -> None:
    command = zygote.start(folder, *TRAIN, fault="limit_files", num_bytes=12_000)
    assert command.wait() == 0
    assert "warning: the figure loss could not be written: [Errno 27] File too large: 'run/loss.png'" in command.err
    assert json.loads((folder / "run" / "run.json").read_text())["status"] == "done"


def test_figures_that_cannot_be_written_fail_no_command(
    maml: Maml, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    for command in (TRAIN, ("eval", "run"), ("compare-orders", "-c", "tiny.yaml", "--out", "both")):
        outcome = maml(*command)
        assert outcome.code == 0
        assert "could not be written: [Errno 28] No space left on device" in outcome.err
    assert (folder / "both" / "comparison.json").exists()


def test_an_evaluation_that_does_not_fit_leaves_the_old_one(zygote: Zygote, folder: Path) -> None:
    assert zygote.start(folder, *TRAIN).wait() == 0
    assert zygote.start(folder, "eval", "run").wait() == 0
    before = (folder / "run" / "evaluation.json").read_bytes()
    full = zygote.start(folder, "eval", "run", fault="limit_files", num_bytes=1000)
    assert full.wait() == 3
    assert "maml: run/evaluation.json: cannot read or write it: File too large" in full.err
    assert (folder / "run" / "evaluation.json").read_bytes() == before


def test_a_folder_cannot_be_made_on_a_full_disk(zygote: Zygote, folder: Path) -> None:
    full = zygote.start(folder, *TRAIN, fault="limit_files", num_bytes=100)
    assert full.wait() == 3
    assert "maml: run: cannot make it: File too large" in full.err
    assert not list(folder.glob(".run*"))


def _can_mount() -> bool:
    command = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not _can_mount(), reason="this system lets nobody mount a small disk; the limits above stand in")
def test_a_small_disk_that_fills_up_stops_a_run_that_continues_elsewhere(folder: Path) -> None:
    (folder / "disk").mkdir()
    maml = f"{sys.executable} -c 'from mamlcli.cli import main; main()'"
    train = f"{maml} train -c tiny.yaml --out disk/run --set run.keep_checkpoints=100 --set outer.steps=400"
    script = (
        f"mount -t tmpfs -o size=100k none disk && {train}; echo $? > code; df disk > df; "
        f"{maml} eval disk/run --set evaluation.tasks=5 --out found; cp -r disk/run saved"
    )
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    with (folder / "err").open("w") as err_file:
        subprocess.run(alone, cwd=folder, stdout=subprocess.DEVNULL, stderr=err_file, check=True)
    err = (folder / "err").read_text()
    assert (folder / "code").read_text() == "3\n", err
    assert "cannot read or write it: No space left on device; what was saved before is intact" in err
    assert "Traceback" not in err
    assert (folder / "found" / "evaluation.json").exists()
    resumed = subprocess.run(
        f"{maml} train -c tiny.yaml --resume saved --set run.keep_checkpoints=100 --set outer.steps=400",
        shell=True,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert resumed.returncode == 0, resumed.stderr
