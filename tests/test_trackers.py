"""Runs that are logged elsewhere too, read back with the packages that read them."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import mamlcli
from mamlcli import Config
from mamlcli.errors import UsageError
from mamlcli.runs.folder import RunFolder
from mamlcli.trackers import group
from mamlcli.trackers.destination import About, Place
from mamlcli.trackers.scalars import evaluation_scalars, training_scalars
from tests.conftest import TINY, Maml
from tests.same_run import metrics
from tests.zygote import Zygote

Point = tuple[int, float]
# Of the packages that read back, none is to look at the settings of whoever runs the tests, nor to write beside them.
ALONE = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "MLFLOW_"))} | {
    "WANDB_MODE": "offline",
    "WANDB_ERROR_REPORTING": "false",
}


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
    heard = Heard()
    mamlcli.train(logged_to(*(name for name in ("tensorboard",) if find_spec(name))), out=path, reporter=heard)
    cut_to(path, 5)
    config = logged_to(*(name for name in group.FOLDERS if find_spec(name)))
    mamlcli.train(config, out=path, resume=True, reporter=heard)
    assert "continuing" in " ".join(heard.notes)
    mamlcli.evaluate(path, reporter=heard)
    assert not heard.warnings
    return path


def expected_training(run: Path) -> dict[str, list[Point]]:
    """Of each chart the points, from the rows of metrics.jsonl, written out."""
    charts: dict[str, list[Point]] = defaultdict(list)
    found: list[dict[str, Any]] = metrics(run)
    for row in found:
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


@pytest.fixture(scope="module")
def records(run: Path) -> list[dict[str, Any]]:
    """What wandb itself reads in the one offline run that is there."""
    (file,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=ALONE | {"HOME": str(run)}).stdout
    return [json.loads(line) for line in said.splitlines()]


def rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record["history"]["item"] for record in records if record["type"] == "history"]


@needs("wandb")
def test_wandb_reads_back_each_number_once(run: Path, records: list[dict[str, Any]]) -> None:
    charts: dict[str, list[Point]] = defaultdict(list)
    for row in rows(records):
        step = row["inner_steps"] if "inner_steps" in row else row["outer_step"]
        for name, value in row.items():
            if not name.startswith(("_", "figures/")) and name not in ("inner_steps", "outer_step"):
                charts[name].append((step, value))
    assert charts == expected(run)


@needs("wandb")
def test_wandb_shows_figures_the_config_and_how_the_run_ended(run: Path, records: list[dict[str, Any]]) -> None:
    (folder,) = (run / "wandb").iterdir()
    files: dict[str, str] = {}
    for row in rows(records):
        files |= {name.split(".")[0]: path for name, path in row.items() if name.endswith(".path")}
    assert set(files) == {"figures/loss", "figures/adaptation", "figures/fits"}
    for name, path in files.items():
        assert (folder / "files" / path).read_bytes() == (run / f"{name.removeprefix('figures/')}.png").read_bytes()
    began = next(record["run"] for record in records if record["type"] == "run")
    assert (began["project"], began["display_name"]) == ("tiny", "five-shot")
    assert began["config"]["update"]["outer.lr"] == 0.001
    assert next(record["exit"]["exit_code"] for record in records if record["type"] == "exit") == 0


READ_MLFLOW = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient(tracking_uri=sys.argv[1])
(run,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
charts = {name: [(point.step, point.value) for point in points] for name, points in history.items()}
files = [one.path for one in client.list_artifacts(run.info.run_id, "figures")]
config = client.download_artifacts(run.info.run_id, "config.yaml")
info = [run.info.run_name, run.info.status, client.get_experiment(run.info.experiment_id).name]
print(json.dumps([charts, run.data.params, files, open(config).read(), info]))
"""


@needs("mlflow")
def test_mlflow_reads_back_each_number_once_the_config_and_the_figures(run: Path) -> None:
    command = [sys.executable, "-c", READ_MLFLOW, (run / "mlruns").as_uri()]
    env = ALONE | {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true", "HOME": str(run)}
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    charts, params, files, config, info = json.loads(said)
    assert {name: [(step, value) for step, value in chart] for name, chart in charts.items()} == expected(run)
    assert (params["outer.lr"], params["seeds"], params["outer.max_grad_norm"]) == ("0.001", "[0, 1]", "null")
    assert sorted(files) == ["figures/adaptation.png", "figures/fits.png", "figures/loss.png"]
    assert config == (run / "config.yaml").read_text()
    assert info == ["five-shot", "FINISHED", "tiny"]


def fake(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str) -> None:
    """Put a package of one's own in the place of a tracker's."""
    (folder / "fakes" / name).mkdir(parents=True)
    (folder / "fakes" / name / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder / "fakes"))
    monkeypatch.delitem(sys.modules, name, raising=False)


