"""Evaluation of runs and checkpoints."""

import csv
import json
from pathlib import Path

import pytest
import torch

import mamlcli
from mamlcli import Config
from mamlcli.errors import CheckpointError, ConfigError
from mamlcli.experiments.evaluate import meta_test_tasks


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
    assert {row["interval"] for row in table} == {"over tasks", "over seeds"}
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


def test_what_is_no_run_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.pt").write_text("hello")
    for target, message in (
        (tmp_path / "none", "no such run folder"),
        (tmp_path / "empty", "not a run"),
        (tmp_path / "text.pt", "not a checkpoint"),
    ):
        with pytest.raises(CheckpointError, match=message):
            mamlcli.evaluate(target)
    with pytest.raises(CheckpointError, match=r"of another model: .*layer0.weight: \(2, 8, 1\).*in the file"):
        mamlcli.evaluate(run, overrides=("model.hidden_sizes=[9]",))
