"""What is to be said of a comparison in words."""

from collections.abc import Iterator, Mapping, Sequence

from mamlcli.comparisons.measured import Contest
from mamlcli.meta_test.protocol import steps_in_words
from mamlcli.rows import ComparedRun
from mamlcli.runs.loose import listing, mapping


def notes_of(contest: Contest, runs: Sequence[ComparedRun], failed: Mapping[str, str]) -> list[str]:
    """What a reader of the table has to know: what was left out, tested again, not finished, or is not comparable.

    Args:
        contest: What was compared.
        runs: Its runs.
        failed: By name, why an experiment could not be trained.
    """
    said = [f"{name} is missing, since it could not be trained: {reason}" for name, reason in failed.items()]
    for run in runs:
        said += _of_run(contest, run)
    return [*said, *_of_cost(contest, runs)]


def _of_run(contest: Contest, run: ComparedRun) -> Iterator[str]:
    name, steps = run["run"], contest.entrants[run["run"]].own.outer.steps
    if run["tested_otherwise"]:
        settings = ", ".join(run["tested_otherwise"])
        as_what = "as was set here" if name == contest.baseline else f"as {contest.baseline} is"
        yield f"{name} was tested again, {as_what}: its own meta-test has {settings}"
    if run["seeds_left_out"]:
        yield f"{name}: left out, since not all runs have them: seeds {', '.join(map(str, run['seeds_left_out']))}"
    if run["outer_steps"] < steps:
        yield f"{name} is not trained to its end: step {run['outer_steps']} of {steps}"
    if run["seeds_diverged"]:
        seeds = ", ".join(map(str, run["seeds_diverged"]))
        yield f"{name}: diverged in training, and counted with the parameters they kept: seeds {seeds}"
    if run["parameters"] == "best":
        yield f"{name}: least meta-validation loss, {steps_in_words(run['parameter_steps'])}"


def _of_cost(contest: Contest, runs: Sequence[ComparedRun]) -> Iterator[str]:
    """Why times and memory may not compare."""
    if len({len(run["seeds"]) for run in runs}) > 1:
        yield "times and memory are of all seeds of a run, of which not all have as many"
    machines = {_machine(contest, name) for name in contest.entrants} - {None}
    if len(machines) > 1:
        yield f"times were noted on different machines or threads: {'; '.join(sorted(map(str, machines)))}"


def _machine(contest: Contest, name: str) -> str | None:
    """What a run was trained on last."""
    run = contest.entrants[name].run
    sessions = [] if run is None else listing(run.read_info().get("sessions"))
    if not sessions:
        return None
    last = mapping(sessions[-1])
    return f"{last.get('device')} ({last.get('device_name')}), {last.get('threads')} thread(s)"
