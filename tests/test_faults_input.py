"""Configs from hostile hands: refused with their place, quickly enough not to be noticed, and without a traceback."""

import json
import math
import os
import re
import threading
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mamlcli import Config, load_config, parse_config
from mamlcli.config.file import dump_config, parse_seeds
from mamlcli.config.yaml_text import read_yaml
from mamlcli.errors import ConfigError, UsageError
from tests.conftest import ROOT, Maml

SHIPPED = [path.read_text() for path in sorted((ROOT / "configs").glob("*.yaml"))]
ALIASES = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        (ALIASES.encode(), "hostile.yaml:2:8: aliases are not allowed"),
        (b"name: &a [*a]", "hostile.yaml:1:11: aliases are not allowed"),
        (b"<<: &a {<<: *a}", "hostile.yaml:1:13: aliases are not allowed"),
        (b"name: " + b"[" * 5000 + b"]" * 5000, "hostile.yaml:1:22: nested more than 16 levels deep"),
        (b"- " * 5000, "hostile.yaml:1:33: nested more than 16 levels deep"),
        (b"".join(b" " * level + b"a:\n" for level in range(350)), "nested more than 16 levels deep"),
        (b"name: !!python/object/apply:os.mkdir [executed]", "hostile.yaml:1:7: tags are not allowed"),
        (b"name: !!python/name:os.system", "hostile.yaml:1:7: tags are not allowed"),
        (b"seeds: [" + b"7" * 5000 + b"]", "hostile.yaml:1:9: a number of 5000 digits is too long"),
        (b"outer: {lr: 1" + b"0" * 5000 + b".0}", "hostile.yaml:1:13: outer.lr: must be a finite number"),
        (b"name: a\nname: b", "hostile.yaml:2:1: name: the same key twice"),
        (b"\x7fELF\x02\x01\x01\x00\x00", "hostile.yaml:1: not a text file"),
        (b"name: \xff\xfe", "hostile.yaml:1: not a text file"),
        (b"\x00" * 1000, "hostile.yaml:1: not a text file"),
        (b"%YAML 9.9\n---\nname: a", "hostile.yaml:1:"),
    ],
)  # fmt: skip
def test_hostile_yaml_exits_2_with_its_place(maml: Maml, folder: Path, raw: bytes, place: str) -> None:
    (folder / "hostile.yaml").write_bytes(raw)
    outcome = maml("train", "-c", "hostile.yaml")
    assert outcome.code == 2
    assert place in outcome.err
    assert "Traceback" not in outcome.err
    assert sorted(path.name for path in folder.iterdir()) == ["hostile.yaml", "tiny.yaml"]


def test_a_config_of_100_mb_is_not_read(maml: Maml, folder: Path) -> None:
    with (folder / "hostile.yaml").open("wb") as file:
        file.write(b"name: a\n")
        file.truncate(100 * 2**20)
    outcome = maml("train", "-c", "hostile.yaml")
    assert outcome.code == 2
    assert "hostile.yaml: cannot read the config: it is larger than 256 KiB" in outcome.err


def test_what_is_no_file_is_refused_and_not_waited_for(maml: Maml, folder: Path) -> None:
    os.mkfifo(folder / "pipe.yaml")
    terminal, other_end = os.openpty()
    said = {
        "pipe.yaml": "it is a pipe by name",
        "/dev/zero": "it is a device or a terminal",
        os.ttyname(other_end): "it is a device or a terminal",
        str(folder): "it is a folder",
    }
    for path, reason in said.items():
        for command in (("train", "-c", path), ("check-grads", "-c", path)):
            outcome = maml(*command)
            assert outcome.code == 2
            assert f"{path}: cannot read the config: {reason}, not a file" in outcome.err
    os.close(terminal)
    os.close(other_end)


def test_a_row_that_is_no_file_is_refused(maml: Maml, folder: Path) -> None:
    os.mkfifo(folder / "row.yaml")
    outcome = maml("reproduce", "row.yaml")
    assert outcome.code == 2
    assert "row.yaml: cannot read the config: it is a pipe by name, not a file" in outcome.err


