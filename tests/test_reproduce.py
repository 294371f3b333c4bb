"""`maml reproduce`: the rows, the rule of the verdict, and the command from end to end."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mamlcli.config_file import load_published
from mamlcli.published import PublishedNumber, verdict
from mamlcli.tasks import SinusoidFamily, TaskList
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
    assert path.read_text().startswith(f"# maml reproduce {path.stem}\n")
    for number in row.published:
        assert number.shots in row.config.evaluation.shots
        assert number.inner_steps <= row.config.evaluation.inner_steps


@pytest.mark.parametrize(
    ("published", "mean", "expected"),
    [
        # Half-widths of 0.3 over seeds and 0.4 over tasks make 0.5; with 1.2 published, 1.3; with 0.4 once more, 0.64.
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
    assert verdict(number, mean, ci95_seeds=0.3, ci95_tasks=0.4, num_diverged=diverged) == expected


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
    assert result["results"][0]["mean"] == pytest.approx(over["mean"], rel=1e-6)
    assert result["results"][0]["ci95_seeds"] == pytest.approx(over["ci95"], rel=1e-6)
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
    query = TaskList(SinusoidFamily(), 0, "meta-test").tasks(0, 600, support_shots=5, query_shots=100).query
    assert found["mean"] == pytest.approx(query.y.square().mean().item(), rel=1e-5)
    assert found["ci95_seeds"] == pytest.approx(0.0, abs=1e-6)


def test_rows_are_listed_and_unknown_ones_refused(maml: Maml) -> None:
    assert "joint" in maml("reproduce", "--list").out
    listed = json.loads(maml("reproduce", "--list", "--json").out)
    assert {line["row"] for line in listed["rows"]} == {path.stem for path in ROWS}
    outcome = maml("reproduce", "jiont")
    assert outcome.code == 2
    assert "no row is named 'jiont'; known: " in outcome.err


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
    assert "maml reproduce --resume back" in said
    assert json.loads((metrics.parent / "run.json").read_text())["status"] == "interrupted"
    assert list((metrics.parent / "checkpoints").glob("*.pt"))
