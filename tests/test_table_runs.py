"""Runs on a user's own file, from the command line: trained, tested, continued, and predicted with."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import mamlcli
from mamlcli.experiment import make_experiment
from mamlcli.runs.checkpoints import list_checkpoints, load_checkpoint
from mamlcli.tasks.family import Request, of_seed
from mamlcli.tasks.samples import Samples
from mamlcli.tasks.stream import TaskList
from tests.conftest import Maml
from tests.same_run import assert_same_run
from tests.test_table import unequal_rows, written

CONFIG = """
name: own
seeds: [0, 1, 2]
device: cpu
tasks: {family: table, path: data/t.csv, task: name, inputs: [a, b], target: [y, z], support_shots: 3, query_shots: 4}
model: {hidden_sizes: [6], activation: tanh}
algorithm: {inner_lr: 0.05}
outer: {steps: 8, meta_batch_size: 4}
evaluation: {inner_steps: 2, every_steps: 2}
run: {log_every_steps: 2, checkpoint_every_steps: 3}
"""


@pytest.fixture
def data(folder: Path) -> Path:
    """The data of own.yaml, in a folder beside it."""
    (folder / "own.yaml").write_text(CONFIG)
    (folder / "data").mkdir()
    return written(folder / "data" / "t.csv", unequal_rows())


def test_a_run_keeps_the_hash_of_its_file_and_the_names_of_each_split(maml: Maml, data: Path) -> None:
    assert maml("train", "-c", "own.yaml", "--out", "run").code == 0
    kept = json.loads(Path("run/tasks.json").read_text())
    family = make_experiment(mamlcli.load_config("own.yaml")).family
    assert kept["splits"] == {split: list(names) for split, names in family.names.items()}
    assert (kept["num_bytes"], kept["num_rows"]) == (data.stat().st_size, len(unequal_rows()))
    checkpoint = load_checkpoint(list_checkpoints(Path("run/checkpoints"))[0])
    assert checkpoint.record["sha256"] == kept["sha256"]
    assert checkpoint.record["units"] == kept["units"]


def test_with_a_changed_file_a_run_is_neither_continued_nor_tested_and_stays_as_it_was(maml: Maml, data: Path) -> None:
    maml("train", "-c", "own.yaml", "--out", "run", "--set", "outer.steps=4")
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    text = data.read_bytes()
    data.write_bytes(text + b"t0,0.5,0.5,0.5,0.5\r\n")
    for command in (("eval", "run"), ("train", "--resume", "run", "--set", "outer.steps=8")):
        outcome = maml(*command)
        assert outcome.code == 2
        assert "the data of the tasks have changed since the run began: sha256 was" in outcome.err
    assert before == {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    data.write_bytes(text)
    assert maml("train", "--resume", "run", "--set", "outer.steps=8").code == 0
    maml("train", "-c", "own.yaml", "--out", "whole")
    assert_same_run(Path("whole"), Path("run"))


def test_the_file_may_lie_elsewhere_and_a_prediction_needs_none(maml: Maml, data: Path) -> None:
    maml("train", "-c", "own.yaml", "--out", "run")
    maml("eval", "run")
    own = json.loads(Path("run/evaluation.json").read_text())
    support = data.read_text().splitlines()[:4]
    Path("s.csv").write_text("\n".join(support))
    Path("q.csv").write_text("name,a,b\nt0,0.1,11\n")
    with_it = mamlcli.load("run").adapt([[0.0, 10.0], [1.0, 11.0]], [[0.1, 100.0], [0.2, 101.0]])([[0.5, 10.5]])
    shutil.move(data, "moved.csv")
    moved = maml("eval", "run", "--set", "tasks.path=moved.csv", "--out", "again", "--json")
    assert json.loads(moved.out)["results"] == own["results"]
    assert maml("predict", "run", "--support", "s.csv", "--query", "q.csv", "--json").code == 0
    without = mamlcli.load("run").adapt([[0.0, 10.0], [1.0, 11.0]], [[0.1, 100.0], [0.2, 101.0]])([[0.5, 10.5]])
    assert np.array_equal(with_it, without)


def test_with_folds_every_task_is_tested_by_the_seed_that_left_it_out(maml: Maml, data: Path) -> None:
    del data
    maml("train", "-c", "own.yaml", "--out", "run", "--set", "tasks.split={folds: 3}")
    found = json.loads(maml("eval", "run", "--set", "run.keep=newest", "--json").out)
    chosen = make_experiment(mamlcli.load_config("run/config.yaml"))
    params = load_checkpoint(list_checkpoints(Path("run/checkpoints"))[0]).params
    losses = {}
    for index, seed in enumerate((0, 1, 2)):
        family = of_seed(chosen.family, seed)
        names = family.names["meta-test"]
        tasks = TaskList(family, 0, "meta-test").tasks(0, len(names), Request(3, 100))
        theta = {name: value[index] for name, value in params.items()}
        for place, name in enumerate(names):
            support, query = (Samples(side.x[place], side.y[place]) for side in tasks)
            there = ~query.y.isnan().any(dim=1)
            adapted = mamlcli.adapt(chosen.loss_fn, theta, support, inner_lr=0.05, inner_steps=2, order="first")
            assert name not in losses
            losses[name] = chosen.loss_fn(adapted, Samples(query.x[there], query.y[there])).item()
    assert sorted(losses) == sorted(chosen.family.names["meta-test"])
    row = next(row for row in found["results"] if row["seed"] == 0 and row["inner_steps"] == 2)
    assert row["mean"] == pytest.approx(np.mean(list(losses.values())), rel=1e-4)
    assert found["tasks"] == len(losses)


@pytest.mark.parametrize(
    "algorithm",
    ["{name: chain, unlabelled_inputs: 3}", "{name: joint}", "{learned_inner_lr: parameter, inner_steps: 2}"],
)
def test_every_method_learns_and_is_tested_on_tasks_of_unequal_size(maml: Maml, data: Path, algorithm: str) -> None:
    del data
    assert maml("train", "-c", "own.yaml", "--out", "run", "--set", f"algorithm={algorithm}").code == 0
    outcome = maml("eval", "run", "--json")
    assert outcome.code == 0
    assert all(row["mean"] is not None for row in json.loads(outcome.out)["results"])
    assert maml("check-grads", "-c", "own.yaml", "--set", f"algorithm={algorithm}").code == 0


def test_both_orders_are_compared_on_tasks_of_unequal_size(maml: Maml, data: Path) -> None:
    del data
    outcome = maml("compare-orders", "-c", "own.yaml", "--out", "both", "--json")
    assert outcome.code == 0
    assert all(row["difference"] is not None for row in json.loads(outcome.out)["results"])


def test_what_is_wrong_with_a_file_ends_a_training_before_it_has_a_folder(maml: Maml, data: Path) -> None:
    data.write_text(data.read_text() + "t0,oops,1,2,3\n")
    outcome = maml("train", "-c", "own.yaml", "--out", "run")
    assert outcome.code == 2
    assert f"{data}:168:2: 'a': " in outcome.err
    assert "Traceback" not in outcome.err
    assert not Path("run").exists()


def test_a_run_with_folds_predicts_with_each_seed_in_its_own_scale(maml: Maml, data: Path) -> None:
    del data
    maml("train", "-c", "own.yaml", "--out", "run", "--set", "tasks.split={folds: 3}")
    x, y, x_new = [[0.0, 10.0], [1.0, 11.0], [0.3, 9.0]], [[0.1, 100.0], [0.2, 101.0], [0.4, 99.0]], [[0.5, 10.5]]
    said = mamlcli.load("run", overrides=["run.keep=newest"]).adapt(x, y, steps=2).per_seed(x_new)
    chosen = make_experiment(mamlcli.load_config("run/config.yaml"))
    params = load_checkpoint(list_checkpoints(Path("run/checkpoints"))[0]).params
    for index in range(3):
        units = of_seed(chosen.family, index).units
        assert units is not None
        theta = {name: value[index] for name, value in params.items()}
        scaled = [
            torch.tensor((np.array(values) - mean) / scale, dtype=torch.float32)
            for values, mean, scale in (
                (x, units.x_mean, units.x_scale),
                (y, units.y_mean, units.y_scale),
                (x_new, units.x_mean, units.x_scale),
            )
        ]
        support = Samples(*scaled[:2])
        adapted = mamlcli.adapt(chosen.loss_fn, theta, support, inner_lr=0.05, inner_steps=2, order="first")
        expected = chosen.model.predict(adapted, scaled[2]).numpy() * units.y_scale + units.y_mean
        assert said[index] == pytest.approx(expected, rel=1e-5)
