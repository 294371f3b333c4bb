"""The run that is meant where none is named."""

from pathlib import Path

from mamlcli.errors import CheckpointError, Remedy
from mamlcli.runs.catalogue import find_runs, finished, newest_first
from mamlcli.runs.choosing import listed
from mamlcli.runs.folder import RunFolder
from mamlcli.runs.info import OUTPUTS


def latest_run(root: Path = OUTPUTS) -> RunFolder:
    """Find the run that finished last and is no part of a comparison or a reproduction.

    Raises:
        CheckpointError: If there is none; it names what there is.
    """
    found = find_runs(root)
    done = finished(found)
    if done:
        return RunFolder(done[0].path)
    if not found:
        one_first = "name one, or train one first"
        remedy = Remedy(f"{one_first}: mamlcli.train(config)", f"{one_first}: maml train quickstart")
        raise CheckpointError(f"no run found in {root}/", remedy)
    choose = "name the one to evaluate, or finish one"
    raise CheckpointError(
        "\n".join([f"no run in {root}/ has finished; there are:", *listed(newest_first(found))]),
        Remedy(f"{choose}: mamlcli.train(config, out=..., resume=True)", f"{choose}: maml train --resume RUN"),
    )