def test_a_tracker_that_raises_is_said_once_and_fails_no_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(folder, monkeypatch, "wandb", "raise RuntimeError('no such luck')")
    heard = Heard()
    mamlcli.train(logged_to("wandb"), out="run", reporter=heard)
    mamlcli.train(logged_to(), out="alone")
    said = "warning: logging to wandb has ended: no such luck; metrics.jsonl goes on and has it all"
    assert heard.warnings == [said]
    assert metrics(Path("run")) == metrics(Path("alone"))
    assert RunFolder(Path("run")).read_info()["status"] == "done"


SPY = """
import json, os
from pathlib import Path
Path("environment.json").write_text(json.dumps(dict(os.environ)))
raise RuntimeError
"""


def test_a_tracker_is_told_to_send_nothing_whatever_the_users_own_settings(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(folder, monkeypatch, "wandb", SPY)
    own = {"WANDB_MODE": "online", "WANDB_API_KEY": "0" * 40, "WANDB_SERVICE": "x", "WANDB_PROJECT": "mine"}
    for name, value in (own | {"MLFLOW_TRACKING_URI": "http://localhost:1"}).items():
        monkeypatch.setenv(name, value)
    mamlcli.train(logged_to("wandb", steps=1), out="run")
    seen = json.loads((folder / "environment.json").read_text())
    assert (seen["WANDB_MODE"], seen["WANDB_ERROR_REPORTING"]) == ("offline", "false")
    assert (seen["MLFLOW_DISABLE_TELEMETRY"], seen["WANDB_PROJECT"]) == ("true", "mine")
    assert not {"WANDB_API_KEY", "WANDB_SERVICE", "MLFLOW_TRACKING_URI"} & set(seen)
    assert not Path(seen["WANDB_CACHE_DIR"]).exists()


def pairs_of_seeds(run: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    found = metrics(run)
    return zip(found[::2], found[1::2], strict=True)


class Recorded:
    """In the place of a tracker's process: remembers what it is sent, and starts none."""

    def __init__(self, name: str, about: About) -> None:
        self.name, self.about = name, about
        self.sent: list[Any] = []
        STARTED.append(self)

    def scalars(self, place: Place, values: dict[str, float]) -> None:
        self.sent.append((place.axis, place.step, values["post_adapt_loss/mean"]))

    def figure(self, place: Place, path: Path) -> None:
        self.sent.append((path.name, place.step))

    def close(self, *, status: str) -> None:
        self.sent.append(status)

    def stop(self) -> None:
        self.sent.append("killed")


STARTED: list[Recorded] = []


@pytest.fixture
def started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Recorded]]:  # noqa: ARG001
    monkeypatch.setattr(group, "Process", Recorded)
    yield STARTED
    STARTED.clear()


@needs("tensorboard")
def test_a_tracker_hears_of_logged_steps_of_new_figures_and_of_the_end(started: list[Recorded]) -> None:
    mamlcli.train(logged_to("tensorboard"), out="run")
    (tracker,) = started
    assert [one[1] for one in tracker.sent[:4]] == [1, 4, 8, 12]
    assert tracker.sent[4:] == [("loss.png", 12), "done"]


@needs("tensorboard")
def test_each_order_of_a_comparison_is_logged(started: list[Recorded]) -> None:
    mamlcli.compare_orders(logged_to("tensorboard", steps=4), out="both")
    assert {tracker.about.run for tracker in started} == {"first", "second"}
    assert len({tracker.about.run_id for tracker in started}) == 2
    for tracker in started:
        losses = [
            (one["step"], (one["post_adapt_loss"] + other["post_adapt_loss"]) / 2)
            for one, other in pairs_of_seeds(Path("both") / tracker.about.run)
        ]
        assert tracker.sent == [*(("outer_step", *loss) for loss in losses), "done"]


def test_without_trackers_no_process_is_started(started: list[Recorded]) -> None:
    mamlcli.train(logged_to(steps=4), out="run")
    assert not started


@needs("tensorboard")
@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError, "failed"), (KeyboardInterrupt, "interrupted"), (UsageError, "failed")]
)
def test_trackers_hear_how_a_training_ended(started: list[Recorded], error: type[BaseException], status: str) -> None:
    def fail(_: object) -> None:
        raise error("by itself")

    with pytest.raises(error):
        mamlcli.train(logged_to("tensorboard"), out="run", on_step=fail)
    assert started[0].sent[-1] == status


