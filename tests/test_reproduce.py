"""`maml reproduce`: the rows, their verdicts, and the command from end to end."""

import json
import math
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from mamlcli.commands.reproduction_numbers import beside_published
from mamlcli.commands.reproduction_rows import load_rows, planned, trainings, unlike
from mamlcli.commands.reproduction_time import Cost, about, cost_of
from mamlcli.config.file import load_published
from mamlcli.config.published import PublishedNumber, PublishedRow
from mamlcli.config.shipped import shipped_groups
from mamlcli.models.layers import init_params
from mamlcli.models.mlp import MlpConfig
from mamlcli.tasks.family import Request
from mamlcli.tasks.sinusoid import SinusoidTasks, sinusoid
from mamlcli.tasks.stream import TaskList
from mamlcli.types import Row
from mamlcli.verdicts import Spread
from tests.conftest import ROOT, Maml

ROWS = sorted((ROOT / "configs" / "reproduce").glob("*.yaml"))
TINY_ROW = """
title: a tiny <experiment> & more
source: nobody
ambiguous: everything
curve: tiny
published:
- {shots: 3, inner_steps: 1, mean: 0.5}
- {shots: 5, inner_steps: 0}
config: {name: tiny, seeds: [7], model: {hidden_sizes: [8]}, outer: {steps: 12, meta_batch_size: 3},
  evaluation: {tasks: 7, query_shots: 9, shots: [3, 5], inner_steps: 3}}
"""


@pytest.fixture
def row(folder: Path) -> Path:
    (folder / "tiny-row.yaml").write_text(TINY_ROW)
    return folder / "tiny-row.yaml"


@pytest.mark.parametrize("path", ROWS, ids=lambda path: path.stem)
def test_every_row_measures_what_it_publishes(path: Path) -> None:
    row = load_published(path)
    assert row.config.name == path.stem
    assert path.read_text().splitlines()[1] == f"# maml reproduce {path.stem}"
    for number in row.published:
        assert number.shots in row.config.evaluation.shots
        assert number.inner_steps <= row.config.evaluation.inner_steps


@pytest.mark.parametrize("name", ["maml-alpha-0.01", "maml-alpha-0.001", "joint"])
def test_rows_of_the_maml_paper_begin_as_its_code_does_and_have_pytorchs_weights_beside_them(name: str) -> None:
    # The authors' code (github.com/cbfinn/maml, maml.py, construct_fc_weights) draws each weight matrix with
    # tf.truncated_normal(stddev=0.01), which cuts at two of them, and sets each bias to zero; the paper is silent.
    rows = {path.stem: load_published(path) for path in ROWS}
    begun, beside = rows[name].config, rows[f"{name}-torch-init"].config
    assert isinstance(begun.model, MlpConfig)
    assert isinstance(beside.model, MlpConfig)
    weights = init_params((1, 40, 40, 1), init=begun.model.init, seed=0)
    assert all(value.abs().max() <= 0.02 for value in weights.values())
    assert all((value == 0).all() for key, value in weights.items() if key.endswith("bias"))
    # A normal cut at two standard deviations keeps 0.8796 of its own.
    assert weights["layer1.weight"].std().item() == pytest.approx(0.8796 * 0.01, rel=0.05)
    assert beside.model.model_dump()["init"] == "torch_default"
    alike = {"name": beside.name, "model": beside.model}
    assert begun.model_copy(update=alike) == beside, "the two rows differ in more than their initial weights"
    assert rows[name].published == rows[f"{name}-torch-init"].published


def beside(row: Path, number: Mapping[str, object], mean: float, plain: NDArray[np.float64], **more: object) -> Row:
    """How a mean of 2.0 for the rest stands to a published number, with a spread of 0.1 of ours."""
    published = PublishedNumber.model_validate({"shots": 5, "inner_steps": 1, **number})
    found = PublishedRow.model_validate({**dict(load_published(row)), **more})
    return beside_published(found, published, mean, Spread(0.1, 0.08), plain)


