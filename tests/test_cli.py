"""Commands as a shell sees them: output, messages, exit codes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mamlcli.config.shipped import shipped_configs
from tests.conftest import Maml, Outcome

CONFIGS = list(shipped_configs().values())
SHORT = ["--set", "outer.steps=3", "--set", "evaluation.tasks=5", "--seeds", "0-1", "--device", "cpu"]


def sentences(outcome: Outcome) -> str:
    """What was printed, without the breaks between its lines."""
    return " ".join(outcome.out.split())


def test_train_says_where_everything_is_and_what_to_run_next(maml: Maml, folder: Path) -> None:
    outcome = maml("train", "--config", "tiny.yaml", "--out", "run")
    assert outcome.code == 0
    assert "next: maml eval run" in outcome.out
    assert "metrics      run/metrics.jsonl" in outcome.out
    assert (folder / "run" / "loss.png").exists()
    assert "step 12/12" in outcome.err


def test_json_is_one_object_and_quiet_is_quiet(maml: Maml) -> None:
    train = maml("train", "-c", "tiny.yaml", "--out", "run", "--json", "--quiet")
    assert train.err == ""
    fields = json.loads(train.out)
    assert fields["schema"] == "mamlcli.train/1"
    assert set(fields) >= {"run", "status", "outer_steps", "seeds", "engine", "wall_s"}
    assert set(fields["engine"]) >= {"device", "threads", "compiled"}
    fields = json.loads(maml("eval", "run", "--json", "-q").out)
    assert fields["schema"] == "mamlcli.eval/1"
    assert set(fields["results"][0]) >= {"seed", "shots", "inner_steps", "mean", "ci95", "median", "num_diverged"}
    fields = json.loads(maml("compare-orders", "-c", "tiny.yaml", "--json", "-q").out)
    assert fields["schema"] == "mamlcli.compare-orders/1"
    columns = {"shots", "inner_steps", "first", "second", "difference", "low", "high", "num_diverged_seeds"}
    assert set(fields["results"][0]) == columns
    assert set(fields["cost"]["first"]) == {"ms_per_step", "peak_memory_bytes"}


def test_eval_says_what_each_interval_is_over(maml: Maml) -> None:
    maml("train", "-c", "tiny.yaml", "--out", "run", "-q")
    out = maml("eval", "run").out
    assert "the 95% interval over seeds and tasks)" in out
    assert "the 95% interval over tasks)" in out
    assert "figure       run/fits.png" in out


def test_compare_orders_prints_losses_cost_and_cosine(maml: Maml) -> None:
    out = sentences(maml("compare-orders", "-c", "tiny.yaml", "--out", "both"))
    for text in ("first - second", "ms per meta-step", "MiB", "cosine of both meta-gradients", "over seeds and tasks"):
        assert text in out


def test_with_one_seed_tables_and_json_say_that_nothing_is_known_of_others(maml: Maml, folder: Path) -> None:
    said = "over tasks of one seed; nothing is known of other seeds"
    maml("train", "-c", "tiny.yaml", "--seeds", "7", "--out", "run", "-q")
    assert f"the 95% interval {said})" in sentences(maml("eval", "run"))
    rows = json.loads((folder / "run" / "evaluation.json").read_text())["results"]
    assert {(row["seed"], row["interval"]) for row in rows} == {
        (7, said),
        ("all", "none: one seed says nothing of other seeds"),
    }
    compared = maml("compare-orders", "-c", "tiny.yaml", "--seeds", "7", "--out", "o")
    assert f"paired difference: {said}." in sentences(compared)
    written = json.loads((folder / "o" / "comparison.json").read_text())
    assert written["interval"] == f"95% interval of the paired difference, {said}"
    assert all(row["low"] < row["high"] for row in written["results"] if row["inner_steps"])


def test_options_override_the_file(maml: Maml, folder: Path) -> None:
    maml("train", "-c", "tiny.yaml", "--out", "run", "--seeds", "4,6-7", "--set", "outer.lr=1e-4", "--device", "cpu")
    config = yaml.safe_load((folder / "run" / "config.yaml").read_text())
    assert config["seeds"] == [4, 6, 7]
    assert config["outer"]["lr"] == 0.0001


def test_a_dry_run_prints_the_resolved_config_and_writes_nothing(maml: Maml, folder: Path) -> None:
    outcome = maml("train", "-c", "tiny.yaml", "--dry-run")
    assert outcome.code == 0
    assert yaml.safe_load(outcome.out)["outer"]["steps"] == 12
    assert "nothing was written" in outcome.err
    assert [path.name for path in folder.iterdir()] == ["tiny.yaml"]


def test_resume_auto_starts_and_then_continues(maml: Maml, folder: Path) -> None:
    command = ("train", "-c", "tiny.yaml", "--out", "run", "--resume", "auto")
    assert maml(*command).code == 0
    assert "continuing run at step 12" in maml(*command).err
    assert maml("train", "--resume", "run", "--set", "outer.steps=14").code == 0
    assert json.loads((folder / "run" / "run.json").read_text())["outer_steps"] == 14


def test_data_that_have_moved_are_found_from_the_working_folder_when_a_run_is_continued(
    maml: Maml, folder: Path
) -> None:
    rows = [f"t{task},{x},{task + 2 * x + x * x}" for task in range(10) for x in range(8)]
    (folder / "old.csv").write_text("\n".join(["task,x,y", *rows]))
    keys = ["family: table, path: old.csv, task: task", "inputs: x, target: y, support_shots: 3"]
    (folder / "table.yaml").write_text(
        f"{{name: t, seeds: [0], tasks: {{{', '.join(keys)}}}, model: {{hidden_sizes: [4]}}, outer: {{steps: 2}}}}"
    )
    assert maml("train", "-c", "table.yaml", "--out", "run").code == 0
    (folder / "old.csv").rename(folder / "new.csv")
    gone = maml("train", "--resume", "run", "--set", "outer.steps=4")
    assert (gone.code, "old.csv: there is no such file; tasks.path says where it is" in gone.err) == (2, True)
    outcome = maml("train", "--resume", "run", "--set", "outer.steps=4", "--set", "tasks.path=new.csv")
    assert outcome.code == 0, outcome.err
    assert yaml.safe_load((folder / "run" / "config.yaml").read_text())["tasks"]["path"] == str(folder / "new.csv")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train"], 2, "no experiment is named"),
        (["train", "-c", "none.yaml"], 2, "none.yaml: cannot read the config: No such file"),
        (["train", "-c", "tiny.yaml", "--set", "outer.stesp=1"], 2, "did you mean 'outer.steps'?"),
        (["train", "-c", "tiny.yaml", "--seeds", "x"], 2, "write seeds as"),
        (["train", "-c", "tiny.yaml", "--device", "tpu"], 2, "--device tpu: must be one of auto, cpu, cuda, mps"),
        (["train", "-c", "tiny.yaml", "--resume", "auto"], 2, "name that folder"),
        (["train", "-c", "tiny.yaml", "--resume", "none"], 4, "none: no such run folder"),
        (["train", "-c", "tiny.yaml", "--out", "taken"], 3, "taken exists already"),
        (
            ["train", "-c", "tiny.yaml", "--set", "outer.lr=1e30", "--set", "outer.steps=40"],
            5,
            "is not finite for seed 0 at step",
        ),
        (["eval", "taken"], 4, "taken: not a run"),
        (["eval"], 4, "no run found in outputs/"),
        (["eval", "tiny.yaml"], 4, "not a checkpoint"),
        (["compare-orders", "-c", "tiny.yaml", "--out", "taken"], 3, "taken exists already"),
        (["compare-orders"], 2, "--config"),
        (["trian"], 2, "trian"),
        (["train", "-c", "tiny.yaml", "--seeds", "0-1,1"], 2, "name each seed once"),
        (["train", "-c", "tiny.yaml", "--set", "foo", "--set", "outer.lr=x"], 2, "outer.lr: must be a valid number"),
        (["train", "-c", "tiny.yaml", "--out", "tiny.yaml/x"], 3, "cannot make it"),
        (["train", "-c", "tiny.yaml", "--out", "x" * 300], 3, "cannot"),
        (["train", "-c", "tiny.yaml", "--out", ".", "--overwrite"], 3, "cannot move it aside"),
        (["train", "-c", "tiny.yaml", "--set", "model.hidden_sizes=[1000000, 1000000]"], 6, "not enough memory"),
    ],
)
def test_what_the_user_can_cause_has_an_exit_code_and_no_traceback(
    maml: Maml, folder: Path, arguments: list[str], code: int, message: str
) -> None:
    (folder / "taken").mkdir()
    outcome = maml(*arguments)
    assert outcome.code == code
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""


@pytest.mark.parametrize("command", ["train", "eval", "predict", "check-grads", "reproduce", "doctor"])
def test_flags_look_like_flags_and_what_is_typed_after_an_option_is_named(maml: Maml, command: str) -> None:
    said = maml(command, "--help").out
    assert re.search(r"--json +Print one JSON object", said)
    assert not re.search(r"<\w+>|list\[", re.sub("<(target|time|N)>", "", said))


def test_the_commands_stand_in_panels_in_the_order_of_use(maml: Maml) -> None:
    said = maml("--help").out
    places = [
        said.index(word) for word in ("Train and test", " eval ", "Prove and compare", "This machine", " doctor ")
    ]
    assert places == sorted(places)


def test_a_device_that_is_not_there_is_refused(maml: Maml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    outcome = maml("train", "-c", "tiny.yaml", "--device", "cuda")
    assert outcome.code == 6
    assert "device cuda is not available here; available: cpu" in outcome.err
    assert "device auto: using cpu" in maml("train", "-c", "tiny.yaml", "--device", "auto").err


def test_out_of_memory_is_an_error_with_a_remedy(maml: Maml, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes")

    monkeypatch.setattr("torch.vmap", too_much)
    outcome = maml("train", "-c", "tiny.yaml")
    assert outcome.code == 6
    assert "out of memory" in outcome.err


def test_a_divergence_leaves_the_last_good_checkpoint(maml: Maml, folder: Path) -> None:
    outcome = maml(
        "train", "-c", "tiny.yaml", "--out", "run", "--set", "outer.lr=1e18", "--set", "outer.optimizer=sgd",
        "--set", "run.checkpoint_every_steps=1", "--set", "outer.steps=40",
    )  # fmt: skip
    assert outcome.code == 5
    assert "\n  figure       run/loss.png\n" in outcome.err
    again = "to try smaller steps: maml train --config run/config.yaml --set outer.lr=1e+17\n"
    assert outcome.err.endswith(again)
    assert json.loads((folder / "run" / "run.json").read_text())["status"] == "diverged"
    assert maml("eval", "run", "-q").code == 0


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_opens_with_a_command_that_runs_in_an_empty_folder(maml: Maml, config: Path) -> None:
    header = config.read_text().splitlines()[1]
    assert header.startswith("# maml ")
    command = header.removeprefix("# maml ").split()
    assert command[-1] == config.stem
    assert maml(*command, *SHORT).code == 0


def test_help_loads_neither_torch_nor_anything_else_that_is_slow() -> None:
    code = (
        "import sys; sys.argv = ['maml', '--help']\n"
        "from mamlcli.cli import main\n"
        "try: main()\n"
        "except SystemExit as error: assert error.code in (0, None)\n"
        "slow = {'torch', 'numpy', 'scipy', 'matplotlib', 'pydantic', 'tqdm', 'jaxtyping', 'yaml'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "compare-orders" in done.stdout


@pytest.mark.parametrize("command", ["train", "compare-orders", "check-grads"])
def test_a_wrong_config_is_answered_before_torch_is_loaded(folder: Path, command: str) -> None:
    (folder / "wrong.yaml").write_text("name: x\nouter: {stesp: 5}")
    code = (
        f"import sys; sys.argv = ['maml', '{command}', '-c', 'wrong.yaml']\n"
        "from mamlcli.cli import main\n"
        "try: main()\n"
        "except SystemExit as error: assert error.code == 2\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "did you mean 'outer.steps'?" in done.stderr


@pytest.mark.parametrize("closed", ["| true", "2>&-", "2>&- | true"])
def test_nobody_listening_ends_no_run(folder: Path, closed: str) -> None:
    command = f"{sys.executable} -c 'from mamlcli.cli import main; main()' train -c tiny.yaml --out run"
    done = subprocess.run(
        f"({command}; echo $? > code) {closed}", shell=True, cwd=folder, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert (folder / "code").read_text() == "0\n"
    assert json.loads((folder / "run" / "run.json").read_text())["status"] == "done"


def test_a_dry_run_of_what_overflows_is_still_json(maml: Maml) -> None:
    outcome = maml("train", "-c", "tiny.yaml", "--dry-run", "--json", "--set", "tasks.amplitude=[1e30, 1e30]")
    assert outcome.code == 0
    assert json.loads(outcome.out)["post_adapt_loss"] == [None, None]


def test_a_terminal_without_the_sign_for_plus_or_minus_gets_another(folder: Path) -> None:
    command = [sys.executable, "-c", "from mamlcli.cli import main; main()"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for arguments in (["train", "-c", "tiny.yaml", "--out", "run"], ["eval", "run"]):
        done = subprocess.run(
            [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
