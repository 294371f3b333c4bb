"""What a shell is offered on TAB, through the protocol of each shell."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mamlcli.cli.completion import run_folders
from mamlcli.config.reference import known_keys
from mamlcli.config.shipped import shipped_configs, shipped_rows
from tests.conftest import Maml

Tab = Callable[..., list[str]]


@pytest.fixture
def tab(maml: Maml, monkeypatch: pytest.MonkeyPatch) -> Tab:
    """Ask as bash does, which cuts words at "="; the last word is the one under way."""

    def ask(*words: str) -> list[str]:
        cut = [part for word in words for part in word.replace("=", "\n=\n").split("\n") if part or not word]
        monkeypatch.setenv("_MAML_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", "\n".join(["maml", *cut]))
        monkeypatch.setenv("COMP_CWORD", str(len(cut)))
        outcome = maml()
        assert (outcome.code, outcome.err) == (0, "")
        return outcome.out.split()

    return ask


def test_commands_options_and_configs_are_offered(tab: Tab, folder: Path) -> None:
    assert {"train", "eval", "configs"} <= set(tab(""))
    assert set(tab("configs", "")) == {"ls", "show", "cp", "validate", "schema"}
    assert tab("train", "--res") == ["--resume"]
    assert set(tab("train", "")) == set(shipped_configs())
    assert tab("check-grads", "sm") == ["smoke"]
    (folder / "smooth.yaml").touch()
    assert tab("compare-orders", "--config", "sm") == ["smoke", "smooth.yaml"]
    assert tab("compare", "--configs", "sm") == ["smoke", "smooth.yaml"]
    assert tab("train", "--config", "ti") == ["tiny.yaml"]
    assert set(tab("configs", "cp", "")) == set(shipped_configs()) | set(shipped_rows())
    assert set(tab("configs", "show", "")) == {*tab("configs", "cp", ""), "tiny.yaml", "smooth.yaml"}


def test_rows_of_reproduce_are_offered(tab: Tab) -> None:
    assert set(tab("reproduce", "maml")) == {name for name in shipped_rows() if name.startswith("maml")}
    assert tab("reproduce", "zero", "orac") == ["oracle"]
    assert tab("reproduce", "--group", "meta") == ["meta-sgd"]


def test_keys_of_set_are_offered_without_the_sections_that_hold_them(tab: Tab) -> None:
    keys = known_keys()
    leaves = {f"{key}=" for key in keys if not any(other.startswith(f"{key}.") for other in keys)}
    assert set(tab("train", "--set", "")) == leaves
    assert set(tab("eval", "--set", "evaluation.s")) == {"evaluation.shots=", "evaluation.seed="}


def test_a_key_that_is_left_alone_comes_with_its_values_so_that_no_space_is_put_behind_it(tab: Tab) -> None:
    assert tab("train", "--set", "outer.lr") == ["outer.lr=", "outer.lr=0.001"]
    assert tab("train", "--set", "algorithm.ord") == [f"algorithm.order={value}" for value in ("", "second", "first")]
    assert tab("train", "--set", "evaluation.shots") == ["evaluation.shots=", "evaluation.shots=VALUE"]


def test_values_are_offered_after_the_sign_as_bash_wants_them(tab: Tab) -> None:
    assert tab("train", "--set", "device=c") == ["cpu", "cuda"]
    assert set(tab("train", "--set", "outer.schedule=")) == {"constant", "linear", "cosine"}
    assert set(tab("train", "--set", "tasks.family=")) >= {"sinusoid", "table"}
    assert tab("train", "--set", "outer.lr=1", "--set", "tasks.oracle_inputs=t") == ["true"]
    assert tab("train", "--set=outer.optimizer=sg") == ["sgd"]
    assert tab("train", "--device", "m") == ["mps"]


def test_keys_are_those_of_the_family_and_the_method_that_are_chosen(tab: Tab) -> None:
    assert "tasks.amplitude=" in tab("train", "--set", "tasks.")
    assert "tasks.path=" in tab("train", "elnino", "--set", "tasks.")
    assert "tasks.amplitude=" not in tab("train", "elnino", "--set", "tasks.")
    assert "algorithm.order=" not in tab("train", "-c", "smoke", "--set", "algorithm.name=joint", "--set", "algorithm.")
    assert "algorithm.order=" in tab("train", "-c", "none.yaml", "--set", "algorithm.")


def test_run_folders_are_offered_the_newest_first(tab: Tab, folder: Path) -> None:
    places = ("a/one", "a/two", "both", "both/first", "a/three.old-20260101T000000Z", ".b.tmp", "a/one/checkpoints")
    for age, place in enumerate(places):
        (folder / "outputs" / place).mkdir(parents=True)
        (folder / "outputs" / place / "run.json").touch()
        os.utime(folder / "outputs" / place / "run.json", (1e9 - age, 1e9 - age))
    expected = [f"outputs/{place}" for place in places[:4]]
    assert list(map(str, run_folders())) == expected
    for command in ("eval", "predict"):
        assert tab(command, "") == expected
    assert tab("train", "--resume", "") == [*expected, "auto"]
    assert tab("eval", "outputs/both") == ["outputs/both", "outputs/both/first"]


def test_what_goes_wrong_offers_nothing_and_says_nothing(tab: Tab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_folders(Path("none")) == []
    assert tab("eval", "") == []
    assert tab("train", "--set", "a=b=c") == []
    monkeypatch.setattr("mamlcli.config.shipped.FOLDER", None)
    assert tab("train", "") == []


@pytest.mark.parametrize(
    ("shell", "line", "offered"),
    [
        ("zsh", "maml train quick", "\"quickstart\":\"A first look at the sinusoids\""),
        ("zsh", "maml train --set device=cu", '"device=cuda"'),
        ("fish", "maml train quick", "quickstart\tA first look at the sinusoids"),
        ("fish", "maml train --set device=cu", "device=cuda"),
    ],
)  # fmt: skip
def test_zsh_and_fish_are_offered_whole_words_and_what_they_mean(
    maml: Maml, monkeypatch: pytest.MonkeyPatch, shell: str, line: str, offered: str
) -> None:
    monkeypatch.setenv("_MAML_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    assert offered in maml().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_given_what_asks_us(maml: Maml, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    monkeypatch.setenv("_MAML_COMPLETE", f"source_{shell}")
    script = maml().out
    assert "_MAML_COMPLETE=complete_" + shell in script


def test_an_answer_loads_no_torch(folder: Path) -> None:
    words = "maml\ntrain\nelnino\n--set\ntasks."
    asked = {"_MAML_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "4"}
    code = (
        "import sys; from mamlcli.cli import main\n"
        "sys.argv = ['maml']\n"
        "try: main()\n"
        "finally: assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "tasks.path=" in done.stdout
