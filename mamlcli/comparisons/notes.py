"""What is to be said of a comparison in words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mamlcli.comparisons.measured import Contest
from mamlcli.meta_test.protocol import steps_in_words
from mamlcli.rows import ComparedRun
from mamlcli.runs.loose import count, listing, mapping, text


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
    stacked = {name: others for name in contest.entrants if (others := _beside(contest, name))}
    for name, others in stacked.items():
        yield f"the time of {name} is that of a program that trained {others} other run{'s' * (others > 1)} too"
    if at_once := [name for name in _at_once(contest) if name not in stacked]:
        yield f"trained at the same time, which their times hold: {', '.join(at_once)}"
    machines = {_machine(contest, name) for name in contest.entrants} - {None}
    if len(machines) > 1:
        yield f"times were noted on different machines or threads: {'; '.join(sorted(map(str, machines)))}"


def _machine(contest: Contest, name: str) -> str | None:
    """What a run was trained on last."""
    sessions = _sessions(contest, name)
    if not sessions:
        return None
    last = sessions[-1]
    return f"{last.get('device')} ({last.get('device_name')}), {last.get('threads')} thread(s)"


def _beside(contest: Contest, name: str) -> int:
    """The most runs that were rows of the same program as this one."""
    return max((count(session.get("beside")) or 0 for session in _sessions(contest, name)), default=0)


def _at_once(contest: Contest) -> list[str]:
    """The runs of which a process worked while one did on another."""
    times = [
        (name, begun, ended)
        for name in contest.entrants
        for session in _sessions(contest, name)
        if (begun := text(session.get("started"))) and (ended := text(session.get("ended")))
    ]
    # Moments are in UTC and written alike, so that they sort as texts.
    return [
        name
        for name in contest.entrants
        if any(
            own == name != other and begun < later and since < ended
            for own, begun, ended in times
            for other, since, later in times
        )
    ]


def _sessions(contest: Contest, name: str) -> list[dict[str, Any]]:
    """The processes that worked on a run."""
    run = contest.entrants[name].run
    return [] if run is None else [mapping(session) for session in listing(run.read_info().get("sessions"))]