PLAIN = np.random.default_rng(0).normal(2.0, 1.0, size=(5, 200)) + np.linspace(-0.1, 0.1, 5)[:, None]


@pytest.mark.parametrize(
    ("number", "mean", "expected"),
    [
        ({"mean": 2.0, "analytic": True}, 2.05, "equivalent"),
        ({"mean": 2.0, "analytic": True}, 2.15, "worse"),
        ({"mean": 2.0, "analytic": True}, 1.85, "better"),
        ({"mean": 2.0, "ci95": 5.0}, 2.0, "inconclusive"),  # a wide interval reproduces nothing
        ({"mean": 2.0, "relation": "at_most"}, 0.1, "met"),
        ({"mean": 2.0, "relation": "at_most"}, 2.2, "not met"),
        ({"mean": 2.0, "relation": "at_least"}, 9.0, "met"),
        ({"mean": 2.0}, math.nan, "diverged"),
        ({}, 1.0, "no number published"),
    ],
)
def test_the_verdict_is_a_statement(row: Path, number: dict[str, object], mean: float, expected: str) -> None:
    found = beside(row, number, mean, PLAIN)
    assert found["verdict"] == expected
    assert found["margin"] == (None if expected == "no number published" else pytest.approx(0.2))


def test_the_interval_of_a_difference_holds_both_sides(row: Path) -> None:
    tasks = stats.t.ppf(0.975, 199) * stats.sem(PLAIN.mean(axis=0))
    seeds = stats.t.ppf(0.975, 4) * PLAIN.mean(axis=1).std(ddof=1)
    assert beside(row, {"mean": 2.0}, 2.0, PLAIN)["difference_ci95"] == pytest.approx(math.hypot(0.1, tasks, seeds))
    known = {"mean": 2.0, "ci95": 0.3}
    assert beside(row, known, 2.0, PLAIN)["difference_ci95"] == pytest.approx(math.hypot(0.1, 0.3, seeds))
    assert beside(row, known, 2.0, PLAIN, trainings=None)["difference_ci95"] == pytest.approx(math.hypot(0.1, 0.3))
    exact = beside(row, {"mean": 2.0, "analytic": True}, 2.0, PLAIN)
    assert (exact["difference_ci95"], exact["difference_ci90"]) == pytest.approx((0.1, 0.08))
    assert beside(row, known, 2.0, PLAIN, margin=0.5)["margin"] == pytest.approx(1.0)


def test_rows_are_in_groups_and_a_group_joins_what_is_named() -> None:
    assert {name for names in shipped_groups().values() for name in names} == {path.stem for path in ROWS}
    for group, names in shipped_groups().items():
        assert all(group in load_published(path).groups for path in ROWS if path.stem in names)
    found = load_rows(["zero", "notebook-maml"], ["notebook"])
    assert list(found)[:2] == ["zero", "notebook-maml"]
    assert set(found) == {"zero", *shipped_groups()["notebook"]}


def test_the_guide_names_every_group() -> None:
    said = (ROOT / "docs" / "guides" / "reproduce.md").read_text("utf-8")
    groups = re.findall(r"`([a-z0-9-]+)`", said.partition("| group |")[2].partition("Each row is")[0])
    assert sorted(groups) == sorted(shipped_groups())


def test_every_row_beside_another_is_measured_on_its_tasks() -> None:
    plans = planned(load_rows([]), (0, 1), fast=False)
    for name, plan in plans.items():
        if plan.row.beside:
            assert not unlike(plan, plans[plan.row.beside]), name


def test_rows_that_differ_in_testing_alone_are_trained_once() -> None:
    plans = planned(load_rows([], ["audit"]), (0, 1), fast=False)
    assert plans["dkt-maml-as-defined"].run == plans["dkt-maml-adam-in-testing"].run
    assert len(trainings(plans)) == len(plans) - 1
    tested = plans["dkt-maml-as-run"].tested.algorithm.model_dump()
    assert (tested["inner_optimizer"], tested["inner_lr"], tested["order"]) == ("adam", 0.01, "first")


