"""Evaluation of runs and checkpoints."""

import csv
import json
import re
from pathlib import Path

import pytest
import torch

import mamlcli
from mamlcli import Config
from mamlcli.errors import CheckpointError, ConfigError, RunFolderError, UsageError
from mamlcli.experiments.evaluate import meta_test_tasks
from tests.test_runs import Listener


@pytest.fixture
def run(tiny: Config, tmp_path: Path) -> Path:
    return mamlcli.train(tiny, out=tmp_path / "run").run


def test_tables_and_figures_are_written(run: Path) -> None:
    result = mamlcli.evaluate(run)
    written = json.loads((run / "evaluation.json").read_text())
    with (run / "evaluation.csv").open() as file:
        table = list(csv.DictReader(file))
    # 3 seeds' rows ("all" is one), 2 shots, steps 0 to 3.
    assert len(written["results"]) == len(table) == len(result.results) == 3 * 2 * 4
    assert written["schema"] == "mamlcli.eval/1"
    assert written["query"] == {"points": 9, "sampling": "uniform in [-5, 5]", "test_seed": 0}
    assert {row["interval"] for row in table} == {"over tasks", "over seeds and tasks"}
    assert float(table[0]["mean"]) == result.results[0]["mean"]
    for stem in ("adaptation", "fits"):
        assert all((run / f"{stem}.{suffix}").stat().st_size > 0 for suffix in ("png", "svg", "csv"))


def test_meta_test_tasks_depend_on_the_test_seed_alone(tiny: Config) -> None:
    other = tiny.model_copy(
        update={"seeds": (7,), "algorithm": tiny.algorithm.model_copy(update={"order": "first", "inner_steps": 3})}
    )
    reseeded = tiny.model_copy(update={"evaluation": tiny.evaluation.model_copy(update={"seed": 1})})
    tasks = meta_test_tasks(tiny, 5)
    assert torch.equal(tasks.query.y, meta_test_tasks(other, 5).query.y)
    assert torch.equal(tasks.query.y, meta_test_tasks(tiny, 3).query.y)
    assert not torch.equal(tasks.query.y, meta_test_tasks(reseeded, 5).query.y)


def test_before_adaptation_every_number_of_shots_scores_the_same(run: Path) -> None:
    rows = [row for row in mamlcli.evaluate(run).results if row["inner_steps"] == 0 and row["seed"] == "all"]
    assert rows[0]["mean"] == rows[1]["mean"]


def test_a_checkpoint_file_is_evaluated_beside_its_run(run: Path, tmp_path: Path) -> None:
    result = mamlcli.evaluate(run / "checkpoints" / "step-5.pt")
    assert result.step == 5
    assert result.run == run / "evaluation-step-5"
    stray = tmp_path / "stray.pt"
    stray.write_bytes((run / "checkpoints" / "step-5.pt").read_bytes())
    assert mamlcli.evaluate(stray).results == result.results
    assert (tmp_path / "evaluation-stray" / "evaluation.json").exists()


def test_the_latest_run_is_the_default(tiny: Config, folder: Path) -> None:
    with pytest.raises(CheckpointError, match="no run found in outputs/"):
        mamlcli.evaluate()
    mamlcli.train(tiny)
    latest = mamlcli.train(tiny).run
    assert mamlcli.evaluate().run == latest
    assert latest.is_relative_to("outputs/tiny")
    assert folder.exists()


def test_overrides_change_the_protocol(run: Path, tmp_path: Path) -> None:
    result = mamlcli.evaluate(run, overrides=("evaluation.tasks=3", "evaluation.inner_steps=5"), out=tmp_path / "other")
    assert result.tasks == 3
    assert max(row["inner_steps"] for row in result.results) == 5
    assert not (run / "evaluation.json").exists()
    with pytest.raises(ConfigError, match=r"evaluation\.tusks: unknown key; did you mean 'evaluation\.tasks'"):
        mamlcli.evaluate(run, overrides=("evaluation.tusks=3",))


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.pt").write_text("hello")
    for target, message in (
        (tmp_path / "none", "no such run folder"),
        (tmp_path / "empty", "not a run"),
        (tmp_path / "text.pt", "not a checkpoint"),
    ):
        with pytest.raises(CheckpointError, match=message):
            mamlcli.evaluate(target)


def test_an_override_cannot_change_what_was_trained(run: Path) -> None:
    for override in ("model.activation=tanh", "seeds=[8, 9]", "outer.steps=99"):
        with pytest.raises(UsageError, match="cannot change what was trained"):
            mamlcli.evaluate(run, overrides=(override,))


def test_a_checkpoint_of_another_architecture_or_experiment_is_refused(tiny: Config, run: Path, tmp_path: Path) -> None:
    for name, section, change, message in (
        ("wide", "model", {"hidden_sizes": (9,)}, r"model.hidden_sizes: \(9,\) in the run, \(8,\) now"),
        ("tanh", "model", {"activation": "tanh"}, "model.activation: tanh in the run, relu now"),
    ):
        other = tiny.model_copy(update={section: getattr(tiny, section).model_copy(update=change)})
        foreign = mamlcli.train(other, out=tmp_path / name).run / "checkpoints" / "step-12.pt"
        for suffix in ("", ".sha256"):
            copy = run / "checkpoints" / f"step-99.pt{suffix}"
            copy.write_bytes(foreign.with_name(foreign.name + suffix).read_bytes())
        listener = Listener()
        assert mamlcli.evaluate(run, reporter=listener).step == 12
        assert any(re.search(message, note) for note in listener.notes)


def test_a_checkpoint_of_a_run_whose_hash_is_missing_is_not_trusted(run: Path) -> None:
    (run / "checkpoints" / "step-12.pt.sha256").unlink()
    listener = Listener()
    assert mamlcli.evaluate(run, reporter=listener).step == 10
    assert any("step-12.pt.sha256 is missing" in note for note in listener.notes)


def test_an_existing_folder_is_not_written_into(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="exists already"):
        mamlcli.evaluate(run, out=tmp_path)
