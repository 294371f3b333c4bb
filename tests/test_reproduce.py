"""`maml reproduce`: the rows, the rule of the verdict, and the command from end to end."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mamlcli.config.file import load_published
from mamlcli.config.published import PublishedNumber, verdict
from mamlcli.models.layers import init_params
from mamlcli.models.mlp import MlpConfig
from mamlcli.tasks.family import Request
from mamlcli.tasks.sinusoid import SinusoidTasks, sinusoid
from mamlcli.tasks.stream import TaskList
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


@pytest.mark.parametrize(
    ("published", "mean", "expected"),
    [
        # Ours is 0.5; with 1.2 published, 1.3; with 0.4 for theirs, 0.64.
        ({"mean": 2.0, "analytic": True}, 2.49, "reproduced"),
        ({"mean": 2.0, "analytic": True}, 2.51, "not reproduced: higher"),
        ({"mean": 2.0, "analytic": True}, 1.49, "not reproduced: lower"),
        ({"mean": 2.0, "ci95": 1.2}, 3.29, "reproduced"),
        ({"mean": 2.0, "ci95": 1.2}, 3.31, "not reproduced: higher"),
        ({"mean": 2.0}, 2.64, "reproduced"),
        ({"mean": 2.0}, 2.65, "not reproduced: higher"),
        ({"mean": 2.0, "relation": "at_most"}, 0.1, "reproduced"),
        ({"mean": 2.0, "relation": "at_most"}, 2.51, "not reproduced: higher"),
        ({"mean": 2.0, "relation": "at_least"}, 9.0, "reproduced"),
        ({"mean": 2.0, "relation": "at_least"}, 1.49, "not reproduced: lower"),
        ({"mean": 2.0}, None, "not reproduced: 3 diverged"),
        ({}, 1.0, "no number published"),
    ],
)
def test_the_verdict_follows_its_rule(published: dict[str, object], mean: float | None, expected: str) -> None:
    number = PublishedNumber.model_validate({"shots": 5, "inner_steps": 1, **published})
    diverged = 3 if mean is None else 0
    assert verdict(number, mean, ci95=0.5, ci95_theirs=0.4, num_diverged=diverged) == expected


def test_an_interval_wider_than_the_number_decides_nothing() -> None:
    number = PublishedNumber(shots=5, inner_steps=5, mean=0.38)
    assert verdict(number, 148.5, ci95=455.5, ci95_theirs=326.0, num_diverged=4) == (
        "undecided: the interval is wider than the number (4 diverged)"
    )
    assert verdict(number, 0.5, ci95=0.1, ci95_theirs=0.1, num_diverged=0) == "reproduced"


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
    assert not re.search(r'(?:src|href)="(?!#)', page.replace("xlink:href", "href")), "the page needs another file"
    assert (folder / "back" / "curves.png").exists()
    assert "reproduced with seeds 0, 1" in (folder / "back" / "report.md").read_text()


def test_what_is_trained_is_not_trained_again(maml: Maml, folder: Path, row: Path) -> None:
    first = maml("reproduce", row, "--seeds", "0", "--out", "back", "--json")
    assert maml("reproduce", row, "--seeds", "0", "--out", "back").code == 3
    again = maml("reproduce", row, "--seeds", "0", "--resume", "back", "--json")
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


def test_fast_says_that_its_numbers_mean_nothing(maml: Maml, folder: Path, row: Path) -> None:
    outcome = maml("reproduce", row, "--fast", "--out", "back")
    assert outcome.code == 0
    assert "not comparable: a fast run" in outcome.out
    assert "the numbers mean nothing" in (folder / "back" / "report.md").read_text()


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
    assert f"| {found['mean']:.3f} | {found['ci95']:.3f} | {found['plain_mean']:.3f} |" in report


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
    assert re.search(r"to go on: maml reproduce .*--resume back\n", said)
    assert json.loads((metrics.parent / "run.json").read_text())["status"] == "interrupted"
    assert list((metrics.parent / "checkpoints").glob("*.pt"))
