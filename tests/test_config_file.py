"""What a config accepts, what it refuses, and what it says."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamlcli import Config, dump_config, load_config, parse_config
from mamlcli.config.file import parse_seeds
from mamlcli.config.reference import sections
from mamlcli.config.yaml_text import dump_yaml, read_yaml
from mamlcli.errors import ConfigError, UsageError
from mamlcli.registry import CHOICES
from tests.conftest import Maml


def problems(text: str, *overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse_config(text, source="x.yaml", overrides=overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.yaml:1:1: the config is empty"),
        ("# nothing\n", "x.yaml:1:1: the config is empty"),
        ("- a\n", "x.yaml:1:1: a config is a mapping"),
        ("seeds: [1]", "name: this key is required and missing"),
        ("name: a\nouter:\n  stesp: 3", "x.yaml:3:3: outer.stesp: unknown key; did you mean 'outer.steps'?"),
        ("name: a\ninner_lr: 1", "x.yaml:2:1: inner_lr: unknown key; did you mean 'algorithm.inner_lr'?"),
        ("name: a\nouter: {lr: yes}", "x.yaml:2:13: outer.lr: must be a valid number, got the text 'yes'"),
        ("name: a\nouter: {lr: true}", "outer.lr: must be a valid number, got the boolean true"),
        ("name: a\nouter: {lr: .inf}", "outer.lr: must be a finite number"),
        ("name: a\nouter: {steps: 1.5}", "outer.steps: must be a valid integer, got 1.5"),
        ("name: a\nouter: {steps: 010}", "outer.steps: must be a valid integer, got the text '010'"),
        ("name: a\nouter: {steps: 1:30}", "outer.steps: must be a valid integer, got the text '1:30'"),
        ("name: a\nouter: {steps: 0}", "outer.steps: must be greater than or equal to 1, got 0"),
        ("name: a\nouter:", "x.yaml:2:7: outer: must be a mapping of keys to values, got nothing (null)"),
        (
            "name: a\nalgorithm: {order: frist}",
            "must be one of first, second, got the text 'frist'; did you mean 'first'?",
        ),
        ("name: a\ntasks: {phase: 3}", "tasks.phase: must be a list, like [1, 2], got 3"),
        ("name: a\ntasks: {phase: [3]}", "tasks.phase: must be a list of two"),
        ("name: a\ntasks: {phase: [3, 1]}", "tasks.phase: must be [low, high] with low <= high, got [3.0, 1.0]"),
        ("name: a\nseeds: [1, 1]", "seeds: must not hold the same number twice, got 1 again"),
        ("name: a\nseeds: []", "seeds: must have at least 1 item"),
        ("name: a\nname: b", "x.yaml:2:1: name: the same key twice; the first is at x.yaml:1:1"),
        ("name: ../a", "name: must start with a letter or digit"),
        ('name: "a\\0"', "name: must start with a letter or digit"),
        ("name: a\n---\nname: b", "x.yaml:2:1: a second document"),
        ("name: &n a\nseeds: *n", "x.yaml:2:8: aliases are not allowed"),
        ("a: &a [*a]", "aliases are not allowed"),
        ("name: !!python/object/apply:os.system [ls]", "x.yaml:1:7: tags are not allowed"),
        ("[" * 5000, "nested more than 16 levels deep"),
        ("seeds: " + "9" * 5000, "a number of 5000 digits is too long"),
        ("name: [1", "x.yaml:1:9: not valid YAML"),
        (
            "name: a\nalgorithm:\n  name: joint\n  order: first",
            "x.yaml:4:3: algorithm.order: `order` is a key of maml, chain and cavia; this is joint",
        ),
        (
            "name: a\nalgorithm: {unlabelled_inputs: 3}",
            "x.yaml:2:13: algorithm.unlabelled_inputs: `unlabelled_inputs` is a key of chain; this is maml",
        ),
        (
            "name: a\nalgorithm: {name: joint, inner_lrr: 1}",
            "x.yaml:2:26: algorithm.inner_lrr: unknown key; did you mean 'algorithm.inner_lr'?",
        ),
        (
            "name: a\ntasks: {family: sinusiod}",
            "x.yaml:2:17: tasks.family: there is no family 'sinusiod'; did you mean 'sinusoid'?",
        ),
        ("name: a\nmodel: {name: transformer}", "x.yaml:2:15: model.name: there is no model 'transformer'; known: mlp"),
        (
            "name: a\nalgorithm: {name: 5}",
            "x.yaml:2:19: algorithm.name: there is no method of type int; known: maml, joint, "
            "averaged, chain, reptile, cavia, imaml, hessian_free",
        ),
        ("name: \x07", "x.yaml:1: not a text file"),
        ("? [a]\n: b", "a key must be a plain word"),
    ],
)
def test_bad_input_is_named_with_its_place(text: str, message: str) -> None:
    assert message in problems(text)


def test_all_problems_are_told_at_once() -> None:
    text = "name: a\nname: b\nouter: {stesp: 1, lr: yes}\nmodel: 5\ntasks: {x: [1]}\n"
    lines = problems(text).splitlines()
    assert len(lines) == 5
    assert all(line.startswith("x.yaml:") for line in lines)


def test_problems_in_several_sections_are_told_at_once_each_with_its_place() -> None:
    text = """\
