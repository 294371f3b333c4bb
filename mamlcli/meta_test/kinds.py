"""Results of each kind of tasks by itself, where a family has several."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Int64

from mamlcli.experiment import Experiment
from mamlcli.meta_test.measure import Losses, meta_test_list, rows_of
from mamlcli.rows import KindRow


def rows_by_kind(experiment: Experiment, losses: Losses, frozen: Mapping[int, int]) -> list[KindRow]:
    """Summarise the losses of the tasks of each kind, as `rows_of` does of all; no rows where tasks are of one kind.

    A kind of which there is no meta-test task has no row.
    """
    kinds = experiment.family.kinds
    if kinds is None:
        return []
    rows: list[KindRow] = []
    of_task = kinds.of(meta_test_list(experiment).numbers(0, experiment.num_test_tasks()))
    for index, name in enumerate(kinds.names):
        places = torch.from_numpy(np.flatnonzero(of_task == index))
        if len(places) == 0:
            continue
        own = {
            shots: {predictor: values[:, places.to(values.device)] for predictor, values in found.items()}
            for shots, found in losses.items()
        }
        rows += [{"kind": name, "num_tasks": len(places), **row} for row in rows_of(experiment, own, frozen)]
    return rows


def first_of_each_kind(experiment: Experiment, count: int) -> dict[int, str]:
    """Up to so many meta-test tasks, the first of each kind: their places in the list, rising, and kinds."""
    kinds = experiment.family.kinds
    assert kinds is not None, "tasks are of several kinds"
    of_task: Int64[np.ndarray, " tasks"] = kinds.of(meta_test_list(experiment).numbers(0, experiment.num_test_tasks()))
    _, firsts = np.unique(of_task, return_index=True)
    return {int(place): kinds.names[of_task[place]] for place in sorted(firsts)[:count]}
