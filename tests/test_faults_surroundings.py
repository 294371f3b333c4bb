"""No terminal, no display, no home, a working directory that cannot be written, nobody who reads stdout."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, Maml

MAML = f"{sys.executable} -c 'from mamlcli.cli import main; main()'"


def shell(command: str, cwd: Path | str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command with nothing in its environment but what it needs, without a terminal."""
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(
        command, shell=True, cwd=cwd, env=bare, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def test_without_terminal_display_home_or_a_directory_to_write_in(folder: Path) -> None:
    run, config = folder / "run", folder / "tiny.yaml"
    train = f"{MAML} train --config {config} --out {run} --quiet && {MAML} eval {run} --quiet --json"
    done = shell(train, "/proc", HOME="/proc/none")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["schema"] == "mamlcli.eval/1"
    assert (run / "fits.png").stat().st_size > 0


def test_a_working_directory_that_cannot_be_written_is_said_in_one_line(folder: Path) -> None:
    done = shell(f"{MAML} train --config {folder}/tiny.yaml --quiet", "/proc", HOME="/proc/none")
    assert done.returncode == 3
    assert done.stderr.startswith("maml: outputs/tiny/")
    assert "cannot make it: No such file or directory" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("redirection", "code", "message"),
    [
        ("| head -c 1 >/dev/null", "0", ""),
        (">&-", "0", ""),
        (">/dev/full", "3", "maml: output: cannot read or write it: No space left on device"),
    ],
)
def test_stdout_that_nobody_reads(folder: Path, redirection: str, code: str, message: str) -> None:
    command = f"({MAML} train -c tiny.yaml --out run --json --quiet; echo $? > code) {redirection}"
    done = shell(command, folder, HOME=str(folder))
    assert "Traceback" not in done.stderr
    assert message in done.stderr
    assert (folder / "code").read_text().strip() == code
    assert json.loads((folder / "run" / "run.json").read_text())["status"] == "done"


def test_a_read_only_home_and_no_cache_make_no_noise_beyond_one_line(folder: Path) -> None:
    done = shell(f"{MAML} check-grads --config {folder}/tiny.yaml --json", "/proc", HOME="/proc/none")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["passed"]
    assert len(done.stderr.splitlines()) <= 1


def test_an_existing_folder_is_untouched_and_a_run_is_moved_aside(maml: Maml, folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "precious").write_text("data")
    for options in ([], ["--overwrite"]):
        assert maml("train", "-c", "tiny.yaml", "--out", "run", *options).code == 3
        assert [path.name for path in (folder / "run").iterdir()] == ["precious"]
    assert maml("train", "-c", "tiny.yaml", "--out", "new").code == 0
    again = maml("train", "-c", "tiny.yaml", "--out", "new", "--overwrite")
    assert again.code == 0
    (aside,) = folder.glob("new.old-*")
    assert f"it is kept as {aside.name}" in again.err
    assert (aside / "run.json").exists()
