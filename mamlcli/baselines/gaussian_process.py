"""A Gaussian process for each task: what a careful person fits to a few rows who has no other tasks.

The kernel is c * RBF, with a length scale of its own for every input, + white noise; c, the scales and the noise
maximise the marginal likelihood of the task's support set (Rasmussen and Williams 2006, chapter 5). It is the one of
scikit-learn, an extra of this package.
"""

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mamlcli.baselines.predictors import Fit, Predictor, mean_target
from mamlcli.tasks.samples import Samples

MISSING = "pip install 'mamlcli[gp]'"
"""What to do where it is not there."""
# From the start and from one random place: each costs as much again, and a second hardly changes anything.
_RESTARTS = 1


def gaussian_process(look: Callable[[], None]) -> Fit | None:
    """Build the baseline, each task and target by itself; None where scikit-learn is not installed.

    Args:
        look: Called before each task; it may raise to stop.
    """
    if find_spec("sklearn") is None:
        return None

    def fit(train: Samples, shots: int) -> Predictor:  # noqa: ARG001
        pooled = mean_target(train.y).numpy()

        def predict(support: Samples, query_x: Tensor) -> Tensor:
            said = np.empty((*query_x.shape[:2], len(pooled)))
            arrays = [part.double().numpy() for part in (*support, query_x)]
            for task, (x, y, query) in enumerate(zip(*arrays, strict=True)):
                look()
                for target, fallback in enumerate(pooled):
                    there = ~np.isnan(y[:, target])
                    some = there.any()
                    said[task, :, target] = posterior_mean(x[there], y[there, target], query) if some else fallback
            return torch.from_numpy(said).unsqueeze(0)

        return predict

    return fit


def posterior_mean(
    x: Float[np.ndarray, "shots features"], y: Float[np.ndarray, " shots"], query_x: Float[np.ndarray, "query features"]
) -> Float[np.ndarray, " query"]:
    """Fit to the rows of a task, and say the posterior mean at query inputs."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # With so few rows, scales at the end of their range are the rule, and no news.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(_regressor(x.shape[1]).fit(x, y).predict(query_x))


def _regressor(num_inputs: int) -> Any:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    kernel = ConstantKernel(1.0, (1e-3, 1e3)) * RBF(np.ones(num_inputs), (1e-2, 1e3)) + WhiteKernel(0.1, (1e-6, 10.0))
    return GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=_RESTARTS, random_state=0)
