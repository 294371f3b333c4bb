"""The meta-update and the loop around it."""

import itertools
import sys

import pytest
import torch
from torch import Tensor

from mamlcli import Config
from mamlcli.errors import DivergedError
from mamlcli.experiment import make_experiment
from mamlcli.methods.method import Log, MetaGradient
from mamlcli.tasks.samples import Task
from mamlcli.training import TrainState, clip_per_seed, frozen_seeds, make_update, scheduled_lr, train_steps
from mamlcli.types import Params

CPU = torch.device("cpu")


def changed(config: Config, section: str, **values: object) -> Config:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def trained(config: Config, gradient: MetaGradient | None = None, state: TrainState | None = None) -> TrainState:
    experiment, outer = make_experiment(config), config.outer
    state = state or experiment.initial_state(CPU)
    for _ in train_steps(
        state,
        experiment.stream().blocks(0, outer.steps),
        make_update(state, gradient or experiment.method.meta_gradient, outer.max_grad_norm),
        experiment.pre_adapt_loss,
        seeds=config.seeds,
        learning_rate=lambda step: scheduled_lr(outer.lr, outer.schedule, step, outer.steps),
        on_divergence=outer.on_divergence,
        is_logged=lambda step: step % 4 == 0,
    ):
        pass
    return state


def test_the_same_seed_gives_the_same_numbers(tiny: Config) -> None:
    one, other = trained(tiny), trained(tiny)
    assert all(torch.equal(one.params[name], other.params[name]) for name in one.params)