@pytest.mark.parametrize(("text", "is_config"), [(b"name: piped", True), (b"#" * 2**20, False)])
def test_a_pipe_that_the_shell_hands_over_is_read_to_a_bound(text: bytes, is_config: bool) -> None:
    ours, theirs = os.pipe()

    def write() -> None:
        with suppress(BrokenPipeError), os.fdopen(theirs, "wb") as pipe:
            pipe.write(text)

    writer = threading.Thread(target=write)
    writer.start()
    if is_config:
        assert load_config(f"/dev/fd/{ours}").name == "piped"
    else:
        with pytest.raises(ConfigError, match="larger than 256 KiB"):
            load_config(f"/dev/fd/{ours}")
    os.close(ours)
    writer.join()


@pytest.mark.parametrize("name", ["run.json", "config.yaml", "metrics.jsonl", "step-12.pt", "step-12.pt.sha256"])
def test_a_pipe_in_a_run_is_refused_and_not_waited_for(maml: Maml, folder: Path, name: str) -> None:
    assert maml("train", "-c", "tiny.yaml", "--out", "run").code == 0
    path = next((folder / "run").rglob(name))
    path.unlink()
    os.mkfifo(path)
    outcome = maml("train", "-c", "tiny.yaml", "--out", "run", "--resume", "auto")
    assert outcome.code == (0 if name.startswith("step") else 4), outcome.err  # an older checkpoint serves
    assert "it is a pipe by name, not a file" in outcome.err


@pytest.mark.parametrize("text", ["[" * 200_000, '{"sessions": ' + "[" * 200_000, "NaN"])
def test_a_run_json_that_no_run_writes_is_refused(maml: Maml, folder: Path, text: str) -> None:
    assert maml("train", "-c", "tiny.yaml", "--out", "run").code == 0
    (folder / "run" / "run.json").write_text(text)
    outcome = maml("eval", "run")
    assert outcome.code == 4
    assert "run: not a run: run.json" in outcome.err


def test_lines_of_the_metrics_that_no_run_writes_are_left_out(maml: Maml, folder: Path) -> None:
    assert maml("train", "-c", "tiny.yaml", "--out", "run").code == 0
    path = folder / "run" / "metrics.jsonl"
    whole = path.read_text()
    path.write_text("[" * 200_000 + "\n" + '{"step": 1, "seed": NaN}\n' + whole)
    assert maml("train", "-c", "tiny.yaml", "--out", "run", "--resume", "auto").code == 0
    assert path.read_text() == whole


def test_a_run_of_as_many_seeds_as_there_may_be_can_be_read_back() -> None:
    seeds = list(range(2**32 - 10_000, 2**32))
    config = parse_config("name: a", overrides=[f"seeds={seeds}"])
    assert parse_config(dump_config(config)) == config


TOO_MUCH = {
    "brackets": (
        "seeds=[" + "[]," * 10_000 + "]",
        r"seeds\[0\]: must be a valid integer, got a list of 0(.*\n)+and 9980 more",
    ),
    "nested": ("seeds=" + "[" * 60_000, "nested more than 16 levels"),
    "numbers": ("evaluation.shots=" + str(list(range(1, 10_001))), "must have at most 100 items"),
    "values": ("evaluation.shots=" + str(list(range(1, 25_001))), "more than 20,000 values"),
    "texts": ("seeds=[" + "a," * 9_000 + "]", "and 8980 more"),
    "levels": (".".join("a" * 60_000) + "=1", "more than 16 levels"),
    "bytes": ("seeds=[" + "1," * 200_000 + "]", "larger than 256 KiB"),
    "keys": ("outer={" + ",".join(f"k{i}: 1" for i in range(10_000)) + "}", "and 9980 more"),
    "a key": ("k" * 200_000 + "=1", "unknown key"),
    "twice": ("evaluation.shots=[" + "5," * 90 + "]", "the same number twice, got 5 again"),
}


@pytest.mark.parametrize("case", TOO_MUCH)
def test_an_override_costs_no_more_than_its_length(case: str) -> None:
    override, said = TOO_MUCH[case]
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match=said) as refusal:
            parse_config("name: a", overrides=[override])
        assert tracemalloc.get_traced_memory()[1] < 150 * 2**20
    finally:
        tracemalloc.stop()
    assert len(refusal.value.problems) <= 21
    assert all(len(problem) < 1000 for problem in refusal.value.problems)