def test_every_row_that_trains_says_what_its_steps_cost() -> None:
    for name, plan in planned(load_rows([]), (0, 1), fast=False).items():
        assert cost_of(name, plan).is_known, name


def test_the_time_is_that_of_the_longest_first_on_so_many_cores() -> None:
    costs = {name: Cost(0.01, steps, 2.0, is_known=True) for name, steps in (("a", 3000), ("b", 2000), ("c", 2000))}
    start = about(costs, {}, 3) - 2 * 3 - 30
    assert about(costs, {}, 2) == pytest.approx(40 + 2 * start + 6)
    assert about(costs, {"b": 2000, "c": 1000}, 2) == pytest.approx(30 + start + 6)


def test_a_row_is_set_beside_another_paired_by_seed_and_task(maml: Maml, folder: Path, row: Path) -> None:
    other = TINY_ROW.replace("name: tiny", "name: other").replace("steps: 12", "steps: 9")
    (folder / "other.yaml").write_text(other + "beside: tiny-row\n")
    outcome = maml("reproduce", row, "other.yaml", "--seeds", "0-1", "--out", "back", "--json")
    assert outcome.code == 0, outcome.err
    assert "2 rows on " in outcome.err
    result = json.loads(outcome.out)
    both = {name: [one for one in result["results"] if one["row"] == name] for name in ("tiny-row", "other")}
    for pair, theirs, ours in zip(result["pairs"], both["tiny-row"], both["other"], strict=True):
        assert pair["difference"] == pytest.approx(ours["plain_mean"] - theirs["plain_mean"])
        assert pair["margin"] == pytest.approx(0.1 * theirs["plain_mean"])
    assert "Rows beside each other" in (folder / "back" / "report.md").read_text()


