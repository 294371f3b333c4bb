"""A trained run as a value that adapts to tasks of a user's own.

>>> import mamlcli
>>> model = mamlcli.load("outputs/my-run")               # doctest: +SKIP
>>> predict = model.adapt(x, y, steps=10)                # doctest: +SKIP
>>> predict(x_new), predict.spread(x_new)                # doctest: +SKIP
"""

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsIndex, cast

import numpy as np
import torch

from mamlcli.best import Chosen
from mamlcli.config.experiment import Config
from mamlcli.errors import Remedy, UsageError
from mamlcli.experiment import Experiment
from mamlcli.runs.checkpoints import Checkpoint
from mamlcli.runs.folder import RunFolder
from mamlcli.tables.table import Table, has_pandas
from mamlcli.tasks.family import Columns, column_names
from mamlcli.tasks.samples import Samples
from mamlcli.trained.adapting import adapt_seeds, from_model, predict_seeds, to_model, units_of, with_unlabelled
from mamlcli.trained.arrays import Array, Numbers, read_array
from mamlcli.types import Params

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False, eq=False)
class TrainedModel:
    """All seeds of a trained run; `load` makes one."""

    experiment: Experiment
    params: Params
    """Meta-parameters, name -> (S, ...), on the device where it predicts."""
    chosen: Chosen
    """Which of the checkpoint's they are, and from which step each seed's; its own tensors are left out."""
    checkpoint: Checkpoint
    """Where they come from; its own tensors are left out."""
    run: RunFolder | None
    """The folder that it was loaded from; None where a checkpoint file was named."""

    @property
    def config(self) -> Config:
        """The experiment."""
        return self.experiment.config

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in the order of the first axis of what they say."""
        return self.config.seeds

    @property
    def columns(self) -> Columns:
        """The names of the task, of the inputs and of the targets, in the order of their columns."""
        return column_names(self.experiment.family)

    @property
    def device(self) -> torch.device:
        """Where it predicts."""
        return next(iter(self.params.values())).device

    @property
    def default_steps(self) -> int:
        """Inner steps where none are named.

        As many as in meta-training; where nothing adapts there, as many as a meta-test measures.
        """
        return self.experiment.method.inner_steps or self.config.evaluation.inner_steps

    def adapt(self, x: Array, y: Array, steps: SupportsIndex | None = None) -> "Predictor":
        """Adapt every seed to one task.

        Args:
            x: The task's support inputs, in the unit of the data that the run was trained on: (K, inputs), or (K,) of
                one input. A NumPy array, a tensor or a list.
            y: Their targets: (K, outputs), or (K,) of one target.
            steps: Inner steps, >= 0; None for `default_steps`.

        Returns:
            What predicts, in the same units.

        Raises:
            UsageError: If the shapes are others, the numbers not finite, or K is not what the method can adapt to.
        """
        inputs, targets = read_array(x, "x", self.columns.inputs), read_array(y, "y", self.columns.targets)
        if len(inputs.values) != len(targets.values):
            raise UsageError(f"x and y must have as many rows, got {len(inputs.values)} and {len(targets.values)}")
        return adapt_to(self, inputs.values, targets.values, checked_steps(self, steps), is_flat=targets.is_flat)

    def metrics(self) -> "pd.DataFrame":
        """What was logged along the training: a row for each seed and logged step, as in metrics.jsonl.

        Returns:
            A pandas frame, with `step` and `seed` as int64 and losses as float64, NaN where one is not finite. Where
            pandas is not there, a `mamlcli.Table` of the same rows.

        Raises:
            UsageError: If a checkpoint file was loaded, which has none.
            CheckpointError: If the file cannot be read.
        """
        if self.run is None:
            raise UsageError("a checkpoint file holds no metrics; load the folder of its run")
        table = Table(self.run.metrics.read())
        return table.to_pandas() if has_pandas() else cast("pd.DataFrame", table)

    def __repr__(self) -> str:
        return f"TrainedModel({self.experiment.method.title}, {self.checkpoint.path}, seeds {list(self.seeds)})"


@dataclass(frozen=True, repr=False, eq=False)
class Predictor:
    """All seeds of a run, adapted to one task; `TrainedModel.adapt` makes one.

    It predicts row by row, but where the method wants inputs without a target (as a chain does, whose teacher labels
    them): it takes them from the inputs that are asked for together, evenly, or again and again where they are fewer.
    """

    model: TrainedModel
    support: Samples
    """In the units of each seed's model, (S, K, ...)."""
    steps: int
    where: str
    """Which task, for messages; may be empty."""
    is_flat: bool
    """Whether predictions are one number a row."""
    adapted: Params | None
    """The parameters of what predicts, name -> (S, ...); None where it depends on what is asked."""

    def __call__(self, x_new: Array) -> Array:
        """Predict: the mean over seeds.

        Args:
            x_new: Inputs in the user's unit: (Q, inputs), or (Q,) of one input.

        Returns:
            Predictions in the user's unit: (Q,) if the y that it adapted to was (K,), and (Q, outputs) else. A tensor
            where x_new is one, on its device, and a NumPy array else; of the type of x_new, or float64.

        Raises:
            UsageError: If the shape is another, or numbers are not finite, of x_new or of the predictions.
        """
        return self._said(x_new, lambda said: said.mean(axis=0))

    def per_seed(self, x_new: Array) -> Array:
        """What each seed predicts: (S, Q) or (S, Q, outputs), and else as a call."""
        return self._said(x_new, lambda said: said)

    def spread(self, x_new: Array) -> Array:
        """The standard deviation of predictions over seeds, with S - 1 below the line; shapes and errors as of a call.

        Raises:
            UsageError: Also if there is but one seed.
        """
        if len(self.model.seeds) == 1:
            raise UsageError("the spread over seeds needs several of them; this run has one")
        return self._said(x_new, lambda said: said.std(axis=0, ddof=1))

    def _said(self, x_new: Array, summary: Any) -> Array:
        given = read_array(x_new, "x_new", self.model.columns.inputs)
        said = summary(predict_at(self, predictor_for(self, given.values), given.values))
        handed_back = given.handed_back(said[..., 0] if self.is_flat else said)
        if not bool(np.isfinite(handed_back).all() if given.device is None else torch.isfinite(handed_back).all()):
            raise UsageError(f"predictions do not fit into {given.dtype}; pass x_new as float64")
        return handed_back

    def __repr__(self) -> str:
        return f"Predictor({self.model!r}, K = {self.support.x.shape[1]}, {self.steps} steps)"