def test_a_text_of_a_config_is_bounded_wherever_it_comes_from() -> None:
    with pytest.raises(ConfigError, match="larger than 256 KiB"):
        parse_config("name: a #" + "x" * 2**20)


@pytest.mark.parametrize("text", ["0-999999999", ",".join(f"{i}0000-{i}9999" for i in range(1, 2000)), "1," * 10_001])
def test_ranges_of_seeds_are_counted_before_they_are_made(text: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match="at most 10,000"):
            parse_seeds(text)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "name",
    [
        "../up",
        "..",
        ".",
        "/etc/x",
        "a/b",
        "a\\b",
        "a\0b",
        "x" * 300,
        "🦊",
        "a\n",
        "a b",
        "",
        "-rf",
        "~",
        "a\u202eb",
        "CON:",
    ],
)
def test_a_name_that_is_no_plain_word_is_refused_and_writes_nothing(maml: Maml, folder: Path, name: str) -> None:
    (folder / "tricky.yaml").write_text(f"name: {json.dumps(name, ensure_ascii=False)}\nouter: {{steps: 1}}\n")
    outcome = maml("train", "-c", "tricky.yaml")
    assert outcome.code == 2
    assert "tricky.yaml:1:7: name: must start with a letter or digit" in outcome.err
    assert sorted(path.name for path in folder.iterdir()) == ["tiny.yaml", "tricky.yaml"]


@given(st.text(max_size=80))
@example("a\n")
def test_every_name_that_is_accepted_is_a_folder_inside_outputs(name: str) -> None:
    try:
        config = parse_config(f"name: {json.dumps(name, ensure_ascii=False)}")
    except ConfigError:
        return
    path = (Path("/outputs") / config.name).resolve()
    assert path.parent == Path("/outputs")


def scalar_table() -> list[tuple[str, object, float | None]]:
    """The table of docs/reliability.md."""
    rows = re.findall(
        r"^\| (`[^|]+`|\(empty\)) \| `([^|]+)` \| (`[^|]+`|refused) \|$",
        (ROOT / "docs/reliability.md").read_text(),
        re.M,
    )
    return [
        (
            written.strip("`").removeprefix("(empty)"),
            json.loads(read),
            None if lr == "refused" else float(lr.strip("`")),
        )
        for written, read, lr in rows
    ]


def lr_of(text: str, *overrides: str) -> float | None:
    try:
        return parse_config(text, overrides=overrides).outer.lr
    except ConfigError:
        return None


def test_scalars_are_what_the_docs_say_in_the_file_and_in_set() -> None:
    table = scalar_table()
    assert len(table) == 18
    for written, read, lr in table:
        value = read_yaml(f"key: {written}", "x").data["key"]
        assert type(value) is type(read), written
        assert value == read or (isinstance(value, float) and math.isnan(value)), written
        assert lr_of(f"name: a\nouter:\n  lr: {written}") == lr, written
        assert lr_of("name: a", f"outer.lr={written}") == lr, written


def only_config_errors(text: str) -> None:
    with suppress(ConfigError):
        assert isinstance(parse_config(text), Config)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.text(alphabet="abk:-[]{},&*!|>'\"#%@`?~0123456789._ \n\t<=", max_size=120))
def test_any_text_is_a_config_or_a_config_error(text: str) -> None:
    only_config_errors(text)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_config_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(raw)
    with suppress(ConfigError):
        load_config(path)


TOKENS = st.sampled_from(
    [
        "&a ",
        "*a",
        "!!python/none ",
        "<<: ",
        "? ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ": ",
        "\n",
        "  ",
        "---\n",
        "...\n",
        "null",
        "true",
        "1e999",
        ".nan",
        "-1",
        "9" * 500,
        "\t",
        "|\n",
        ">-\n",
        "%TAG ! x\n",
        "\u2028",
        "\ufeff",
        "'",
        '"',
        "\\x",
        "#",
    ]
)
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), TOKENS), min_size=1, max_size=6)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SHIPPED), EDITS)
def test_a_config_that_was_tampered_with_is_a_config_or_a_config_error(
    text: str, edits: list[tuple[float, int, str]]
) -> None:
    for where, cut, token in edits:
        place = int(where * len(text))
        text = text[:place] + token + text[place + cut :]
    only_config_errors(text)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.tuples(st.sampled_from(["outer.lr", "seeds", "name", "outer"]), TOKENS).map("=".join))
