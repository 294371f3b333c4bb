"""What a run leaves, and that it can be continued and trusted."""

import json
import os
import signal
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import yaml

import mamlcli
from mamlcli import Config
from mamlcli.errors import CheckpointError, InterruptedRunError, RunFolderError, UsageError
from mamlcli.interrupts import SIGNALS, StopRequest
from mamlcli.reporting import Silent
from mamlcli.runs.checkpoints import list_checkpoints, load_checkpoint
from mamlcli.runs.folder import open_run
from mamlcli.runs.row_log import RowLog
from tests.conftest import Maml
from tests.same_run import assert_same_run, metrics


def with_steps(config: Config, steps: int) -> Config:
    return config.model_copy(update={"outer": config.outer.model_copy(update={"steps": steps})})


class Listener(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


class InterruptAt(Silent):
    """Sends this process a signal when a step is reported, as Ctrl-C or a scheduler would."""

    def __init__(self, step: int, number: int) -> None:
        self.at, self.number = step, number

    def step(self, step: int, *_: object) -> None:
        if step == self.at:
            os.kill(os.getpid(), self.number)


def test_a_run_folder_explains_itself(tiny: Config, tmp_path: Path) -> None:
    result = mamlcli.train(tiny, out=tmp_path / "run")
    info = json.loads((result.run / "run.json").read_text())
    assert (result.status, result.outer_steps, result.seeds) == ("done", 12, (0, 1))
    assert info["status"] == "done"
    assert info["outer_steps"] == 12
    assert info["sessions"][0]["versions"]["torch"] == version("torch")
    assert mamlcli.load_config(result.run / "config.yaml") == tiny
    assert sorted(path.name for path in (result.run / "checkpoints").glob("*.pt")) == [
        "step-10.pt",
        "step-12.pt",
        "step-5.pt",
    ]
    assert [(row["step"], row["seed"]) for row in metrics(result.run)] == [
        (s, n) for s in (1, 4, 8, 12) for n in (0, 1)
    ]
    columns = {"step", "seed", "pre_adapt_loss", "post_adapt_loss", "grad_norm", "lr", "diverged_at_step"}
    assert columns == set(metrics(result.run)[0])
    assert all((result.run / f"loss.{suffix}").stat().st_size > 0 for suffix in ("png", "svg", "csv"))


def test_the_same_config_gives_the_same_run(tiny: Config, tmp_path: Path) -> None:
    assert_same_run(*(mamlcli.train(tiny, out=tmp_path / name).run for name in ("one", "other")))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_saves_and_continues_bit_for_bit(
    tiny: Config, tmp_path: Path, number: int, code: int
) -> None:
    whole = mamlcli.train(tiny, out=tmp_path / "whole").run
    with pytest.raises(InterruptedRunError, match="saved at step 8 of 12") as caught:
        mamlcli.train(tiny, out=tmp_path / "parts", reporter=InterruptAt(8, number), stop=StopRequest(SIGNALS))
    assert caught.value.exit_code == code
    assert json.loads((tmp_path / "parts" / "run.json").read_text())["status"] == "interrupted"
    resumed = mamlcli.train(tiny, out=tmp_path / "parts", resume=True)
    assert_same_run(whole, resumed.run)
    assert [session["from_step"] for session in json.loads((resumed.run / "run.json").read_text())["sessions"]] == [
        0,
        8,
    ]


def test_rows_after_the_checkpoint_are_written_again_not_doubled(tiny: Config, tmp_path: Path) -> None:
    whole = mamlcli.train(tiny, out=tmp_path / "whole").run
    parts = mamlcli.train(tiny, out=tmp_path / "parts").run
    for name in ("step-12.pt", "step-10.pt"):  # as if killed after step 8 was logged, before step 10 was saved
        (parts / "checkpoints" / name).unlink()
    with (parts / "metrics.jsonl").open("a") as file:
        file.write('{"step": 12, "se')  # a line that a crash cut
    assert_same_run(whole, mamlcli.train(tiny, out=parts, resume=True).run)


def test_a_run_that_grows_equals_one_that_was_long_from_the_start(tiny: Config, tmp_path: Path) -> None:
    long = mamlcli.train(with_steps(tiny, 18), out=tmp_path / "long").run
    grown = mamlcli.train(with_steps(tiny, 10), out=tmp_path / "grown").run
    mamlcli.train(with_steps(tiny, 18), out=grown, resume=True)
    assert_same_run(long, grown)
    assert mamlcli.load_config(grown / "config.yaml").outer.steps == 18


def test_a_run_without_a_checkpoint_yet_starts_again(tiny: Config, tmp_path: Path) -> None:
    whole = mamlcli.train(tiny, out=tmp_path / "whole").run
    parts = mamlcli.train(tiny, out=tmp_path / "parts").run
    for path in (parts / "checkpoints").iterdir():
        path.unlink()
    assert_same_run(whole, mamlcli.train(tiny, out=parts, resume=True).run)


def test_a_finished_run_can_be_resumed_and_stays_as_it_is(tiny: Config, tmp_path: Path) -> None:
    run = mamlcli.train(tiny, out=tmp_path / "run").run
    before = metrics(run)
    assert mamlcli.train(tiny, out=run, resume=True).outer_steps == 12
    assert metrics(run) == before


def test_resuming_under_another_config_lists_the_differences(tiny: Config, tmp_path: Path) -> None:
    run = mamlcli.train(tiny, out=tmp_path / "run").run
    other = tiny.model_copy(update={"outer": tiny.outer.model_copy(update={"lr": 0.5, "meta_batch_size": 4})})
    with pytest.raises(UsageError) as caught:
        mamlcli.train(other, out=run, resume=True)
    assert "outer.lr: 0.001 in the run, 0.5 now" in str(caught.value)
    assert "outer.meta_batch_size: 3 in the run, 4 now" in str(caught.value)
    with pytest.raises(UsageError, match="is at step 12 already"):
        mamlcli.train(with_steps(tiny, 5), out=run, resume=True)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tiny: Config, tmp_path: Path) -> None:
    whole = mamlcli.train(tiny, out=tmp_path / "whole").run
    run = mamlcli.train(tiny, out=tmp_path / "run").run
    newest = run / "checkpoints" / "step-12.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    reporter = Listener()
    assert_same_run(whole, mamlcli.train(tiny, out=run, resume=True, reporter=reporter).run)
    assert any("step-12.pt: damaged" in note for note in reporter.notes)


