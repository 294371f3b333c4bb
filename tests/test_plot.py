"""`maml plot` draws what a folder keeps again, and computes nothing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mamlcli
from mamlcli import Config, parse_config
from mamlcli.errors import CheckpointError, UsageError
from mamlcli.experiment import make_experiment
from mamlcli.interrupts import StopRequest
from mamlcli.meta_test.measure import meta_test
from mamlcli.ranks import Ranks
from mamlcli.runs.drawings import read_drawing
from mamlcli.threads import Threads
from mamlcli.trained.loading import load
from tests.conftest import TINY, Maml

FILES = ("adaptation", "fits", "loss")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was evaluated; read only."""
    path = tmp_path_factory.mktemp("plot") / "run"
    mamlcli.train(parse_config(TINY), out=path)
    mamlcli.evaluate(path)
    return path


@pytest.fixture
def run(evaluated: Path, folder: Path) -> Path:
    """A copy of it in the working folder."""
    shutil.copytree(evaluated, folder / "run")
    return Path("run")


def test_figures_are_drawn_again_in_their_place_byte_for_byte(maml: Maml, run: Path) -> None:
    before = {path: path.read_bytes() for stem in FILES for path in run.glob(f"{stem}.*")}
    assert len(before) == 4 * len(FILES)  # png, svg, csv and what draws it
    for path in before:
        if path.suffix in (".png", ".svg"):
            path.write_text("old")
    out = maml("plot", "run").out
    assert {path: path.read_bytes() for path in before} == before
    assert out.splitlines()[-2:] == ["loss         run/loss.png", "loss         run/loss.svg"]


def test_a_figure_for_a_column_goes_to_the_working_folder_and_replaces_nothing(maml: Maml, run: Path) -> None:
    asked = ("plot", run, "--what", "fits", "--what", "loss", "--width", "column", "--format", "pdf,svg")
    assert maml(*asked).code == 0
    made = {"fits-column.pdf", "fits-column.svg", "loss-column.pdf", "loss-column.svg"}
    assert made == {path.name for path in Path().glob("*-column.*")}
    assert Path("fits-column.pdf").read_bytes().startswith(b"%PDF")
    assert 'width="244.8pt"' in Path("loss-column.svg").read_text()  # 3.4 inches
    refused = maml(*asked)
    assert (refused.code, refused.err) == (
        3,
        "maml: fits-column.pdf exists already; use --overwrite to replace it\n",
    )
    assert maml(*asked, "--overwrite").code == 0


def test_a_name_says_the_format_and_a_folder_is_made(maml: Maml, run: Path) -> None:
    assert maml("plot", run, "--what", "loss", "--out", "here.PDF").code == 0
    assert Path("here.PDF").read_bytes().startswith(b"%PDF")
    printed = json.loads(maml("plot", run, "--out", "paper/figures", "--format", "png", "--json").out)
    assert printed["figures"] == [{"what": stem, "files": [f"paper/figures/{stem}.png"]} for stem in FILES]
    assert all(Path(f"paper/figures/{stem}.png").exists() for stem in FILES)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--what", "los"), 2, "run: no figure 'los': it has adaptation, fits, loss"),
        (("--out", "x.jpg"), 2, "x.jpg: a figure's name ends with .png, .svg, .pdf"),
        (("--out", "x.png"), 2, "x.png holds one figure, of adaptation, fits, loss: name which, or a folder"),
        (("--out", "x.png", "--what", "loss", "--format", "svg"), 2, "x.png: its name says another format than svg"),
        (("--format", "gif"), 2, "format: must be among png, svg, pdf, got 'gif'"),
        (("--width", "wide"), 2, "'wide' is not one of 'column'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(maml: Maml, run: Path, options: tuple[str, ...], code: int, said: str) -> None:
    outcome = maml("plot", run, *options)
    assert outcome.code == code
    assert said in outcome.err


def test_a_figure_that_is_not_there_is_named_with_what_makes_it(maml: Maml, run: Path) -> None:
    for path in run.glob("fits.*"):
        path.unlink()
    said = "run: no figure 'fits': it has adaptation, loss; "
    assert maml("plot", run, "--what", "fits").err == f"maml: {said}maml eval run makes it\n"
    with pytest.raises(UsageError, match=r"mamlcli\.evaluate\('run'\) makes it"):
        mamlcli.plot(run, "fits")
    with pytest.raises(CheckpointError, match="no such run folder"):
        mamlcli.plot("nowhere")


def test_a_run_that_was_killed_before_its_figure_has_its_loss_as_far_as_it_came(maml: Maml, run: Path) -> None:
    for path in run.glob("*.figure.json"):
        path.unlink()
    rows = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(rows[:4]) + rows[4][:20])
    assert maml("plot", run).out.splitlines() == ["loss         run/loss.png", "loss         run/loss.svg"]
    drawing = read_drawing(run / "loss.figure.json")
    assert [row["step"] for row in drawing.rows] == [1, 1, 4, 4]
    assert drawing.labels["title"] == "tiny: second-order MAML, 2 seeds"
    assert len((run / "loss.csv").read_text().splitlines()) == 5


