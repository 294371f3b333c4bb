"""What may differ from what was trained, and when: for a test of it, and where it is continued."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import mamlcli
from mamlcli import Config, parse_config
from mamlcli.config.changes import MAY_CHANGE, changes, refused_changes
from mamlcli.config.reference import known_keys
from mamlcli.errors import UsageError
from mamlcli.meta_test.losses import adaptation_losses
from mamlcli.runs.checkpoints import list_checkpoints
from mamlcli.tasks.linear import LinearTasks
from mamlcli.tasks.mixture import Member, MixtureTasks
from tests.conftest import TINY, Maml
from tests.same_run import assert_same_run
from tests.test_runs import Listener, with_steps

LEARNED = TINY + "algorithm: {learned_inner_lr: tensor, inner_lr_init: [0.01, 0.02]}\n"

# One other value for every key; what stands for `seeds` has as many of them.
OTHER = {
    "name": "other", "seeds": (5, 6), "device": "auto",
    "tasks.family": None, "tasks.amplitude": (5.0, 10.0), "tasks.phase": (0.0, 1.0), "tasks.frequency": (1.0, 2.0),
    "tasks.x": (-1.0, 1.0), "tasks.noise_std": 0.5, "tasks.oracle_inputs": True, "tasks.support_shots": 4,
    "tasks.query_shots": 4, "tasks.corrupted_slots": 2,
    "tasks.pool": 5, "tasks.damping": (0.1, 0.2), "tasks.e_max": (1.0, 2.0), "tasks.ec50": (1.0, 2.0),
    "tasks.hill": (1.0, 2.0), "tasks.baseline": (0.0, 0.5),
    "tasks.slope": (1.0, 2.0), "tasks.intercept": (1.0, 2.0), "tasks.square": (1.0, 2.0), "tasks.cube": (1.0, 2.0),
    "tasks.centre": (1.0, 2.0), "tasks.offset": (1.0, 2.0), "tasks.overtone_amplitude": (1.0, 2.0),
    "tasks.overtone_phase": (1.0, 2.0), "tasks.first_square": (1.0, 2.0), "tasks.second_square": (1.0, 2.0),
    "tasks.families": (Member(tasks=LinearTasks()),),
    "tasks.path": "/elsewhere.csv", "tasks.task": "other", "tasks.inputs": ("other",), "tasks.target": ("other",),
    "tasks.delimiter": ";", "tasks.split": "part", "tasks.scale": "none", "tasks.support": "first",
    "tasks.min_rows": "drop", "tasks.duplicates": "keep",
    "model.name": None, "model.hidden_sizes": (9,), "model.activation": "tanh", "model.init": "truncated_normal",
    "algorithm.name": None, "algorithm.order": "first", "algorithm.inner_steps": 2, "algorithm.inner_lr": 0.1,
    "algorithm.learned_inner_lr": "parameter", "algorithm.inner_lr_init": (0.1, 0.2),
    "algorithm.adapts": "head", "algorithm.inner_optimizer": "momentum", "algorithm.inner_momentum": 0.5,
    "algorithm.preconditioner": "diagonal", "algorithm.per_step_losses": 5, "algorithm.first_order_steps": 5,
    "algorithm.models": 3, "algorithm.penalty": "mean", "algorithm.strength": 0.5,
    "algorithm.proximal_strength": 0.5, "algorithm.cg_steps": 2, "algorithm.difference_step": 0.5,
    "algorithm.difference": "central", "algorithm.samples": "all", "algorithm.context_size": 3,
    "outer.max_task_grad": 1.0,
    "algorithm.unlabelled_inputs": 3, "algorithm.learn_slot_weights": False,
    "outer.steps": 14, "outer.meta_batch_size": 4, "outer.optimizer": "sgd", "outer.lr": 0.1,
    "outer.schedule": "cosine", "outer.max_grad_norm": 1.0, "outer.on_divergence": "freeze",
    "evaluation.tasks": 8, "evaluation.shots": (2,), "evaluation.inner_steps": 2, "evaluation.query_shots": 8,
    "evaluation.grid": 50, "evaluation.seed": 1, "evaluation.diverged_above": 5.0,
    "evaluation.every_steps": 5,
    "run.log_every_steps": 3, "run.checkpoint_every_steps": 4, "run.keep_checkpoints": 1, "run.keep": "best",
    "run.log_to": ("tensorboard",),
    "engine.compile": "off", "engine.inner_update": "dense", "engine.task_chunk": 2, "engine.threads": 2,
    "parallel.shard": "tasks",
}  # fmt: skip
# Written down beside the table, on purpose, by what each key means.
TESTED = {
    "device", "tasks.amplitude", "tasks.phase", "tasks.frequency", "tasks.x", "tasks.noise_std", "tasks.path",
    "tasks.damping", "tasks.e_max", "tasks.ec50", "tasks.hill", "tasks.baseline", "tasks.slope", "tasks.intercept",
    "tasks.square", "tasks.cube", "tasks.centre", "tasks.offset", "tasks.overtone_amplitude", "tasks.overtone_phase",
    "tasks.first_square", "tasks.second_square", "tasks.families",
    "tasks.corrupted_slots", "algorithm.inner_lr", "algorithm.inner_optimizer", "algorithm.inner_momentum",
    "algorithm.proximal_strength", "evaluation.tasks", "evaluation.shots", "evaluation.inner_steps",
    "evaluation.query_shots", "evaluation.grid", "evaluation.seed", "evaluation.diverged_above", "run.keep",
    "engine.compile", "engine.inner_update", "engine.task_chunk", "engine.threads", "parallel.shard",
}  # fmt: skip
CONTINUED = {
    "device", "outer.steps", "evaluation.tasks", "evaluation.shots", "evaluation.inner_steps", "tasks.path",
    "evaluation.query_shots", "evaluation.grid", "evaluation.seed", "evaluation.diverged_above",
    "run.checkpoint_every_steps", "run.keep_checkpoints", "run.keep", "run.log_to", "engine.compile",
    "engine.inner_update",
    "engine.task_chunk", "engine.threads", "parallel.shard",
}  # fmt: skip
METHODS = {
    "maml": parse_config(TINY),
    "damped_oscillator": parse_config(TINY + "tasks: {family: damped_oscillator}\n"),
    "dose_response": parse_config(TINY + "tasks: {family: dose_response}\n"),
    **{
        name: parse_config(TINY + f"tasks: {{family: {name}}}\n")
        for name in ("cubic", "absolute_value", "harmonic", "surface")
    },
    "mixture": parse_config(TINY + "tasks: {family: mixture, families: [{family: linear, weight: 2}]}\n"),
    "table": parse_config(
        TINY + "tasks: {family: table, path: t.csv, task: a, inputs: b, target: c}\n",
        overrides=["evaluation.every_steps=null", "run.keep=newest"],
    ),
    "joint": parse_config(TINY + "algorithm: {name: joint}\n"),
    "chain": parse_config(TINY + "algorithm: {name: chain}\n", overrides=["evaluation.shots=[10]"]),
    "averaged": parse_config(
        TINY + "algorithm: {name: averaged, models: 4}\n",
        overrides=["tasks.pool=4", "evaluation.every_steps=null", "run.keep=newest"],
    ),
    "imaml": parse_config(TINY + "algorithm: {name: imaml}\n"),
    "hessian_free": parse_config(TINY + "algorithm: {name: hessian_free}\n"),
    "reptile": parse_config(TINY + "algorithm: {name: reptile, inner_steps: 3, inner_lr: 0.02}\n"),
    "cavia": parse_config(TINY + "algorithm: {name: cavia, inner_lr: 0.5}\n"),
}


def leaves(config: Config) -> list[str]:
    known = known_keys(config)
    return [key for key in known if not any(other.startswith(f"{key}.") for other in known)]


def changed(config: Config, key: str) -> Config:
    section, _, name = key.rpartition(".")
    if key == "tasks.inputs" and isinstance(config.tasks, MixtureTasks):  # how many, and no names
        return config.model_copy(update={section: config.tasks.model_copy(update={name: 2})})
    if not section:
        return config.model_copy(update={key: OTHER[key]})
    return config.model_copy(update={section: getattr(config, section).model_copy(update={name: OTHER[key]})})


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, own in METHODS.items() for key in leaves(own)])
def test_every_key_may_change_when_it_does_not_change_what_was_trained(name: str, key: str) -> None:
    own = METHODS[name]
    other = changed(own, key)
    assert list(changes(own, other)) == [key]
    assert (not refused_changes(own, other, "evaluate")) == (key in TESTED)
    assert (not refused_changes(own, other, "resume")) == (key in CONTINUED)


def test_no_key_is_left_out() -> None:
    of_all = {key for key in known_keys() if not any(other.startswith(f"{key}.") for other in known_keys())}
    assert {key for own in METHODS.values() for key in leaves(own)} == of_all == OTHER.keys()


def test_the_table_names_keys_and_sections_that_there_are() -> None:
    assert set(MAY_CHANGE) <= set(known_keys())


@pytest.mark.parametrize("key", sorted(CONTINUED - {"device", "run.keep", "tasks.path"}))
def test_what_a_resumed_run_may_change_gives_the_same_weights(tiny: Config, tmp_path: Path, key: str) -> None:
    other = changed(with_steps(tiny, 14), key)
    mamlcli.train(tiny, out=tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "step-12.pt").unlink()
    run = mamlcli.train(other, out=tmp_path / "run", resume=True).run
    whole = mamlcli.train(with_steps(tiny, 14), out=tmp_path / "whole").run
    assert mamlcli.load_config(run / "config.yaml") == other
    ours, theirs = (torch.load(list_checkpoints(one / "checkpoints")[0], weights_only=True) for one in (run, whole))
    assert ours["step"] == theirs["step"] == 14
    for name, theta in theirs["params"].items():
        if key.startswith("engine."):
            torch.testing.assert_close(ours["params"][name], theta, rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(ours["params"][name], theta)


def test_fewer_checkpoints_are_kept_from_a_resumed_run_on(tiny: Config, tmp_path: Path) -> None:
    run = mamlcli.train(tiny, out=tmp_path / "run").run
    mamlcli.train(changed(with_steps(tiny, 14), "run.keep_checkpoints"), out=run, resume=True)
    assert [path.name for path in list_checkpoints(run / "checkpoints")] == ["step-14.pt"]


def test_a_run_continued_in_other_chunks_says_that_it_is_equal_to_rounding_only(tiny: Config, tmp_path: Path) -> None:
    run = mamlcli.train(tiny, out=tmp_path / "run").run
    listener = Listener()
    mamlcli.train(changed(with_steps(tiny, 14), "engine.task_chunk"), out=run, resume=True, reporter=listener)
    assert any("task_chunk was 3 and is 2 now" in note for note in listener.notes)


def test_other_steps_between_rows_are_refused_since_a_run_has_one(tiny: Config, tmp_path: Path) -> None:
    run = mamlcli.train(tiny, out=tmp_path / "run").run
    before = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(UsageError, match=r"run.log_every_steps: 4 in the run, 3 now(.|\n)*run.keep_checkpoints"):
        mamlcli.train(changed(tiny, "run.log_every_steps"), out=run, resume=True)
    assert (run / "metrics.jsonl").read_bytes() == before


def test_a_comparison_is_continued_with_fewer_checkpoints_too(tiny: Config, tmp_path: Path) -> None:
    both = mamlcli.compare_orders(tiny, out=tmp_path / "both").run
    longer = changed(changed(with_steps(tiny, 14), "run.keep_checkpoints"), "evaluation.tasks")
    result = mamlcli.compare_orders(longer, out=both, resume=True)
    assert mamlcli.load_config(both / "first" / "config.yaml").evaluation.tasks == 8
    assert_same_run(mamlcli.train(with_steps(tiny, 14), out=tmp_path / "whole").run, result.runs["second"])


def test_an_evaluation_takes_the_settings_that_a_resumed_run_was_given(tiny: Config, tmp_path: Path) -> None:
    run = mamlcli.train(tiny, out=tmp_path / "run").run
    mamlcli.train(changed(tiny, "evaluation.tasks"), out=run, resume=True)
    assert mamlcli.evaluate(run).tasks == 8


@pytest.mark.parametrize("options", [(), ("--random-init",)])
def test_what_rates_begin_with_cannot_change_in_an_evaluation(
    maml: Maml, folder: Path, options: tuple[str, ...]
) -> None:
    (folder / "learned.yaml").write_text(LEARNED)
    assert maml("train", "-c", "learned.yaml", "--out", "run").code == 0
    refused = maml("eval", "run", "--set", "algorithm.inner_lr_init=[0.1,0.2]", *options)
    assert refused.code == 2
    assert "algorithm.inner_lr_init: (0.01, 0.02) in the run, (0.1, 0.2) now" in refused.err
    assert not list((folder / "run").glob("evaluation*"))


@pytest.mark.parametrize("options", [(), ("--random-init",)])
def test_a_step_size_that_nothing_uses_is_refused_in_words(maml: Maml, folder: Path, options: tuple[str, ...]) -> None:
    (folder / "learned.yaml").write_text(LEARNED)
    assert maml("train", "-c", "learned.yaml", "--out", "run").code == 0
    refused = maml("eval", "run", "--set", "algorithm.inner_lr=0.1", *options)
    assert refused.code == 2
    assert "algorithm.inner_lr would change nothing: this run has learned its inner learning rates" in refused.err


def test_query_points_that_a_grid_replaces_are_refused_in_words(tiny: Config, tmp_path: Path) -> None:
    run = mamlcli.train(tiny, out=tmp_path / "run").run
    with pytest.raises(UsageError, match=r"evaluation\.query_shots would change nothing: evaluation\.grid"):
        mamlcli.evaluate(run, overrides=("evaluation.grid=20", "evaluation.query_shots=30"))


@pytest.mark.parametrize(
    "override", ["model.activation=tanh", "seeds=[8, 9]", "outer.steps=99", "run.keep_checkpoints=1"]
)
def test_an_evaluation_says_what_it_cannot_change_and_what_it_can(tiny: Config, tmp_path: Path, override: str) -> None:
    run = mamlcli.train(tiny, out=tmp_path / "run").run
    with pytest.raises(UsageError) as caught:
        mamlcli.evaluate(run, overrides=(override,))
    assert f"  {override.split('=')[0]}: " in str(caught.value)
    assert str(caught.value).endswith(
        "these may change: device, engine.*, parallel.*, evaluation.* (not evaluation.every_steps), run.keep, tasks.x, "
        "tasks.noise_std, tasks.corrupted_slots, tasks.amplitude, tasks.phase, tasks.frequency, algorithm.inner_lr"
        ", algorithm.inner_optimizer, algorithm.inner_momentum"
    )


def test_an_evaluation_computes_on_the_threads_that_it_is_told(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []

    def watched(*args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        counts.append(torch.get_num_threads())
        return adaptation_losses(*args, **kwargs)

    run = mamlcli.train(tiny, out=tmp_path / "run").run
    monkeypatch.setattr("mamlcli.meta_test.measure.adaptation_losses", watched)
    mamlcli.evaluate(run, overrides=("engine.threads=3",))
    assert set(counts) == {3}
    assert json.loads((run / "evaluation.json").read_text())["protocol"]["threads"] == 3
