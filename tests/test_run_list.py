"""The runs there are: what is said of each, of those below a folder, and of the one that finished last."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mamlcli
from mamlcli import Config
from mamlcli.errors import CheckpointError, DivergedError, InterruptedRunError, UsageError
from mamlcli.interrupts import StopRequest
from mamlcli.runs.catalogue import find_runs
from mamlcli.runs.folder import open_run
from tests.conftest import ROOT, Maml
from tests.test_runs import Listener, with_steps


class StopAt(Listener):
    """Asks a training to stop at a step."""

    def __init__(self, at: int, stop: StopRequest) -> None:
        super().__init__()
        self.at, self.stop = at, stop

    def step(self, step: int, *_: object) -> None:
        if step == self.at:
            self.stop.ask()


def with_changes(config: Config, *overrides: str) -> Config:
    return mamlcli.parse_config(mamlcli.dump_config(config), overrides=overrides)


def interrupted(config: Config) -> Path:
    stop, before = StopRequest(), set(Path("outputs").glob(f"{config.name}/2*"))
    with pytest.raises(InterruptedRunError):
        mamlcli.train(config, reporter=StopAt(8, stop), stop=stop)
    (path,) = set(Path("outputs").glob(f"{config.name}/2*")) - before
    return path


def change_info(run: Path, **said: object) -> None:
    path = run / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | said))


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with outputs/ of every kind, and the runs in it by what they are."""
    from tests.conftest import TINY

    home, here = tmp_path_factory.mktemp("shelf"), Path.cwd()
    os.chdir(home)
    try:
        tiny = mamlcli.parse_config(TINY)
        runs = {"done": mamlcli.train(tiny).run}
        mamlcli.evaluate(runs["done"])
        runs["first"] = mamlcli.train(with_changes(tiny, "algorithm.order=first", "name=other", "seeds=[7]")).run
        mamlcli.evaluate(runs["first"])
        with pytest.raises(DivergedError):
            mamlcli.train(with_changes(tiny, "outer.lr=1e30", "name=wild", "outer.steps=40"))
        (runs["diverged"],) = Path("outputs/wild").glob("2*")
        runs["interrupted"] = interrupted(tiny)
        runs["both"] = mamlcli.compare_orders(with_changes(tiny, "name=orders")).run
        for name in ("killed", "damaged", "cut"):
            runs[name] = runs["interrupted"].with_name(f"20260101T000000Z-{name.encode().hex()[:4]}")
            shutil.copytree(runs["interrupted"], runs[name])
        change_info(runs["killed"], status="running", outer_steps=0, sessions=[])
        (runs["damaged"] / "run.json").write_text("{")
        (runs["cut"] / "run.json").unlink()
        aside = runs["done"].with_name(f"{runs['done'].name}.old-20260101T000000.0Z")
        shutil.copytree(runs["done"], aside)
        return {name: home / path for name, path in (runs | {"aside": aside}).items()}
    finally:
        os.chdir(here)


@pytest.fixture
def at_shelf(shelf: dict[str, Path], maml: Maml, monkeypatch: pytest.MonkeyPatch) -> Maml:
    """The command, run where outputs/ is; nothing may be written there."""
    monkeypatch.chdir(shelf["done"].parent.parent.parent)
    return maml


def test_each_run_is_a_row_that_says_how_it_stands(shelf: dict[str, Path], at_shelf: Maml) -> None:
    rows = {Path(row["run"]).absolute(): row for row in json.loads(at_shelf("runs", "ls", "--json").out)["runs"]}
    assert rows.keys() == {path for name, path in shelf.items() if name != "aside"}
    said = {name: rows[shelf[name]] for name in shelf if name != "aside"}
    stands = {name: row["status"] for name, row in said.items()}
    assert stands == {
        "done": "done",
        "first": "done",
        "diverged": "diverged",
        "interrupted": "interrupted",
        "both": "done",
        "killed": "killed",
        "damaged": "damaged",
        "cut": "damaged",
    }
    assert (said["done"]["method"], said["first"]["method"]) == ("second-order MAML", "first-order MAML")
    assert said["both"]["method"] == "first-order MAML and second-order MAML"
    assert (said["done"]["seeds"], said["first"]["seeds"]) == ([0, 1], [7])
    assert (said["interrupted"]["outer_steps"], said["interrupted"]["steps"]) == (8, 12)
    assert said["killed"]["outer_steps"] == 8  # as its metrics say; run.json was not told any more
    assert "run.json is missing" in said["cut"]["problem"]
    assert "cannot be read" in said["damaged"]["problem"]