def checked_steps(trained: TrainedModel, steps: SupportsIndex | None) -> int:
    """How many inner steps are meant.

    Raises:
        UsageError: If it is no whole number from 0 on.
    """
    if steps is None:
        return trained.default_steps
    try:
        count = -1 if isinstance(steps, bool) else operator.index(steps)
    except TypeError:
        count = -1
    if count < 0:
        raise UsageError(f"steps must be a whole number from 0 on, got {steps!r}")
    return count


def adapt_to(
    trained: TrainedModel, x: Numbers, y: Numbers, steps: int, *, is_flat: bool = False, where: str = ""
) -> Predictor:
    """Adapt every seed to checked rows (K, inputs) and (K, outputs); `where` says in messages which task it is."""
    experiment, shots = trained.experiment, len(x)
    check_shots(experiment, shots, where)
    units = units_of(experiment)
    support = Samples(
        _tensor(trained, to_model(x, units.x_mean, units.x_scale), f"{where}an input"),
        _tensor(trained, to_model(y, units.y_mean, units.y_scale), f"{where}a target"),
    )
    unlabelled = experiment.method.unlabelled_inputs
    adapted = None if unlabelled else adapt_seeds(experiment, trained.params, support, steps)
    return Predictor(trained, support, steps, where, is_flat, adapted)


def check_shots(experiment: Experiment, shots: int, where: str = "") -> None:
    """Refuse a K that the method cannot adapt to."""
    method, trained = experiment.config.algorithm, experiment.config.tasks.support_shots
    if (misfit := method.misfit(trained, (shots,))) is None:
        return
    if method.misfit(trained, (trained,)) is None:
        misfit = (
            f"a {experiment.method.title} adapts to as many support samples of a task as it was trained with, "
            f"{trained}; got {shots}"
        )
    raise UsageError(f"{where}{misfit}")


def predictor_for(predictor: Predictor, x: Numbers) -> Params:
    """The parameters of what predicts rows (Q, inputs), name -> (S, ...)."""
    if predictor.adapted is not None:
        return predictor.adapted
    trained = predictor.model
    experiment = trained.experiment
    support = with_unlabelled(predictor.support, _inputs(predictor, x), experiment.method.unlabelled_inputs)
    return adapt_seeds(experiment, trained.params, support, predictor.steps)


def predict_at(predictor: Predictor, adapted: Params, x: Numbers) -> Numbers:
    """What each seed predicts of rows (Q, inputs), in the user's unit: (S, Q, outputs).

    Raises:
        UsageError: If one is not finite.
    """
    trained, found = predictor.model, predict_seeds_at(predictor, adapted, x)
    finite = [bool(np.isfinite(values).all()) for values in found]
    if lost := [seed for seed, is_finite in zip(trained.seeds, finite, strict=True) if not is_finite]:
        raise UsageError(
            f"{predictor.where}predictions of seed {', '.join(map(str, lost))} are not finite after {predictor.steps} "
            "inner steps",
            Remedy("pass a smaller steps=", "use fewer: --steps N"),
        )
    return found


def predict_seeds_at(predictor: Predictor, adapted: Params, x: Numbers) -> Numbers:
    """The same whether or not it is finite."""
    experiment, units = predictor.model.experiment, units_of(predictor.model.experiment)
    said = predict_seeds(experiment, adapted, _inputs(predictor, x)).double().cpu().numpy()
    return from_model(said, units.y_mean, units.y_scale)


def _inputs(predictor: Predictor, x: Numbers) -> torch.Tensor:
    units = units_of(predictor.model.experiment)
    return _tensor(predictor.model, to_model(x, units.x_mean, units.x_scale), f"{predictor.where}an input")


def _tensor(trained: TrainedModel, values: Numbers, what: str) -> torch.Tensor:
    """Numbers in the model's unit as it computes them."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    if not np.isfinite(single).all():
        raise UsageError(f"{what} is too large for float32 in the unit that the model sees")
    return torch.from_numpy(single).to(trained.device)