def test_a_comparison_and_an_evaluation_elsewhere_are_drawn_too(maml: Maml, tiny: Config, run: Path) -> None:
    mamlcli.compare_orders(tiny, out="both")
    assert [line.split()[0] for line in maml("plot", "both").out.splitlines()[::2]] == [
        "adaptation",
        "cosine",
        "differences",
        "learning",
    ]
    (Path("both") / "cosine.figure.json").unlink()
    assert mamlcli.plot("both", "cosine").axes
    elsewhere = mamlcli.evaluate(run, overrides=("evaluation.tasks=5",)).run
    assert mamlcli.plot(elsewhere, "fits").axes


def test_what_draws_a_figure_again_loads_no_torch(run: Path) -> None:
    code = "import sys, mamlcli.cli.app, mamlcli.commands.plot as p; p.redraw('run'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0, run


def test_a_notebook_shows_a_figure_without_pyplot(run: Path) -> None:
    formatters = pytest.importorskip("IPython.core.formatters")
    shown: dict[str, Any]
    shown, about = formatters.DisplayFormatter().format(mamlcli.plot(run, "fits", width="column"))
    assert shown["image/png"].startswith(b"\x89PNG")
    assert about["image/png"] == {"width": 326}  # 3.4 inches of 96 pixels


def test_the_mse_of_a_fit_is_that_of_the_meta_test(run: Path) -> None:
    trained = load(run)
    rows = [row for row in read_drawing(run / "fits.figure.json").rows if row["shown"] == "loss"]
    config = parse_config(TINY, overrides=["evaluation.inner_steps=10"])
    experiment, cpu = make_experiment(config), torch.device("cpu")
    with Threads("auto", 1, print) as threads:
        losses = meta_test(experiment, trained.params, cpu, Ranks(StopRequest()), threads)[5][""][
            0
        ]  # of the first seed
    expected = [float(losses[task, steps]) for task in range(3) for steps in (0, 1, 10)]
    assert [row["y"] for row in rows] == pytest.approx(expected, rel=1e-5)


def test_the_mse_of_a_fit_to_rows_of_a_file_is_in_the_unit_of_its_target(folder: Path) -> None:
    lines = [f"t{task},{x},{300 + 20 * task + 9 * x * x}" for task in range(12) for x in range(-4, 5)]
    (folder / "own.csv").write_text("\n".join(["name,x,kelvin", *lines]))
    text = """
name: own
seeds: [0, 1]
device: cpu
tasks: {family: table, path: own.csv, task: name, inputs: x, target: kelvin, support_shots: 3, query_shots: 4}
model: {hidden_sizes: [6], activation: tanh}
outer: {steps: 4, meta_batch_size: 2}
"""
    run = mamlcli.train(parse_config(text), out="own").run
    mamlcli.evaluate(run, overrides=("evaluation.shots=[3]",), out="tested")
    rows, trained = read_drawing(Path("tested/fits.figure.json")).rows, load(run)
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    said = {(row["task"], row["curve"]): row["y"] for row in rows if row["shown"] == "loss"}
    for task in tasks:
        support, query = (
            np.array([(row["x"], row["y"]) for row in rows if (row["task"], row["curve"]) == (task, name)])
            for name in ("support", "query")
        )
        predicted = trained.adapt(support[:, :1], support[:, 1:], steps=10).per_seed(query[:, :1])[0]
        expected = np.mean((predicted[:, 0] - query[:, 1]) ** 2)
        assert said[task, "after 10 inner steps"] == pytest.approx(expected, rel=1e-3)