def test_a_row_is_trained_measured_and_reported(maml: Maml, folder: Path, row: Path) -> None:
    outcome = maml("reproduce", row, "--seeds", "0-1", "--out", "back", "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert result["schema"] == "mamlcli.reproduce/1"
    assert [(line["row"], line["shots"], line["inner_steps"]) for line in result["results"]] == [
        ("tiny-row", 3, 1),
        ("tiny-row", 5, 0),
    ]
    evaluated = json.loads(maml("eval", "back/runs/tiny-row", "--json").out)["results"]
    over = next(line for line in evaluated if (line["seed"], line["shots"], line["inner_steps"]) == ("all", 3, 1))
    assert result["results"][0]["plain_mean"] == pytest.approx(over["mean"], rel=1e-6)
    assert result["results"][0]["plain_ci95"] == pytest.approx(over["ci95"], rel=1e-6)
    assert result["results"][1]["verdict"] == "no number published"
    page = (folder / "back" / "report.html").read_text()
    assert "a tiny &lt;experiment&gt; &amp; more" in page
    links = re.sub(r'<a href="https://[^"]*" rel="noreferrer">', "", page.replace("xlink:href", "href"))
    assert not re.search(r'(?:src|href)="(?!#)', links), "the page needs another file"
    assert (folder / "back" / "curves.png").exists()
    assert re.search(r"Of 1 published number: 1 \w+; with seeds 0, 1", (folder / "back" / "report.md").read_text())


def test_what_is_trained_is_not_trained_again(maml: Maml, folder: Path, row: Path) -> None:
    first = maml("reproduce", row, "--seeds", "0", "--out", "back", "--json")
    assert maml("reproduce", row, "--seeds", "0", "--out", "back").code == 3
    again = maml("reproduce", "--resume", "back", "--json")  # the folder says which rows and seeds
    assert json.loads(again.out)["results"] == json.loads(first.out)["results"]
    sessions = json.loads((folder / "back" / "runs" / "tiny-row" / "run.json").read_text())["sessions"]
    assert [session["from_step"] for session in sessions] == [0]
    # Another process takes over where a run is not whole.
    newest = folder / "back" / "runs" / "tiny-row"
    info = json.loads((newest / "run.json").read_text()) | {"status": "interrupted"}
    (newest / "run.json").write_text(json.dumps(info))
    assert maml("reproduce", row, "--seeds", "0", "--resume", "back").code == 0
    sessions = json.loads((newest / "run.json").read_text())["sessions"]
    assert [session["from_step"] for session in sessions] == [0, 12]


def test_a_folder_of_something_else_is_not_gone_on_with(maml: Maml, folder: Path, row: Path) -> None:
    assert maml("train", "-c", "tiny.yaml", "--out", "run").code == 0
    before = (folder / "run" / "run.json").read_text()
    outcome = maml("reproduce", row, "--resume", "run")
    assert outcome.code == 4
    assert "run: not a folder of maml reproduce" in outcome.err
    assert (folder / "run" / "run.json").read_text() == before


def test_fast_is_stamped_on_table_page_and_figure(maml: Maml, folder: Path, row: Path) -> None:
    outcome = maml("reproduce", row, "--fast", "--out", "back")
    assert outcome.code == 0
    assert outcome.out.startswith("A fast run: ")
    found = json.loads((folder / "back" / "reproduction.json").read_text())["results"]
    assert {line["verdict"] for line in found} == {"not comparable: a fast run"}
    page = (folder / "back" / "report.md").read_text()
    assert page.startswith("# Reproduction (a fast run: no number means anything)")
    assert page.count("the numbers mean nothing") >= 2
    assert "fast run: no number means anything" in (folder / "back" / "curves.figure.json").read_text()
    assert "not comparable: a fast run" in (folder / "back" / "reproduction.csv").read_text()


def test_a_training_that_fails_leaves_a_row_that_says_so(maml: Maml, row: Path) -> None:
    row.write_text(TINY_ROW.replace("steps: 12", "steps: 12, lr: 1e18, optimizer: sgd"))
    outcome = maml("reproduce", row, "--out", "back", "--json")
    assert outcome.code == 0
    results = json.loads(outcome.out)["results"]
    assert all(line["verdict"].startswith("not run: the loss is not finite") for line in results)


def test_the_zero_predictor_scores_the_mean_square_of_the_targets(maml: Maml) -> None:
    outcome = maml("reproduce", str(ROOT / "configs" / "reproduce" / "zero.yaml"), "--out", "back", "--json")
    found = json.loads(outcome.out)["results"][0]
    query = TaskList(sinusoid(SinusoidTasks()), 0, "meta-test").tasks(0, 600, Request(5, 100)).query
    assert found["mean"] == pytest.approx(query.y.square().mean().item(), rel=1e-5)
    assert found["ci95_seeds"] == pytest.approx(0.0, abs=1e-6)
    assert found["control_expected"] == pytest.approx((0.1**2 + 0.1 * 5 + 5**2) / 3 / 2)
    assert found["correction"] == "not corrected: it is the control variate itself"


UNTRAINED = """
title: what training begins with
source: nobody
ambiguous: nothing
start: random-init
published:
- {shots: 5, inner_steps: 0, mean: 4.2517, analytic: true}
config: {name: untrained, algorithm: {inner_lr: 0.0}, evaluation: {shots: [5], inner_steps: 0}}
"""


def test_how_hard_the_tasks_happen_to_be_is_corrected_by_what_zero_scores(maml: Maml, folder: Path) -> None:
    # Before training a model says nearly nothing: its loss is nearly that of zero, which is 4.441 on the fixed tasks
    # and 4.252 over all of them. Corrected, it is what it is over 20,000 other tasks.
    (folder / "untrained.yaml").write_text(UNTRAINED)
    found = json.loads(maml("reproduce", "untrained.yaml", "--out", "back", "--json").out)["results"][0]
    assert found["control_mean"] == pytest.approx(4.441, abs=5e-4)
    assert found["control_expected"] == pytest.approx(4.2517, abs=5e-5)
    assert found["plain_mean"] - found["mean"] == pytest.approx(
        found["control_coefficient"] * (found["control_mean"] - found["control_expected"])
    )
    many = UNTRAINED.replace("evaluation: {", "evaluation: {tasks: 20000, seed: 1, query_shots: 20, ")
    (folder / "many.yaml").write_text(many)
    truth = json.loads(maml("reproduce", "many.yaml", "--out", "more", "--json").out)["results"][0]["plain_mean"]
    assert abs(found["mean"] - truth) < 0.25 * abs(found["plain_mean"] - truth)
    assert found["ci95_tasks"] < 0.3 * found["plain_ci95"]
    report = (folder / "back" / "report.md").read_text()
    assert (
        "where zero scores 4.441, and 4.252 over all tasks. Corrected by the zero predictor as control vari" in report
    )
    numbers = f"{found['mean']:.3f} | {found['ci95']:.3f} | equivalent | 0.425 | {found['plain_mean']:.3f}"
    assert f"| {numbers} |" in report


def test_a_mean_of_adaptations_that_diverged_is_not_corrected(maml: Maml, folder: Path, row: Path) -> None:
    row.write_text(TINY_ROW.replace("query_shots: 9", "query_shots: 9, diverged_above: 0.001"))
    outcome = maml("reproduce", row, "--out", "back")
    said = " ".join(outcome.out.split())
    assert "by the zero predictor as control variate; the reports have the uncorrected means too" in said
    found = json.loads((folder / "back" / "reproduction.json").read_text())["results"][0]
    assert found["num_diverged"] > 0
    assert found["correction"] == "not corrected: adaptations diverged, and the mean is theirs"
    assert found["mean"] == found["plain_mean"]
    assert found["control_coefficient"] is None


def test_with_one_seed_the_table_says_that_nothing_is_known_of_others(maml: Maml, row: Path) -> None:
    out = maml("reproduce", row, "--seeds", "0", "--out", "back").out
    assert "over tasks of one seed; nothing is known of other seeds" in " ".join(out.split())


def test_rows_are_listed_and_unknown_ones_refused(maml: Maml) -> None:
    assert "joint" in maml("reproduce", "--list").out
    listed = json.loads(maml("reproduce", "--list", "--json").out)
    assert {line["row"] for line in listed["rows"]} == {path.stem for path in ROWS}
    grouped = json.loads(maml("reproduce", "--list", "--group", "meta-sgd", "--json").out)
    assert [(line["row"], line["protocol"][:36]) for line in grouped["rows"]] == [
        ("arml-meta-sgd", "70,000 meta-updates of 25 tasks, K ="),
        ("notebook-meta-sgd", "60,000 meta-updates of 4 tasks, K = "),
    ]
    outcome = maml("reproduce", "--group", "metasgd")
    assert outcome.code == 2
    assert "no group is named 'metasgd'; did you mean 'meta-sgd'? known: arml, audit, " in outcome.err
    outcome = maml("reproduce", "jiont")
    assert outcome.code == 2
    assert "no row is named 'jiont'; did you mean 'joint'? " in outcome.err


def test_a_row_that_is_wrong_is_explained(maml: Maml, row: Path) -> None:
    row.write_text(TINY_ROW.replace("shots: 3, inner_steps", "shots: 0, innr_steps"))
    outcome = maml("reproduce", row)
    assert outcome.code == 2
    assert "tiny-row.yaml:7" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_signal_saves_every_training_and_a_resume_goes_on(folder: Path, row: Path) -> None:
    row.write_text(TINY_ROW.replace("steps: 12", "steps: 1000000"))
    command = [sys.executable, "-c", "from mamlcli.cli import main; main()", "reproduce", str(row), "--out", "back"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    metrics = folder / "back" / "runs" / "tiny-row" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") > 5):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "to go on: maml reproduce --resume back\n" in said
    assert json.loads((metrics.parent / "run.json").read_text())["status"] == "interrupted"
    assert list((metrics.parent / "checkpoints").glob("*.pt"))