name: a
tasks:
  amplitude: 3
  fase: [0, 1]
model: {hidden_sizes: [0], order: first}
algorithm:
  name: joint
  inner_steps: 2
  inner_lr: -1
outer: {lr: yes}
"""
    assert problems(text, "tasks.noise_std=-1", "algorithm.learn_slot_weights=true").splitlines() == [
        "override tasks.noise_std=-1: tasks.noise_std: must be greater than or equal to 0, got -1",
        "x.yaml:3:14: tasks.amplitude: must be a list, like [1, 2], got 3",
        "x.yaml:4:3: tasks.fase: unknown key; did you mean 'tasks.phase'?",
        "x.yaml:5:24: model.hidden_sizes[0]: must be greater than or equal to 1, got 0",
        "x.yaml:5:28: model.order: unknown key; did you mean 'algorithm.order'?",
        "x.yaml:9:13: algorithm.inner_lr: must be greater than or equal to 0, got -1",
        "x.yaml:8:3: algorithm.inner_steps: `inner_steps` is a key of maml, chain, reptile, cavia, imaml "
        "and hessian_free; this is joint",
        "override algorithm.learn_slot_weights=true: algorithm.learn_slot_weights: `learn_slot_weights` is a key of "
        "chain; this is joint",
        "x.yaml:10:13: outer.lr: must be a valid number, got the text 'yes'",
    ]


def test_a_family_that_is_not_there_may_be_ones_own_in_the_words_of_the_caller(maml: Maml, folder: Path) -> None:
    text = "name: a\ntasks: {family: sinusiod}"
    said = (
        "tasks.family: there is no family 'sinusiod'; did you mean 'sinusoid'? a family, model or method of your own "
    )
    assert problems(text) == f"x.yaml:2:17: {said}is there once load_plugins([FILE]) has brought it"
    (folder / "x.yaml").write_text(text)
    assert maml("train", "-c", "x.yaml").err == f"maml: x.yaml:2:17: {said}needs its --plugin FILE\n"


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-3", 0.001), ("1", 1), ("1.", 1.0), (".5", 0.5), ("-2", -2), ("1E+2", 100.0), ("true", True), ("null", None)]
    + [("~", None), ("", None), (".inf", float("inf")), ("'1'", "1")]
    + [(text, text) for text in ("yes", "no", "on", "010", "1:30", "0x10", "0o7", "2026-01-01", "1_000", "1e", "a b")],
)
def test_scalars_mean_what_they_look_like(written: str, value: object) -> None:
    read = read_yaml(f"key: {written}", "x").data["key"]
    assert read == value
    assert type(read) is type(value)


def test_a_file_that_is_missing_binary_or_huge_is_refused(tmp_path: Path) -> None:
    binary, huge = tmp_path / "binary.yaml", tmp_path / "huge.yaml"
    binary.write_bytes(b"name: a\n\xff\xfe")
    huge.write_bytes(b"a" * 300_000)
    for path, message in (
        (tmp_path / "none.yaml", "No such file"),
        (tmp_path, "it is a folder, not a file"),
        (binary, "binary.yaml:2: not a text file"),
        (huge, "larger than 256 KiB"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_config(path)


TEXTS = st.one_of(
    st.text(max_size=8), st.sampled_from(["1e3", "010", "no", "null", "~", "1:30", ".nan", "", "-1", "a: b"])
)


@settings(deadline=None)
@given(
    st.recursive(TEXTS | st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none(), st.lists, max_leaves=5)
)
def test_dumped_values_are_read_back_equal(value: object) -> None:
    read = read_yaml(dump_yaml({"key": value}), "x").data["key"]
    assert read == value
    assert type(read) is type(value)


CONFIGS = st.builds(
    lambda name, seeds, lr, low, width, sizes, steps, clip: Config.model_validate(
        {
            "name": name,
            "seeds": seeds,
            "outer": {"lr": lr, "steps": steps, "max_grad_norm": clip},
            "tasks": {"phase": [low, low + width]},
            "model": {"hidden_sizes": sizes},
        }
    ),
    st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,20}\Z"),
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4, unique=True),
    st.floats(1e-37, 1e38),
    st.floats(-1e6, 1e6),
    st.floats(0, 1e6),
    st.lists(st.integers(1, 10**6), max_size=3),
    st.integers(1, 10**9),
    st.none() | st.floats(1e-9, 1e9),
)


@settings(deadline=None)
@given(CONFIGS)
def test_a_resolved_config_fed_back_is_the_same_config(config: Config) -> None:
    assert parse_config(dump_config(config)) == config


@settings(deadline=None)
@given(TEXTS | st.integers().map(str) | st.floats().map(str))
def test_set_behaves_as_the_file(value: str) -> None:
    def outcome(text: str, *overrides: str) -> object:
        try:
            return parse_config(text, overrides=overrides)
        except ConfigError as error:
            return ["not YAML" if "not " in text else text.split(": outer.lr: ")[1] for text in error.problems]

    if len(value.splitlines()) < 2:  # what is longer cannot stand on the line of its key
        assert outcome("name: a", f"outer.lr={value}") == outcome(f"name: a\nouter:\n  lr: {value}")


def test_set_creates_sections_and_later_ones_win() -> None:
    config = parse_config("name: a", overrides=["outer.lr=1e-4", "evaluation.shots=[1, 2]", "outer.lr=2e-4"])
    assert config.outer.lr == 2e-4
    assert config.evaluation.shots == (1, 2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("outer.lr", "write it as key.path=value"),
        ("=3", "write it as key.path=value"),
        ("outer.lr=no", "override outer.lr=no: outer.lr: must be a valid number, got the text 'no'"),
        ("outer.stesp=3", "override outer.stesp=3: outer.stesp: unknown key; did you mean 'outer.steps'?"),
        ("name.x=3", "name holds a value, not keys"),
    ],
)
def test_a_wrong_override_is_named(override: str, message: str) -> None:
    assert message in problems("name: a\nouter: {lr: 1}", override)


def test_a_right_override_mends_a_wrong_file() -> None:
    assert parse_config("name: a\nouter: {lr: no}", overrides=["outer.lr=1"]).outer.lr == 1


def test_seeds_are_ranges_and_lists() -> None:
    assert parse_seeds("0-4") == [0, 1, 2, 3, 4]
    assert parse_seeds("0,3,7-8") == [0, 3, 7, 8]
    for wrong in ("", "a", "3-1", "1,,2", "0-99999999", "-1"):
        with pytest.raises(UsageError, match="write seeds as"):
            parse_seeds(wrong)


def test_every_key_has_a_description() -> None:
    known = sections()
    leaves = [Config.model_fields[name] for name, classes in known.items() if not classes]
    chosen = [Config.model_fields[name] for name in CHOICES]
    inside = [field for classes in known.values() for section in classes for field in section.model_fields.values()]
    assert len(inside) > 40
    assert all(field.description for field in leaves + chosen + inside)
