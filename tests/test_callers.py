"""A program is told what to pass, the command line what to type: each error in the words of who called."""

import ast
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import mamlcli
from mamlcli import Config
from mamlcli.commands.reproduce import reproduce
from mamlcli.compute.compiled import decide_compile
from mamlcli.config.file import parse_seeds
from mamlcli.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DeviceError,
    DivergedError,
    InterruptedRunError,
    LostRankError,
    MamlError,
    Remedy,
    RunFolderError,
    UsageError,
)
from tests.conftest import Maml
from tests.test_architecture import FILES, room_of

# An option, or a command of ours, within a sentence.
COMMANDS = "train|eval|compare|compare-orders|check-grads|reproduce|sweep|predict|configs|runs|report|watch|plot|doctor"
SPOKEN = re.compile(rf"(?<![\w-])--[a-z]|\bmaml ({COMMANDS})\b")


def caught(call: Callable[[], object]) -> MamlError:
    with pytest.raises(MamlError) as error:
        call()
    return error.value


def test_a_folder_that_is_there_is_refused_in_the_words_of_the_caller(tiny: Config, maml: Maml) -> None:
    mamlcli.train(tiny, out="run")
    said = str(caught(lambda: mamlcli.train(tiny, out="run")))
    assert said == "run exists already; pass overwrite=True to move it aside, or resume=True to continue it"
    told = maml("train", "-c", "tiny.yaml", "--out", "run").err
    assert told == "maml: run exists already; use --overwrite to move it aside, or --resume to continue it\n"


def test_what_does_not_go_together_is_refused_in_the_words_of_the_caller(tiny: Config, maml: Maml) -> None:
    both = str(caught(lambda: mamlcli.train(tiny, out="run", resume=True, overwrite=True)))
    assert "choose one of resume=True and overwrite=True" in both
    options = ("train", "-c", "tiny.yaml", "--out", "run", "--resume", "auto", "--overwrite")
    assert "choose one of --resume and --overwrite" in maml(*options).err
    assert "pass its folder as out=" in str(caught(lambda: mamlcli.train(tiny, resume=True)))


def test_no_run_to_evaluate_is_said_in_the_words_of_the_caller(maml: Maml) -> None:
    assert "mamlcli.train(" in str(caught(mamlcli.evaluate))
    assert "maml train quickstart" in maml("eval").err


def test_a_wrong_override_is_named_as_the_caller_wrote_it(tiny: Config, maml: Maml) -> None:
    run = mamlcli.train(tiny, out="run").run
    said = str(caught(lambda: mamlcli.evaluate(run, overrides=("evaluation.tasks=1",))))
    assert said.startswith("override evaluation.tasks=1: evaluation.tasks: must be greater than or equal to 2")
    for options, place in (
        (("eval", "run", "--set", "evaluation.tasks=1"), "--set evaluation.tasks=1: evaluation.tasks: must be"),
        (("eval", "run", "--grid", "1"), "--grid 1: evaluation.grid: must be"),
        (("train", "-c", "tiny.yaml", "--device", "tpu"), "--device tpu: must be one of auto, cpu, cuda, mps"),
        (("train", "-c", "tiny.yaml", "--seeds", "5000000000"), "--seeds 5000000000: seeds"),
    ):
        assert maml(*options).err.startswith(f"maml: {place}")