def test_the_loss_of_a_run_is_that_of_its_own_evaluation(shelf: dict[str, Path], at_shelf: Maml) -> None:
    def rows(*options: object) -> dict[Path, dict[str, object]]:
        return {
            Path(row["run"]).absolute(): row
            for row in json.loads(at_shelf("runs", "ls", "--json", *options).out)["runs"]
        }

    for name, speaker in (("done", "all"), ("first", 7)):
        written = json.loads((shelf[name] / "evaluation.json").read_text())["results"]
        for options, shots, steps in (((), 5, 1), (("--shots", 3, "--steps", 2), 3, 2)):
            (row,) = (
                one for one in written if (one["seed"], one["shots"], one["inner_steps"]) == (speaker, shots, steps)
            )
            found = rows(*options)[shelf[name]]
            assert [found[key] for key in ("shots", "inner_steps", "loss", "ci95")] == [
                shots,
                steps,
                row["mean"],
                row["ci95"],
            ]
    assert rows("--shots", 4)[shelf["done"]]["loss"] is None
    assert rows()[shelf["interrupted"]]["loss"] is None


def test_a_list_is_filtered_sorted_and_cut(shelf: dict[str, Path], at_shelf: Maml) -> None:
    def names(*options: object) -> list[str]:
        printed = json.loads(at_shelf("runs", "ls", "--json", *options).out)["runs"]
        by_path = {path: name for name, path in shelf.items()}
        return [by_path.get(Path(row["run"]).absolute(), Path(row["run"]).name) for row in printed]

    begun = ["both", "interrupted", "diverged", "first", "done"]
    assert [name for name in names() if name in begun] == begun
    assert [name for name in names("--reverse") if name in begun] == begun[::-1]
    assert names("--name", "oth") == ["first"]
    assert names("--name", "*e*") == ["both", "first"]
    assert names("--status", "done", "--status", "diverged") == ["both", "diverged", "first", "done"]
    assert names("--method", "FIRST", "--status", "done", "--limit", 1) == ["both"]
    losses = {name: json.loads((shelf[name] / "evaluation.json").read_text())["results"] for name in ("done", "first")}
    speaker = {"done": "all", "first": 7}
    means = {
        name: next(r["mean"] for r in rows if (r["seed"], r["shots"], r["inner_steps"]) == (speaker[name], 5, 1))
        for name, rows in losses.items()
    }
    assert names("--sort", "loss")[:2] == sorted(means, key=lambda name: means[name])
    assert set(names("--sort", "steps")[:3]) == {"both", "done", "first"}
    assert set(names("--all")) == {*shelf, "first", "second"}


def test_a_list_fits_a_terminal_of_eighty_columns(shelf: dict[str, Path], at_shelf: Maml) -> None:
    out = at_shelf("runs", "ls", "--all").out
    assert max(map(len, out.splitlines())) <= 80
    assert out.startswith(f"{len(shelf) + 2} runs in outputs/")
    assert "and 9 more: --limit 0 lists all" in at_shelf("runs", "ls", "--all", "--limit", 2).out


def test_what_cannot_be_listed_is_refused(at_shelf: Maml) -> None:
    assert (at_shelf("runs", "ls", "--status", "gone").code, at_shelf("runs", "ls", "--sort", "x").code) == (2, 2)
    assert "nowhere: there is no such folder" in at_shelf("runs", "ls", "nowhere").err
    with pytest.raises(UsageError, match="no run's status is 'gone'"):
        mamlcli.list_runs(status=["gone"])


def test_where_nothing_was_trained_the_list_is_empty(maml: Maml) -> None:
    assert maml("runs", "ls").out == "no runs in outputs/; train one: maml train quickstart\n"
    assert mamlcli.list_runs() == []


DAMAGES: tuple[str, ...] = ("", "[]", "{}", '{"kind": 5}', '{"kind": "train"}', '{"kind": "train", "sessions": [{}]}')
DAMAGES += ('{"kind": "train", "sessions": [{"started": 1, "argv": 3, "git": []}], "seeds": "x", "outer_steps": -1}',)
DAMAGES += ('{"kind": "train", "started": {}, "name": 5, "steps": "x", "status": ["a"], "method": []}',)


@pytest.mark.parametrize("info", DAMAGES)
@pytest.mark.parametrize("evaluation", ["", "{}", '{"results": [{"seed": "all", "shots": "x"}], "protocol": 1}'])
def test_whatever_stands_in_a_folder_nothing_raises(
    shelf: dict[str, Path], tmp_path: Path, info: str, evaluation: str
) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_bytes((shelf["done"] / "config.yaml").read_bytes())
    (run / "run.json").write_text(info)
    (run / "metrics.jsonl").write_bytes(b'\xff\n[1]\n{"step": "x"}\n{"st')
    (run / "evaluation.json").write_text(evaluation)
    (row,) = mamlcli.list_runs(tmp_path)
    assert row["loss"] is None
    assert mamlcli.show_run(run).run == row