def test_any_override_is_used_or_refused(override: str) -> None:
    with suppress(ConfigError):
        parse_config("name: a\nouter: {lr: 1}\nseeds: [1]", overrides=[override])


NO_FLOAT32 = ("3.5e38", "1e39", "1e308", "1" + "0" * 350)
TOO_SMALL = ("1e-38", "1e-46", "1e-300")
NUMBERS = ("outer.lr", "outer.max_grad_norm", "algorithm.inner_lr", "tasks.noise_std", "evaluation.diverged_above")


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("value", NO_FLOAT32 + TOO_SMALL)
def test_a_number_that_float32_does_not_hold_is_refused(key: str, value: str) -> None:
    with pytest.raises(
        ConfigError, match=re.escape(f"override {key}=") + r".*must be a (number of float32|valid number)"
    ):
        parse_config("name: a", overrides=[f"{key}={value}"])


@pytest.mark.parametrize("key", [f"tasks.{name}" for name in ("amplitude", "phase", "frequency", "x")] + ["algorithm"])
@pytest.mark.parametrize("interval", ["[0, 1e39]", "[-1e39, 0]", "[-3e38, 3e38]"])
def test_an_interval_that_float32_does_not_hold_is_refused(key: str, interval: str) -> None:
    override = f"{key}={interval}"
    if key == "algorithm":
        override = f"algorithm={{learned_inner_lr: tensor, inner_lr_init: {interval}}}"
    with pytest.raises(ConfigError, match="float32"):
        parse_config("name: a", overrides=[override])


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "nadam", "radam", "adamax", "adagrad", "rmsprop", "sgd"])
@pytest.mark.parametrize(
    "numbers",
    [
        ("outer.lr=3.4028234663852886e38", "outer.max_grad_norm=3.4e38"),
        ("outer.lr=1.1754943508222875e-38", "outer.max_grad_norm=1.2e-38"),
        ("algorithm.inner_lr=3.4e38",),
        ("tasks.noise_std=3.4e38", "tasks.amplitude=[3e38, 3.4e38]", "tasks.x=[-1e38, 1e38]"),
    ],
)
def test_the_outermost_numbers_of_float32_train_or_diverge(
    maml: Maml, numbers: tuple[str, ...], optimizer: str
) -> None:
    overrides = [part for number in numbers for part in ("--set", number)]
    outcome = maml("train", "-c", "tiny.yaml", *overrides, "--set", f"outer.optimizer={optimizer}")
    assert outcome.code in (0, 5), outcome.err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("engine.threads", "1025"),
        ("engine.threads", "1000000"),
        ("engine.threads", "2147483648"),
        ("engine.threads", "1e30"),
        ("engine.threads", "0"),
        ("engine.threads", "true"),
        ("engine.task_chunk", "1000000001"),
        ("engine.task_chunk", "9" * 50),
        ("outer.steps", "1000000001"),
        ("evaluation.grid", "1000001"),
        ("run.keep_checkpoints", "9" * 50),
        ("evaluation.seed", "4294967296"),
    ],
)
def test_a_count_beyond_what_makes_sense_is_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"override {key}=")):
        parse_config("name: a", overrides=[f"{key}={value}"])


def row_file(published: str) -> str:
    return f"title: t\nsource: s\nambiguous: a\npublished: [{published}]\nconfig: {{name: x, outer: {{steps: 1}}}}\n"


@pytest.mark.parametrize(
    ("published", "said"),
    [
        ("{shots: 5, inner_steps: 1, mean: 1e200}", "float32"),
        ("{shots: 5, inner_steps: 1, mean: 1, ci95: 1e39}", "float32"),
        ("{shots: 7, inner_steps: 1, mean: 1}", "shots 7 is not among evaluation.shots [5, 10, 20]"),
        ("{shots: 5, inner_steps: 11, mean: 1}", "inner_steps 11 is more than evaluation.inner_steps (10)"),
    ],
)
def test_a_published_number_that_cannot_be_measured_is_refused(
    maml: Maml, folder: Path, published: str, said: str
) -> None:
    (folder / "row.yaml").write_text(row_file(published))
    outcome = maml("reproduce", "row.yaml", "--fast", "--seeds", "0")
    assert outcome.code == 2
    assert said in outcome.err
