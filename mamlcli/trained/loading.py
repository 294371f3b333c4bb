"""A trained run, found and loaded, whether or not the data that it was trained on are still there."""

from collections.abc import Sequence

import torch

from mamlcli.config.changes import changes
from mamlcli.config.file import Override
from mamlcli.errors import Remedy, UsageError
from mamlcli.experiment import make_experiment
from mamlcli.meta_test.protocol import tested_config
from mamlcli.reporting import Reporter, Silent
from mamlcli.runs.checkpoints import check_fits, check_size
from mamlcli.runs.choosing import Purpose
from mamlcli.runs.located import RunLike, locate
from mamlcli.trained.model import TrainedModel
from mamlcli.trainings.start import announce_device

_LOADING = Purpose("predicting with", Remedy("mamlcli.load({run!r})", "maml predict {run} --support FILE --query FILE"))


def load(
    target: RunLike = None, *, overrides: Sequence[str | Override] = (), reporter: Reporter | None = None
) -> TrainedModel:
    """Load a trained run, to adapt it to tasks of one's own.

    The data that it was trained on need not be at hand.

    Args:
        target: A run folder (of its newest whole checkpoint the parameters that `run.keep` says), a checkpoint file,
            what `train` returned, or None for the run that finished last under `outputs/`.
        overrides: `key.path=value` texts that change where it computes and how it adapts, like `device=cpu` or
            `algorithm.inner_lr=0.02`.
        reporter: Hears of the device and of checkpoints that cannot be used.

    Raises:
        ConfigError: If an override is wrong.
        UsageError: If one changes what was trained, or would change nothing.
        CheckpointError: If the target is no run or checkpoint, or does not fit the config.
        DeviceError: If the device is not there.
    """
    reporter = reporter or Silent()
    checkpoint, own, run = locate(target, reporter.note, _LOADING)
    config = tested_config(own, overrides)
    if idle := [key for key in changes(own, config) if key.startswith(("tasks.", "evaluation."))]:
        raise UsageError(f"a prediction is about tasks of your own, for which these say nothing: {', '.join(idle)}")
    experiment = make_experiment(config, checkpoint.record)
    check_size(checkpoint, experiment.method.num_params * len(config.seeds))
    check_fits(checkpoint, experiment.initial_state(torch.device("cpu")).params)
    device, chosen = announce_device(config, reporter), checkpoint.chosen(config.run.keep)
    params = {name: theta.to(device) for name, theta in chosen.params.items()}
    left = checkpoint._replace(params={}, optimizer={}, best=None)
    return TrainedModel(experiment, params, chosen._replace(params={}), left, run)
