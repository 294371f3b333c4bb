"""A seed that diverges: seed, step and tasks are named, the checkpoint stays finite, the healthy ones go on."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mamlcli.figures.training import loss_figure
from mamlcli.reporting import Silent
from mamlcli.runs.checkpoints import list_checkpoints, load_checkpoint
from mamlcli.tasks.samples import Task
from mamlcli.tasks.stream import TaskStream
from mamlcli.trainings.start import report_step
from mamlcli.types import Row
from tests.conftest import Maml
from tests.same_run import metrics

COMMON = ("-c", "tiny.yaml", "--seeds", "3,5,7", "--set", "run.checkpoint_every_steps=2")
FREEZE = ("--set", "outer.on_divergence=freeze")


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """At step 6, tasks 0 and 2 of the second seed have targets that are no numbers."""
    whole = TaskStream._draw

    def draw(self: TaskStream, first_step: int, steps: int, device: torch.device | str) -> Task:
        block = whole(self, first_step, steps, device)
        if first_step <= 5 < first_step + steps:
            block.query.y[5 - first_step, 1, [0, 2]] = math.nan
        return block

    monkeypatch.setattr(TaskStream, "_draw", draw)


@pytest.mark.usefixtures("poisoned")
def test_stop_names_seed_step_and_tasks_and_leaves_a_finite_checkpoint(maml: Maml, folder: Path) -> None:
    outcome = maml("train", *COMMON, "--out", "run")
    assert outcome.code == 5
    assert "the loss is not finite for seed 5 at step 6; no update was made with it" in outcome.err
    assert "seed 5: tasks 0, 2 of its meta-batch" in outcome.err
    newest = list_checkpoints(folder / "run" / "checkpoints")[0]
    assert newest.name == "step-4.pt"
    assert all(theta.isfinite().all() for theta in load_checkpoint(newest).params.values())
    assert json.loads((folder / "run" / "run.json").read_text())["status"] == "diverged"


@pytest.mark.usefixtures("poisoned")
def test_freeze_lets_the_others_go_on_and_marks_the_dead_one_in_every_table(maml: Maml, folder: Path) -> None:
    outcome = maml("train", *COMMON, *FREEZE, "--out", "run")
    assert outcome.code == 0
    assert "seed 5 diverged at step 6 (tasks 0, 2 of its meta-batch) and is frozen" in outcome.err
    assert "frozen at step 6" in outcome.out
    dead = {3: None, 5: 6, 7: None}
    assert {row["seed"]: row["diverged_at_step"] for row in metrics(folder / "run")[-3:]} == dead
    evaluated = maml("eval", "run", "--json")
    rows = json.loads(evaluated.out)["results"]
    assert {row["seed"]: row["diverged_at_step"] for row in rows} == {"all": None} | dead
    assert all(row["num_diverged_seeds"] == 1 for row in rows if row["seed"] == "all")
    text = maml("eval", "run").out
    assert "frozen at step 6" in text
    assert "1 seed(s) frozen" in text
    with (folder / "run" / "evaluation.csv").open() as file:
        assert {row["diverged_at_step"] for row in csv.DictReader(file) if row["seed"] == "5"} == {"6"}


@pytest.mark.usefixtures("poisoned")
def test_freeze_marks_the_dead_seed_in_a_comparison(maml: Maml, folder: Path) -> None:
    outcome = maml("compare-orders", *COMMON, *FREEZE, "--out", "both")
    assert outcome.code == 0
    for order in ("first", "second"):
        assert f"{order} order: seed 5 diverged at step 6, frozen" in outcome.out
    found = json.loads((folder / "both" / "comparison.json").read_text())
    assert all(row["num_diverged_seeds"] == 1 for row in found["results"])
    assert {row["diverged_at_step"] for row in found["cosines"] if row["seed"] == 5 and row["step"] > 6} == {6}
    assert {row["diverged_at_step"] for row in found["cosines"] if row["seed"] != 5} == {None}


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("command", ["train", "compare-orders"])
def test_freeze_goes_on_where_the_step_at_which_a_seed_diverges_is_logged(
    maml: Maml, folder: Path, command: str
) -> None:
    outcome = maml(command, *COMMON, *FREEZE, "--set", "run.log_every_steps=1", "--out", "run")
    assert outcome.code == 0, outcome.err
    run = folder / "run" if command == "train" else folder / "run" / "second"
    at_six = [row for row in metrics(run) if row["step"] == 6]
    assert [row["post_adapt_loss"] is None for row in at_six] == [False, True, False]
    assert "n/a" not in outcome.err


def test_a_reporter_hears_the_mean_of_the_seeds_that_have_not_diverged() -> None:
    heard: list[tuple[int, int, float | None, float | None]] = []

    class Listener(Silent):
        def step(self, step: int, num_steps: int, pre_adapt_loss: float | None, post_adapt_loss: float | None) -> None:
            heard.append((step, num_steps, pre_adapt_loss, post_adapt_loss))

    def row(pre: float | None, post: float | None, diverged_at_step: int | None) -> Row:
        return {"step": 6, "pre_adapt_loss": pre, "post_adapt_loss": post, "diverged_at_step": diverged_at_step}

    report_step(Listener(), [row(1.0, 0.5, None), row(None, None, 6), row(3.0, 1.5, None), row(9.0, 9.0, 2)], 12)
    report_step(Listener(), [row(None, 0.5, None), row(3.0, 1.5, None)], 12)
    report_step(Listener(), [row(1.0, 1.0, 6)], 12)
    assert heard == [(6, 12, 2.0, 1.0), (6, 12, None, 1.0), (6, 12, None, None)]


@pytest.mark.parametrize("seeds", [3, 8])
def test_the_loss_figure_goes_on_for_the_seeds_that_have_not_diverged(seeds: int) -> None:
    rows = [
        {
            "step": step,
            "seed": seed,
            "diverged_at_step": 3 if seed == 1 and step >= 3 else None,
            "pre_adapt_loss": None if seed == 1 and step == 3 else 2.0 + seed,
            "post_adapt_loss": None if seed == 1 and step == 3 else 1.0 + seed,
        }
        for step in range(1, 7)
        for seed in range(seeds)
    ]
    figure = loss_figure(rows, title="x")
    axes = figure.axes[0]
    mean = next(line for line in axes.lines if str(line.get_label()).startswith("after adaptation"))
    everyone, healthy = (seeds - 1) / 2 + 1, (sum(range(seeds)) - 1) / (seeds - 1) + 1
    assert np.asarray(mean.get_ydata()).tolist() == pytest.approx([everyone] * 2 + [healthy] * 4)
    assert "1 diverged, left out from there on" in [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.usefixtures("poisoned")
def test_a_frozen_seed_stays_frozen_when_the_run_is_resumed(maml: Maml, folder: Path) -> None:
    maml("train", *COMMON, *FREEZE, "--out", "whole")
    maml("train", *COMMON, *FREEZE, "--out", "parts")
    checkpoints = folder / "parts" / "checkpoints"
    for path in list_checkpoints(checkpoints)[:2]:
        path.unlink()
    assert maml("train", *COMMON, *FREEZE, "--out", "parts", "--resume", "auto").code == 0
    assert metrics(folder / "parts") == metrics(folder / "whole")


def test_an_update_that_leaves_the_numbers_is_not_made(maml: Maml, folder: Path) -> None:
    outcome = maml(
        "train", "-c", "tiny.yaml", "--out", "run", "--set", "outer.optimizer=sgd", "--set", "outer.lr=3e38",
        "--set", "tasks.amplitude=[50, 60]", "--set", "run.checkpoint_every_steps=1", *FREEZE,
    )  # fmt: skip
    assert outcome.code == 5
    assert "seed 0 at step" in outcome.err
    assert "task 0" in outcome.err or "tasks 0" in outcome.err or "largest in task" in outcome.err
    for path in list_checkpoints(folder / "run" / "checkpoints"):
        assert all(theta.isfinite().all() for theta in load_checkpoint(path).params.values())