def test_a_run_of_an_earlier_version_says_its_method_by_its_config(shelf: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(shelf["first"], tmp_path / "old")
    info = json.loads((tmp_path / "old" / "run.json").read_text())
    left = {key: value for key, value in info.items() if key not in ("method", "steps", "inner_steps")}
    (tmp_path / "old" / "run.json").write_text(json.dumps(left))
    (row,) = mamlcli.list_runs(tmp_path)
    assert (row["method"], row["steps"], row["inner_steps"]) == ("first-order maml", 12, 1)


def test_a_run_is_running_while_a_process_holds_its_folder(shelf: dict[str, Path]) -> None:
    root = shelf["killed"].parent
    with open_run(shelf["killed"]).locked():
        assert [row["run"] for row in mamlcli.list_runs(root, status=["running"])] == [str(shelf["killed"])]
    assert mamlcli.list_runs(root, status=["running"]) == []


def test_a_link_is_not_followed_and_no_run_is_met_twice(shelf: dict[str, Path]) -> None:
    home = shelf["done"].parent
    assert (home / "latest").readlink() == Path(shelf["done"].name)
    assert sorted(one.path.name for one in find_runs(home)) == sorted(
        path.name for name, path in shelf.items() if path.parent == home and name != "aside"
    )


def test_a_run_is_shown_with_what_is_set_who_worked_on_it_and_what_to_do_next(
    shelf: dict[str, Path], at_shelf: Maml
) -> None:
    shown = json.loads(at_shelf("runs", "show", shelf["interrupted"], "--json").out)
    assert shown["config"] == {
        "name": "tiny",
        "seeds": [0, 1],
        "device": "cpu",
        "model.hidden_sizes": [8],
        "outer.steps": 12,
        "outer.meta_batch_size": 3,
        "evaluation.tasks": 7,
        "evaluation.shots": [3, 5],
        "evaluation.inner_steps": 3,
        "evaluation.query_shots": 9,
        "run.log_every_steps": 4,
        "run.checkpoint_every_steps": 5,
    }
    assert [(one["step"], one["problem"]) for one in shown["checkpoints"]] == [(8, None), (5, None)]
    assert [(one["from_step"], one["to_step"]) for one in shown["sessions"]] == [(0, 8)]
    text = at_shelf("runs", "show", shelf["interrupted"]).out
    assert f"go on:     maml train --resume {shelf['interrupted']}" in text
    assert f"evaluate:  maml eval {shelf['interrupted']}" in text
    assert f"a page:    maml report {shelf['done']}" in at_shelf("runs", "show", shelf["done"]).out
    both = mamlcli.show_run(shelf["both"])
    assert [Path(one["run"]).name for one in both.inside] == ["first", "second"]
    assert at_shelf("runs", "show", shelf["cut"]).code == 0


def test_a_checkpoint_that_is_not_whole_is_shown_so(shelf: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(shelf["done"], tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "step-12.pt"
    path.write_bytes(path.read_bytes()[:-1])
    (tmp_path / "run" / "checkpoints" / "step-5.pt.sha256").unlink()
    said = {one["step"]: one["problem"] for one in mamlcli.show_run(tmp_path / "run").checkpoints}
    assert said == {12: "its SHA-256 is another", 10: None, 5: "step-5.pt.sha256 is missing"}


def test_two_runs_differ_in_what_was_set_and_their_losses_stand_side_by_side(
    shelf: dict[str, Path], at_shelf: Maml
) -> None:
    diff = json.loads(at_shelf("runs", "diff", shelf["done"], shelf["first"], "--json").out)
    assert diff["config"] == [
        {"what": "seeds", "values": [[0, 1], [7]]},
        {"what": "algorithm.order", "values": ["second", "first"]},
    ]
    assert diff["environment"] == []
    written = [json.loads((shelf[name] / "evaluation.json").read_text())["results"] for name in ("done", "first")]
    at = [(3, 2, "all"), (3, 2, 7)]
    means = [
        next(row["mean"] for row in rows if (row["shots"], row["inner_steps"], row["seed"]) == place)
        for rows, place in zip(written, at, strict=True)
    ]
    (pair,) = (one for one in diff["losses"] if (one["shots"], one["inner_steps"]) == (3, 2))
    assert [pair["first"], pair["second"]] == means
    text = at_shelf("runs", "diff", shelf["done"], shelf["interrupted"])
    assert (text.code, "config: no difference" in text.out) == (0, True)
    assert f"{shelf['interrupted'].name}: not evaluated" in " ".join(text.out.split())


def test_a_key_that_a_method_does_not_have_is_absent(shelf: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(shelf["done"], tmp_path / "joint")
    (tmp_path / "joint" / "config.yaml").write_text("name: tiny\nalgorithm: {name: joint}")
    found = {one["what"]: one["values"] for one in mamlcli.diff_runs(shelf["done"], tmp_path / "joint").config}
    assert found["algorithm.name"] == ("maml", "joint")
    assert found["algorithm.order"] == ("second", "absent")


def test_a_folder_that_only_holds_runs_names_them_and_what_to_type(shelf: dict[str, Path], at_shelf: Maml) -> None:
    done, begun = (Path("outputs/tiny") / shelf[name].name for name in ("done", "interrupted"))
    for folder in ("outputs/tiny", "outputs"):
        outcome = at_shelf("eval", folder)
        assert outcome.code == 4
        assert outcome.err.startswith(f"maml: {folder}: not a run, but ")
    lines = at_shelf("eval", "outputs/tiny").err.splitlines()
    assert {f"  {done}: done at step 12", f"  {begun}: interrupted at step 8"} < set(lines)
    assert lines[-1] == f"maml: name one: maml eval {done}"
    predict = at_shelf("predict", "outputs/tiny", "--support", "s.csv", "--query", "q.csv")
    assert predict.err.splitlines()[-1].startswith(f"maml: name one: maml predict {done} --support")
    resumed = at_shelf("train", "--resume", "outputs/tiny")
    assert (resumed.code, resumed.err.splitlines()[-1]) == (4, f"maml: name one: maml train --resume {begun}")
    with pytest.raises(CheckpointError) as caught:
        mamlcli.evaluate("outputs/tiny")
    assert str(caught.value).splitlines()[-1] == f"name one: mamlcli.evaluate('{done}')"


def test_latest_is_the_run_of_that_name_that_finished_last(tiny: Config, folder: Path) -> None:
    link = Path("outputs/tiny/latest")
    first = mamlcli.train(tiny).run
    assert link.readlink() == Path(first.name)
    begun = interrupted(tiny)
    mamlcli.train(tiny, out="outputs/tiny/own-name")
    mamlcli.compare_orders(tiny)
    assert link.readlink() == Path(first.name)  # none of them finished, or was named by the program, or is a training
    mamlcli.train(tiny, out=begun, resume=True)
    assert link.readlink() == Path(begun.name)
    stop = StopRequest()
    with pytest.raises(InterruptedRunError):  # it is being continued, and has not finished
        mamlcli.train(with_steps(tiny, 20), out=begun, resume=True, reporter=StopAt(16, stop), stop=stop)
    assert link.readlink() == Path(first.name)
    assert folder.exists()


def test_latest_can_be_evaluated_continued_and_replaced(tiny: Config, maml: Maml) -> None:
    link, run = Path("outputs/tiny/latest"), mamlcli.train(tiny).run
    listener = Listener()
    assert mamlcli.evaluate(link, reporter=listener).run == run
    assert f"{link} is {run}" in listener.notes
    outcome = maml("train", "--resume", link, "--set", "outer.steps=16", "--json")
    assert (outcome.code, json.loads(outcome.out)["run"]) == (0, str(run))
    assert maml("train", "-c", "tiny.yaml", "--out", link, "--overwrite", "--quiet").code == 0
    (aside,) = run.parent.glob(f"{run.name}.old-*")
    assert json.loads((aside / "run.json").read_text())["outer_steps"] == 16
    assert json.loads((run / "run.json").read_text())["outer_steps"] == 12
    assert link.readlink() == Path(run.name)


def test_what_else_is_called_latest_is_left_alone(tiny: Config, folder: Path) -> None:
    own = Path("outputs/tiny/latest")
    own.mkdir(parents=True)
    assert mamlcli.train(tiny).status == "done"
    assert (own.is_symlink(), list(own.iterdir())) == (False, [])
    assert folder.exists()


def test_where_no_links_can_be_made_a_run_ends_as_well(
    tiny: Config, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refused)
    run = mamlcli.train(tiny).run
    assert [path.name for path in run.parent.iterdir()] == [run.name]
    assert folder.exists()


def test_the_package_needs_no_module_of_unix() -> None:
    # The libraries need theirs; they have been imported by then.
    needed = "filelock, torch, matplotlib.pyplot, pydantic, typer, scipy.stats"
    ours = "mamlcli.cli.entry, mamlcli.runs.folder, mamlcli.runs.lock, mamlcli.memory.free, mamlcli.commands.train"
    ours += ", mamlcli.commands.watch, mamlcli.commands.report, mamlcli.commands.doctor, mamlcli.commands.plot"
    script = f"import sys, {needed}; sys.modules |= dict.fromkeys(['fcntl', 'resource', 'pwd', 'grp']); import {ours}"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_a_list_of_runs_loads_no_torch() -> None:
    unwanted = "{'torch', 'numpy', 'matplotlib', 'rich', 'scipy'}"
    modules = "mamlcli.commands.runs, mamlcli.cli.run_list, mamlcli.cli.run_reports, mamlcli.results"
    script = f"import sys, {modules}; assert not {unwanted} & set(sys.modules), {unwanted} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