def test_with_no_whole_checkpoint_left_nothing_starts_over(tiny: Config, tmp_path: Path) -> None:
    run = mamlcli.train(tiny, out=tmp_path / "run").run
    for path in list_checkpoints(run / "checkpoints"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="none of its 3 checkpoints can be used"):
        mamlcli.train(tiny, out=run, resume=True)


class _Payload:
    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.marker,)


def test_a_checkpoint_that_carries_code_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    torch.save({"schema": "mamlcli.checkpoint/1", "params": _Payload(str(marker))}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint that can be read"):
        load_checkpoint(tmp_path / "evil.pt")
    assert not marker.exists()


def test_an_existing_folder_is_left_alone(tiny: Config, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "precious").write_text("data")
    with pytest.raises(RunFolderError, match="exists already"):
        mamlcli.train(tiny, out=out)
    assert [path.name for path in out.iterdir()] == ["precious"]


@pytest.mark.parametrize("content", [None, "", "{}", '{"kind": "other"}', "[]", "{"])
def test_what_is_no_run_is_not_moved_aside(tiny: Config, tmp_path: Path, content: str | None) -> None:
    out = tmp_path / "mydata"
    out.mkdir()
    (out / "precious").write_text("data")
    if content is not None:
        (out / "run.json").write_text(content)
    held = {path.name for path in out.iterdir()}
    for run in (mamlcli.train, mamlcli.compare_orders):
        with pytest.raises(RunFolderError, match="mydata: cannot move it aside: it is no run") as caught:
            run(tiny, out=out, overwrite=True)
        assert caught.value.exit_code == 3
    with pytest.raises(RunFolderError, match="exists already and is no run; name another folder"):
        mamlcli.train(tiny, out=out)
    assert {path.name for path in out.iterdir()} == held
    assert [path.name for path in tmp_path.iterdir()] == ["mydata"]


def test_a_file_is_not_moved_aside(tiny: Config, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("data")
    with pytest.raises(RunFolderError, match="it is no run"):
        mamlcli.train(tiny, out=tmp_path / "notes.txt", overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "data"


def test_a_run_that_is_overwritten_is_kept_and_it_is_said_where(tiny: Config, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for make in (mamlcli.train, mamlcli.compare_orders, mamlcli.train):
        listener = Listener()
        make(tiny, out=out, overwrite=True, reporter=listener)
    asides = sorted(tmp_path.glob("out.old-*"))
    assert [json.loads((path / "run.json").read_text())["kind"] for path in asides] == ["train", "compare-orders"]
    assert f"{out} was there already; it is kept as {asides[1]}" in listener.notes


def test_a_folder_in_use_is_refused(tiny: Config, tmp_path: Path) -> None:
    run = mamlcli.train(tiny, out=tmp_path / "run").run
    with open_run(run).locked(), pytest.raises(RunFolderError, match="another process"):
        mamlcli.train(tiny, out=run, resume=True)


def test_a_folder_that_cannot_be_made_is_an_error_of_its_own(tiny: Config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot make it"):
        mamlcli.train(tiny, out=tmp_path / "file" / "run")


def test_a_figure_that_fails_does_not_fail_the_training(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    result = mamlcli.train(tiny, out=tmp_path / "run")
    assert result.status == "done"
    assert result.figure is None


def test_a_folder_in_use_is_not_moved_aside(tiny: Config, tmp_path: Path) -> None:
    run = mamlcli.train(tiny, out=tmp_path / "run").run
    with open_run(run).locked(), pytest.raises(RunFolderError, match="another process"):
        mamlcli.train(tiny, out=run, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_and_a_comparison_cannot_be_taken_for_each_other(tiny: Config, tmp_path: Path) -> None:
    run = mamlcli.train(tiny, out=tmp_path / "run").run
    both = mamlcli.compare_orders(tiny, out=tmp_path / "both").run
    before = (run / "metrics.jsonl").read_text()
    with pytest.raises(CheckpointError, match="not a folder of maml compare-orders"):
        mamlcli.compare_orders(tiny, out=run, resume=True)
    with pytest.raises(CheckpointError, match="not a folder of maml train"):
        mamlcli.train(tiny, out=both, resume=True)
    assert (run / "metrics.jsonl").read_text() == before
    with pytest.raises(CheckpointError, match=r"these in it:\n.*both/second: done at step 12") as named:
        mamlcli.evaluate(both)
    assert named.value.command_line.endswith(f"name one: maml eval {both / 'second'}")


def test_a_refused_resume_leaves_the_run_as_it_is(tiny: Config, tmp_path: Path) -> None:
    run = mamlcli.train(tiny, out=tmp_path / "run").run
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="is at step 12 already"):
        mamlcli.train(with_steps(tiny, 5), out=run, resume=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files


def test_growing_under_a_schedule_that_ends_is_warned_of(tiny: Config, tmp_path: Path) -> None:
    cosine = tiny.model_copy(update={"outer": tiny.outer.model_copy(update={"schedule": "cosine"})})
    run = mamlcli.train(cosine, out=tmp_path / "run").run
    listener = Listener()
    mamlcli.train(with_steps(cosine, 14), out=run, resume=True, reporter=listener)
    assert any("the cosine schedule ends at outer.steps" in note for note in listener.notes)


@pytest.mark.parametrize("damage", ['{"sessions": 5}', '{"sessions": [null]}', "[]", "{", ""])
def test_a_damaged_run_file_is_refused(tiny: Config, tmp_path: Path, damage: str) -> None:
    run = mamlcli.train(tiny, out=tmp_path / "run").run
    (run / "run.json").write_text(damage)
    with pytest.raises(CheckpointError, match="not a"):
        mamlcli.train(tiny, out=run, resume=True)


def test_a_run_of_an_earlier_version_is_refused_with_the_remedy_and_stays(maml: Maml, folder: Path) -> None:
    assert maml("train", "-c", "tiny.yaml", "--out", "run").code == 0
    path = folder / "run" / "config.yaml"
    before = yaml.safe_load(path.read_text())
    before["algorithm"] |= {"unlabelled_inputs": 20, "learn_slot_weights": True}  # which every method had
    path.write_text(yaml.safe_dump(before))
    files = {path: path.read_bytes() for path in (folder / "run").rglob("*") if path.is_file()}
    for command in (
        ("eval", "run"),
        ("train", "--resume", "run"),
        ("train", "--resume", "run", "--set", "outer.steps=20"),
        ("train", "-c", "tiny.yaml", "--out", "run", "--resume", "auto"),
    ):
        outcome = maml(*command)
        assert outcome.code == 4
        assert "`learn_slot_weights` is a key of chain; this is maml" in outcome.err
        assert outcome.err.splitlines()[-1] == (
            "maml: written by an earlier version of mamlcli, whose configs have other keys; train it again, or "
            "evaluate it with the version that wrote it"
        )
    assert {path: path.read_bytes() for path in (folder / "run").rglob("*") if path.is_file()} == files


def test_a_run_whose_config_is_damaged_is_not_taken_for_one_of_an_earlier_version(maml: Maml, folder: Path) -> None:
    assert maml("train", "-c", "tiny.yaml", "--out", "run").code == 0
    path = folder / "run" / "config.yaml"
    path.write_text(path.read_text().replace("inner_lr:", "inner_lrr:"))
    outcome = maml("eval", "run")
    assert outcome.code == 4
    assert "unknown key; did you mean 'algorithm.inner_lr'?" in outcome.err
    assert "earlier version" not in outcome.err


def test_damaged_metrics_are_left_out(tiny: Config, tmp_path: Path) -> None:
    run = mamlcli.train(tiny, out=tmp_path / "run").run
    whole = metrics(run)
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'\xff\xfe\n{"no": "step"}\n[1]\n')
    mamlcli.train(tiny, out=run, resume=True)
    assert metrics(run) == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "cuda"}, "device was cuda and is cpu now"),
        ({"versions": {"torch": "1.0"}}, f"torch was 1.0 and is {version('torch')} now"),
        ({"threads": 99}, "threads was 99 and is"),
        ({"compiled": True}, "compiled was True and is False now"),
    ],
)
def test_resuming_where_the_numbers_may_differ_says_so(
    tiny: Config, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    run = mamlcli.train(tiny, out=tmp_path / "run").run
    info = json.loads((run / "run.json").read_text())
    info["sessions"][-1] |= change
    (run / "run.json").write_text(json.dumps(info))
    listener = Listener()
    mamlcli.train(tiny, out=run, resume=True, reporter=listener)
    warnings = [note for note in listener.notes if note.startswith("warning")]
    assert len(warnings) == 1
    assert message in warnings[0]
    assert "to rounding, not bit for bit" in warnings[0]
    silent = Listener()
    mamlcli.train(tiny, out=run, resume=True, reporter=silent)
    assert not [note for note in silent.notes if note.startswith("warning")]


def test_the_last_step_is_read_from_the_end_of_the_metrics(tmp_path: Path) -> None:
    log = RowLog(tmp_path / "metrics.jsonl")
    assert log.last_step() == 0
    log.append([{"step": step, "text": "x" * 1000} for step in range(1, 1001)])
    assert log.last_step() == 1000
    with log.path.open("a") as file:
        file.write('{"step": 1001, "te')  # as it is being written
    assert log.last_step() == 1000