@needs("tensorboard")
def test_an_evaluation_that_is_not_the_runs_own_or_beside_its_training_is_not_logged(started: list[Recorded]) -> None:
    mamlcli.train(logged_to("tensorboard", steps=1), out="run")
    heard = Heard()
    mamlcli.evaluate("run", overrides=["evaluation.tasks=5"], reporter=heard)
    assert not heard.warnings
    with RunFolder(Path("run")).locked():
        mamlcli.evaluate("run", reporter=heard)
    assert len(started) == 1
    assert heard.warnings == [
        "warning: the evaluation is not logged to tensorboard yet: run: another process is working in this folder"
    ]


@needs("tensorboard")
def test_the_id_of_a_run_stays_when_it_is_moved(started: list[Recorded]) -> None:
    mamlcli.train(logged_to("tensorboard", steps=1), out="run")
    Path("run").rename("moved")
    mamlcli.train(logged_to("tensorboard", steps=2), out="moved", resume=True)
    first, resumed = (tracker.about.run_id for tracker in started)
    assert first == resumed


@needs("tensorboard")
def test_a_tracker_that_a_full_disk_stops_fails_no_training(zygote: Zygote, folder: Path) -> None:
    (folder / "long.yaml").write_text(TINY.replace("log_every_steps: 4", "log_every_steps: 1, log_to: [tensorboard]"))
    train = ("train", "-c", "long.yaml", "--out", "run", "--set", "outer.steps=10")
    # Its events take 6 KB by then, a checkpoint less than 5 KB and the metrics 4 KB.
    command = zygote.start(folder, *train, fault="limit_files", num_bytes=5300)
    assert command.wait() == 0
    assert "warning: logging to tensorboard has ended: [Errno 27] File too large" in command.err
    assert "Traceback" not in command.err
    assert len(metrics(folder / "run")) == 20


def test_a_package_that_is_missing_is_refused_before_training(
    maml: Maml, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "find_spec", lambda _: None)
    for command in (("train",), ("train", "--dry-run"), ("compare-orders",)):
        outcome = maml(*command, "-c", "tiny.yaml", "--set", "run.log_to=[wandb, mlflow]")
        assert outcome.code == 2
        said = "maml: run.log_to: wandb and mlflow not installed; pip install 'mamlcli[wandb,mlflow]'\n"
        assert outcome.err == said
    assert not (folder / "outputs").exists()


def test_a_tracker_is_named_once_and_is_one_that_there_is(maml: Maml) -> None:
    twice = maml("train", "-c", "tiny.yaml", "--set", "run.log_to=[wandb, wandb]")
    assert twice.code == 2
    assert "must not hold the same name twice, got wandb again" in twice.err
    unknown = maml("train", "-c", "tiny.yaml", "--set", "run.log_to=[neptune]")
    assert unknown.code == 2
    assert "tensorboard, wandb, mlflow" in unknown.err


def test_what_is_not_finite_has_no_point_and_no_seed_that_diverged_is_in_a_mean() -> None:
    common = {"step": 4, "lr": 0.1, "wall_s": 1.0, "learned": [1.0, 2.0]}
    found = training_scalars(
        [
            common | {"seed": 0, "diverged_at_step": None, "post_adapt_loss": 1.0, "grad_norm": None},
            common | {"seed": 1, "diverged_at_step": None, "post_adapt_loss": 2.0, "grad_norm": 3.0},
            common | {"seed": 2, "diverged_at_step": 3, "post_adapt_loss": 9.0, "grad_norm": None},
        ]
    )
    assert found == {
        "lr": 0.1,
        "post_adapt_loss/mean": 1.5,
        "post_adapt_loss/seed-0": 1.0,
        "post_adapt_loss/seed-1": 2.0,
        "post_adapt_loss/seed-2": 9.0,
        "grad_norm/seed-1": 3.0,
    }


def test_of_ten_thousand_seeds_the_first_have_curves_and_all_are_in_the_mean() -> None:
    rows = [
        {"step": 1, "seed": seed, "diverged_at_step": None, "post_adapt_loss": float(seed)} for seed in range(10**4)
    ]
    found = training_scalars(rows)
    assert found["post_adapt_loss/mean"] == 4999.5
    assert len(found) == 51


def test_each_predictor_of_a_method_has_charts_of_its_own() -> None:
    rows = [
        {"model": model, "seed": 3, "shots": 5, "inner_steps": 1, "mean": mean}
        for model, mean in (("student", 1.0), ("teacher", 2.0))
    ]
    assert evaluation_scalars(rows)[1] == {
        "evaluation/K-5/student/seed-3": 1.0,
        "evaluation/K-5/student/mean": 1.0,
        "evaluation/K-5/teacher/seed-3": 2.0,
        "evaluation/K-5/teacher/mean": 2.0,
    }
