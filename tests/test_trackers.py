"""Runs that are logged elsewhere too, read back with the packages that read them."""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml

import mamlcli
from mamlcli import Config
from mamlcli.config.changes import changes
from mamlcli.errors import UsageError
from mamlcli.runs.folder import RunFolder
from mamlcli.trackers import group
from mamlcli.trackers.destination import About, Place
from mamlcli.trackers.scalars import evaluation_scalars, training_scalars
from tests.conftest import TINY, Maml
from tests.same_run import metrics
from tests.zygote import Zygote

Point = tuple[int, float]


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(name) is None, reason=f"needs mamlcli[{name}]")


def logged_to(*names: str, **outer: int) -> Config:
    changed = yaml.safe_load(TINY)
    changed["run"]["log_to"] = list(names)
    changed["outer"] |= outer
    return mamlcli.parse_config(yaml.safe_dump(changed))


class Heard:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def step(self, step: int, num_steps: int, pre_adapt_loss: float | None, post_adapt_loss: float | None) -> None:
        pass

    def progress(self, doing: str, done: int, total: int) -> None:
        pass

    @property
    def warnings(self) -> list[str]:
        return [note for note in self.notes if note.startswith("warning")]


def cut_to(run: Path, step: int) -> None:
    """Leave what a process leaves that is killed some time after it has saved a step."""
    for path in (run / "checkpoints").iterdir():
        if int(path.name.removeprefix("step-").split(".")[0]) > step:
            path.unlink()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was cut off after step 5, was continued and then evaluated, with every tracker that is installed."""
    path = tmp_path_factory.mktemp("trackers") / "five-shot"
    config = logged_to(*(name for name in group.FOLDERS if find_spec(name)))
    heard = Heard()
    mamlcli.train(config, out=path, reporter=heard)
    cut_to(path, 5)
    mamlcli.train(config, out=path, resume=True, reporter=heard)
    assert "continuing" in " ".join(heard.notes)
    mamlcli.evaluate(path, reporter=heard)
    assert not heard.warnings
    return path


def expected_training(run: Path) -> dict[str, list[Point]]:
    """Of each chart the points, from the rows of metrics.jsonl, written out."""
    charts: dict[str, list[Point]] = defaultdict(list)
    for row in metrics(run):
        for name in ("pre_adapt_loss", "post_adapt_loss", "grad_norm"):
            charts[f"{name}/seed-{row['seed']}"].append((row["step"], row[name]))
        if row["seed"] == 0:
            charts["lr"].append((row["step"], row["lr"]))
    for name in ("pre_adapt_loss", "post_adapt_loss", "grad_norm"):
        both = zip(charts[f"{name}/seed-0"], charts[f"{name}/seed-1"], strict=True)
        charts[f"{name}/mean"] = [(step, (one + other) / 2) for (step, one), (_, other) in both]
    return dict(charts)


def expected_evaluation(run: Path) -> dict[str, list[Point]]:
    charts: dict[str, list[Point]] = defaultdict(list)
    for row in json.loads((run / "evaluation.json").read_text())["results"]:
        who = "mean" if row["seed"] == "all" else f"seed-{row['seed']}"
        charts[f"evaluation/K-{row['shots']}/{who}"].append((row["inner_steps"], row["mean"]))
    return dict(charts)


def expected(run: Path) -> dict[str, list[Point]]:
    return expected_training(run) | expected_evaluation(run)


def events(run: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # A size of 0 keeps all of them.
    return EventAccumulator(str(run / "tensorboard"), {"scalars": 0, "images": 0, "tensors": 0}).Reload()


def points(found: Any) -> dict[str, list[Point]]:
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def in_float32(charts: dict[str, list[Point]]) -> dict[str, list[Point]]:
    return {name: [(step, float(np.float32(value))) for step, value in chart] for name, chart in charts.items()}


@needs("tensorboard")
def test_tensorboard_reads_back_each_number_once(run: Path) -> None:
    assert len(list((run / "tensorboard").iterdir())) == 1
    assert points(events(run)) == in_float32(expected(run))


@needs("tensorboard")
def test_tensorboard_shows_figures_and_the_config(run: Path) -> None:
    found = events(run)
    assert {tag.removeprefix("figures/") for tag in found.Tags()["images"]} == {"loss", "adaptation", "fits"}
    for stem in ("loss", "adaptation", "fits"):
        assert found.Images(f"figures/{stem}")[-1].encoded_image_string == (run / f"{stem}.png").read_bytes()
    text = found.Tensors("config")[0].tensor_proto.string_val[0].decode()
    assert text == f"```yaml\n{(run / 'config.yaml').read_text()}```"
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    hparams = HParamsPluginData.FromString(content).session_start_info.hparams
    assert hparams["outer.lr"].number_value == 0.001
    assert hparams["seeds"].string_value == "[0, 1]"


@needs("tensorboard")
def test_a_training_that_goes_on_with_a_tracker_shows_there_from_its_start(tmp_path: Path) -> None:
    mamlcli.train(logged_to(steps=8), out=tmp_path / "run")
    assert not (tmp_path / "run" / "tensorboard").exists()
    mamlcli.train(logged_to("tensorboard"), out=tmp_path / "run", resume=True)
    assert points(events(tmp_path / "run")) == in_float32(expected_training(tmp_path / "run"))
    assert list(RunFolder(tmp_path / "run").config().run.log_to) == ["tensorboard"]


@needs("tensorboard")
def test_each_order_of_a_comparison_is_logged(tmp_path: Path) -> None:
    mamlcli.compare_orders(logged_to("tensorboard"), out=tmp_path / "both")
    for order in ("first", "second"):
        assert points(events(tmp_path / "both" / order)) == in_float32(expected_training(tmp_path / "both" / order))