def test_a_wrong_argument_is_answered_in_the_words_of_python(tiny: Config, maml: Maml) -> None:
    del maml  # it brings an empty working directory
    run = mamlcli.train(tiny, out="run").run
    Path("own.csv").write_text("task,x,y\na,1,2\n")
    own = {"support": "own.csv", "query": "own.csv"}
    wrong: dict[str, Callable[[], object]] = {
        "config: must be a Config, as load_config('quickstart') gives one, got 'smoke'": lambda: mamlcli.train("smoke"),  # type: ignore[arg-type]
        "config: must be a Config, as load_config('quickstart') gives one, got {'name'": (
            lambda: mamlcli.compare_orders({"name": "x"})  # type: ignore[arg-type]
        ),
        "to resume, say which run; pass its folder as out=": lambda: mamlcli.compare_orders(tiny, resume=True),
        "text: must be a text, like 'name: demo', got None": lambda: mamlcli.parse_config(None),  # type: ignore[arg-type]
        "overrides: must be a list of texts, like ['outer.lr=1e-3'], got 'outer.lr=1'": (
            lambda: mamlcli.load_config("smoke", "outer.lr=1")
        ),
        "overrides: must be a list of texts, like ['outer.lr=1e-3'], got 'device=cpu'": (
            lambda: mamlcli.load(run, overrides="device=cpu")
        ),
        "override device=gpu: device: must be one of auto, cpu, cuda, mps, got the text 'gpu'; did you mean 'cuda'?": (
            lambda: mamlcli.evaluate(run, overrides=["device=gpu"])
        ),
        "smok: cannot read the config: No such file or directory; did you mean load_config('smoke')": (
            lambda: mamlcli.load_config("smok")
        ),
        "zero: cannot read the config: No such file or directory; it is a row of published results: reproduce(['zero": (
            lambda: mamlcli.load_config("zero")
        ),
        "steps must be a whole number from 0 on, got -1": lambda: mamlcli.predict(run, **own, steps=-1),  # type: ignore[arg-type]
        "delimiter: must be one letter, like ',' or ';', got ';;'": (
            lambda: mamlcli.predict(run, **own, delimiter=";;")  # type: ignore[arg-type]
        ),
        "names: must be a list of texts, like ['zero'], got 'zero'": lambda: reproduce("zero"),
        "no row is named 'zro'; did you mean 'zero'? known: ": lambda: reproduce(["zro"]),
        "no row is named 'smoke'; it is a config: train(load_config('smoke')) runs it": lambda: reproduce(["smoke"]),
        "seeds: must be a list of different whole numbers from 0 to 4294967295, like [0, 1, 2], got '0-4'": (
            lambda: reproduce(["zero"], seeds="0-4")  # type: ignore[arg-type]
        ),
        "seeds: must be a list of different whole numbers from 0 to 4294967295, like [0, 1, 2], got [1, 1]": (
            lambda: reproduce(["zero"], seeds=[1, 1])
        ),
        "jobs: must be a whole number from 1 on, got 0": lambda: reproduce(["zero"], jobs=0),
        "seeds x: write seeds as 0-4 or 0,3,7": lambda: parse_seeds("x"),
    }
    for said, call in wrong.items():
        told = str(caught(call))
        assert told.startswith(said), told
        assert not SPOKEN.search(told), told


def test_a_device_or_a_compiler_that_is_missing_is_said_in_both_words(
    tiny: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("mamlcli.compute.compiled.find_compiler", list)
    missing = caught(lambda: mamlcli.train(tiny.model_copy(update={"device": "cuda"})))
    assert str(missing).endswith("; set device: auto")
    assert missing.command_line.endswith("; use --device auto")
    plain = caught(lambda: decide_compile("on", num_steps=1, earned_after=1, device=torch.device("cpu"), kernel=False))
    assert str(plain).endswith("; install g++ or clang++, or set engine.compile: off")
    assert plain.command_line.endswith("; install g++ or clang++, or use --set engine.compile=off")


def test_an_error_without_a_remedy_says_the_same_to_everyone() -> None:
    assert str(RunFolderError("busy")) == RunFolderError("busy").command_line == "busy"
    stopped = InterruptedRunError(15, "saved", Remedy("pass resume=True", "use --resume"))
    assert (str(stopped), stopped.command_line) == ("saved; pass resume=True", "saved; use --resume")


def test_every_error_says_the_same_in_another_process() -> None:
    remedy = Remedy("pass x=1", "use -x")
    raised: list[MamlError] = [kind("there", remedy) for kind in (UsageError, RunFolderError, CheckpointError)]
    raised += [kind("there", remedy) for kind in (DivergedError, DeviceError, LostRankError)]
    raised += [ConfigError(["a", "b"], remedy), DataError(["a", "b"]), InterruptedRunError(15, "there", remedy)]
    for error in raised:
        error.say_more(["  more"], remedy)
        copied = pickle.loads(pickle.dumps(error))
        assert type(copied) is type(error)
        assert (str(copied), copied.command_line) == (str(error), error.command_line)
        assert vars(copied) == vars(error)
        assert copied.exit_code == error.exit_code


def sentences(tree: ast.AST) -> Iterator[str]:
    """Texts that a user may read, less docstrings and what a Remedy says to the command line."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.Expr(ast.Constant()):
                pass
            case ast.Call(ast.Name("Remedy"), [python, _]):
                yield from sentences(ast.Tuple([python]))
            case ast.Constant(str(text)) if " " in text:
                yield text
            case _:
                yield from sentences(node)


def test_only_the_command_line_is_spoken_to_in_options() -> None:
    # Say it in words of Python, and of the command line with errors.Remedy.
    outside = [path for path in FILES if room_of(path) != "cli"]
    spoken = {
        path.name: [text for text in sentences(ast.parse(path.read_text())) if SPOKEN.search(text)] for path in outside
    }
    assert {name: texts for name, texts in spoken.items() if texts} == {}