def test_an_accelerator_is_waited_for_at_logged_steps_alone(tiny: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    # Tensors of the device `meta` have no numbers: to read one is an error, but for their truth, which is counted here.
    device, reads = torch.device("meta"), list[Tensor]()

    def read(tensor: Tensor) -> bool:
        reads.append(tensor)
        return True

    monkeypatch.setattr(Tensor, "__bool__", read)
    adam = sys.modules["torch.optim.adam"]  # torch.optim.adam is something else
    monkeypatch.setattr(adam, "_get_capturable_supported_devices", lambda: ["meta"])
    experiment = make_experiment(changed(tiny, "outer", steps=12, max_grad_norm=1.0))
    config, state = experiment.config, experiment.initial_state(device)
    state.optimizer.param_groups[0]["capturable"] = True  # as on CUDA
    read_at = dict[int, int]()
    for step in train_steps(
        state,
        experiment.stream().blocks(0, 12, device),
        make_update(state, experiment.method.meta_gradient, config.outer.max_grad_norm),
        experiment.pre_adapt_loss,
        seeds=config.seeds,
        learning_rate=lambda step: scheduled_lr(0.01, "cosine", step, 12),
        on_divergence="stop",
        is_logged=lambda step: step % 4 == 0,
    ):
        read_at[step.step] = len(reads)
    before = read_at[1]  # what is made at the start, once
    assert read_at == {step: before + step // 4 for step in range(1, 13)}


@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
@pytest.mark.parametrize(
    "optimizer", ["adam", "adamw", "nadam", "radam", "adamax", "adagrad", "rmsprop", "sgd", "momentum"]
)
def test_seeds_trained_together_equal_the_same_seeds_trained_alone(
    tiny: Config, optimizer: str, max_grad_norm: float | None
) -> None:
    config = changed(tiny, "outer", optimizer=optimizer, max_grad_norm=max_grad_norm)
    together = trained(config)
    for index, seed in enumerate(config.seeds):
        alone = trained(config.model_copy(update={"seeds": (seed,)}))
        for name, theta in alone.params.items():
            torch.testing.assert_close(theta[0], together.params[name][index], rtol=1e-4, atol=1e-6)


def test_adam_is_the_adam_of_the_textbook(tiny: Config) -> None:
    # Kingma and Ba 2015 (arXiv:1412.6980), Algorithm 1, written out for one seed.
    config = changed(tiny, "outer", steps=5).model_copy(update={"seeds": (0,)})
    experiment = make_experiment(config)
    theta = {name: value.clone() for name, value in experiment.initial_state(CPU).params.items()}
    mean = {name: torch.zeros_like(value) for name, value in theta.items()}
    square = {name: torch.zeros_like(value) for name, value in theta.items()}
    for step, tasks in enumerate(experiment.stream().batches(0, 5), start=1):
        grads, _ = experiment.method.meta_gradient(theta, tasks)
        for name, grad in grads.items():
            mean[name] = 0.9 * mean[name] + 0.1 * grad
            square[name] = 0.999 * square[name] + 0.001 * grad**2
            corrected = (square[name] / (1 - 0.999**step)).sqrt() + 1e-8
            theta[name] = theta[name] - 0.001 * mean[name] / (1 - 0.9**step) / corrected
    for name, value in trained(config).params.items():
        torch.testing.assert_close(value, theta[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("max_norm", [0.1, 100.0])
def test_clipping_is_that_of_torch_for_each_seed(max_norm: float) -> None:
    grads = torch.randn(3, 12)
    clipped, norms = clip_per_seed(grads, max_norm)
    for seed in range(3):
        leaf = torch.zeros(12, requires_grad=True)
        leaf.grad = grads[seed].clone()
        torch.testing.assert_close(norms[seed], torch.nn.utils.clip_grad_norm_([leaf], max_norm))
        torch.testing.assert_close(clipped[seed], leaf.grad)


def test_schedules_are_those_of_torch() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    for step in range(10):
        assert scheduled_lr(0.5, "cosine", step, 10) == pytest.approx(cosine.get_last_lr()[0])
        assert scheduled_lr(0.5, "linear", step, 10) == pytest.approx(0.5 * (10 - step) / 10)
        assert scheduled_lr(0.5, "constant", step, 10) == 0.5
        optimizer.step()
        cosine.step()


def poisoned(config: Config, what: str, seeds: list[int], at_step: int) -> MetaGradient:
    """The meta-gradient of a config, with NaN put into some seeds at one step."""
    gradient, calls = make_experiment(config).method.meta_gradient, itertools.count(1)

    def poison(params: Params, tasks: Task) -> tuple[Params, Log]:
        grads, log = gradient(params, tasks)
        if next(calls) == at_step:
            (log["post_adapt_loss"] if what == "loss" else grads["layer0.bias"])[seeds] = float("nan")
        return grads, log

    return poison


@pytest.mark.parametrize("what", ["loss", "meta-gradient"])
def test_what_is_not_finite_stops_before_the_update(tiny: Config, what: str) -> None:
    state = make_experiment(tiny).initial_state(CPU)
    with pytest.raises(DivergedError, match=rf"the {what} is not finite for seed 1 at step 6;.*inner_lr"):
        trained(tiny, poisoned(tiny, what, [1], 6), state)
    before = trained(changed(tiny, "outer", steps=5))
    assert state.step == 5
    assert torch.equal(state.flat[1], before.flat[1])


@pytest.mark.parametrize("what", ["loss", "meta-gradient"])
def test_a_seed_that_diverged_is_frozen_and_the_others_do_not_notice(tiny: Config, what: str) -> None:
    config = changed(tiny, "outer", on_divergence="freeze")
    state = trained(config, poisoned(config, what, [1], 6))
    whole, until = trained(config), trained(changed(config, "outer", steps=5))
    assert torch.equal(state.flat[0], whole.flat[0])
    assert torch.equal(state.flat[1], until.flat[1])
    assert frozen_seeds(state, config.seeds) == {1: 6}
    assert all(value.isfinite().all() for value in state.optimizer.state[state.flat].values())


def test_a_run_ends_when_its_last_seed_has_diverged(tiny: Config) -> None:
    config = changed(tiny, "outer", on_divergence="freeze")
    with pytest.raises(DivergedError, match="seed 0 at step 6, 1 at step 6"):
        trained(config, poisoned(config, "loss", [0, 1], 6))
