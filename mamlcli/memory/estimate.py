"""What each phase of a command holds at its peak: within a factor of two, and mostly within a quarter."""

from collections.abc import Sequence

from mamlcli.compute.plan import Plan
from mamlcli.experiment import Experiment
from mamlcli.memory.meta_step import FLOAT_BYTES, activation_units, meta_step_parts
from mamlcli.memory.parts import Estimate, Part, lowerable
from mamlcli.tasks.numbers import Split

# How many numbers an optimiser of torch.optim holds of each parameter.
_MOMENTS = {
    "adam": 2,
    "adamw": 2,
    "nadam": 2,
    "radam": 2,
    "adamax": 2,
    "adagrad": 1,
    "rmsprop": 1,
    "sgd": 0,
    "momentum": 1,
}
# Of an update that is not fused: gradients, the same in a row for each seed, the parameters as they were before, and
# two temporaries of the optimiser; the first two may be there while a chunk is differentiated.
_UPDATE_COPIES, _GRADIENT_COPIES = 5, 2
# Checks in double precision hold so many times what a meta-step in single precision does; those of the kernel have
# fewer copies.
_CHECKED, _CHECKED_KERNEL = 4, 2
# Copies in float32 numbers that statistics of losses hold, in double precision: of one seed, and of several, whose
# variance is analysed; and of two sets and their paired differences.
_SUMMARISED, _PAIRED = (2.5, 7.0), (4.0, 9.0)
# A row of a table, with its text in JSON.
_ROW_BYTES = 4_000
# Meta-test tasks that are adapted at a time: between them a signal is heard, and memory is free for the next.
_TASKS_AT_A_TIME, _TASKS_BYTES = 2000, 2**32


def training_estimate(experiment: Experiment, plan: Plan, *, orders_compared: bool = False) -> Estimate:
    """Estimate what training holds.

    Args:
        experiment: What is trained; in second order where orders are compared.
        plan: How it is computed.
        orders_compared: Whether two train side by side, whose meta-gradients are compared without acceleration.
    """
    config = experiment.config
    flat, moments, states = _flat_bytes(experiment), _MOMENTS[config.outer.optimizer], 1
    fused, step = plan.form == "fused", meta_step_parts(experiment, plan)
    if orders_compared:
        states, step = 2, max(step, meta_step_parts(experiment, _plain(experiment, plan)), key=_total)
    # A checkpoint is a copy of all that is trained, made when nothing else is.
    after = (1 + moments) * flat if fused else max(_UPDATE_COPIES, 1 + moments) * flat
    copies = max(after - _total(step), 0 if fused else _GRADIENT_COPIES * flat)
    keys = _parameter_keys(experiment)
    parts = (
        Part("the parameters and their gradients", states * 2 * flat, keys),
        Part("the optimiser's state", states * moments * flat, keys),
        Part("copies of them in an update and for a checkpoint", copies, keys),
        *step,
        _block_of_tasks(experiment, steps=config.outer.steps),
    )
    if config.evaluation.every_steps:
        parts += (
            Part("the best parameters so far", states * flat, keys),
            # Of runs that are trained side by side, one after the other is measured.
            *_validation_parts(next(iter(experiment.members), experiment), held=copies + _total(step)),
        )
    return Estimate("training", parts)


def _validation_parts(experiment: Experiment, *, held: int) -> tuple[Part, ...]:
    """The meta-validation tasks that are adapted at a time, less what a meta-step holds at another time."""
    config, count = experiment.config, tasks_at_a_time(experiment, "meta-validation")
    adapted, drawn = (int(count * num_bytes) for num_bytes in _bytes_of_test_task(experiment, "meta-validation"))
    points = ("evaluation.grid" if config.evaluation.grid else "evaluation.query_shots", "tasks.support_shots")
    keys = lowerable(config, *points, "evaluation.tasks", "algorithm.inner_steps", "model", "seeds")
    return (
        Part("adapted weights and activations of the meta-validation", max(0, adapted - held), keys),
        Part("the meta-validation tasks", drawn, lowerable(config, *points, "evaluation.tasks"), on_device=False),
    )


def one_step_estimate(experiment: Experiment, plan: Plan) -> Estimate:
    """Estimate what one meta-step without an update holds, which is not compiled."""
    eager = plan._replace(form="dense") if plan.form == "fused" else plan
    flat = _flat_bytes(experiment)
    return Estimate(
        "one meta-step",
        (
            Part("the parameters and their gradients", 5 * flat, _parameter_keys(experiment)),
            *meta_step_parts(experiment, eager),
            _block_of_tasks(experiment, steps=1),
        ),
    )


def checks_estimate(experiment: Experiment, plan: Plan) -> Estimate:
    """Estimate what checks of a meta-gradient hold: all tasks at once in double precision, and what is compared.

    Args:
        experiment: What is checked; in second order where it has one.
        plan: How it is computed.
    """
    return _times(_CHECKED, one_step_estimate(experiment, _plain(experiment, plan)))


def kernel_checks_estimate(experiment: Experiment, plan: Plan) -> Estimate:
    """Estimate what checks of the kernel hold beside it: chunks of tasks in double precision."""
    return _times(_CHECKED_KERNEL, one_step_estimate(experiment, plan))


def tasks_at_a_time(experiment: Experiment, split: Split = "meta-test") -> int:
    """How many meta-test or meta-validation tasks are adapted at a time.

    It follows from the config and not from what is free: how many tasks are computed together can change the last bit
    of a loss.
    """
    most = max(1, int(_TASKS_BYTES // sum(_bytes_of_test_task(experiment, split))))
    return min(experiment.num_test_tasks(split), _TASKS_AT_A_TIME, most)


def meta_test_estimate(experiment: Experiment, *, orders_compared: bool = False) -> Estimate:
    """Estimate what a meta-test holds.

    Args:
        experiment: What is tested.
        orders_compared: Whether two sets of parameters are tested, and their losses compared task by task.
    """
    config, count = experiment.config, tasks_at_a_time(experiment)
    test, seeds, states = config.evaluation, len(config.seeds), 2 if orders_compared else 1
    # What a checkpoint holds, with what training began with and a copy.
    copies_of_best = 2 if test.every_steps else 0  # in the checkpoint, and as they are chosen
    params = states * (3 + copies_of_best + _MOMENTS[config.outer.optimizer]) * _flat_bytes(experiment)
    adapted, drawn = (int(count * num_bytes) for num_bytes in _bytes_of_test_task(experiment, "meta-test"))
    # All losses, and what their statistics hold of one K.
    copies = states * len(test.shots) + (_PAIRED if orders_compared else _SUMMARISED)[seeds > 1]
    losses = int(FLOAT_BYTES * copies * seeds * experiment.num_test_tasks() * (test.inner_steps + 1))
    rows = states * _ROW_BYTES * (seeds + 1) * (test.inner_steps + 1) * len(test.shots)
    points = ("evaluation.grid" if test.grid else "evaluation.query_shots", "evaluation.shots")
    table = ("evaluation.inner_steps", "seeds")
    return Estimate(
        "the meta-test",
        (
            Part("the parameters and the optimiser's state", params, _parameter_keys(experiment)),
            Part("adapted weights and activations", adapted, lowerable(config, *points, "model", "seeds")),
            Part("the tasks", drawn, lowerable(config, *points), on_device=False),
            Part("the losses", losses, lowerable(config, "evaluation.tasks", *table), on_device=False),
            Part("the rows of the table", rows, lowerable(config, *table), on_device=False),
        ),
    )


def _plain(experiment: Experiment, plan: Plan) -> Plan:
    """The plan without acceleration: all tasks at once, with their weights."""
    return plan._replace(form="dense", chunk=experiment.config.outer.meta_batch_size)


def _times(factor: int, one: Estimate) -> Estimate:
    return Estimate("checking", tuple(part._replace(num_bytes=factor * part.num_bytes) for part in one.parts))


def _bytes_of_test_task(experiment: Experiment, split: Split) -> tuple[float, float]:
    """What a task of the meta-test or of the meta-validation holds as all seeds adapt to it, and as it is drawn."""
    test, method = experiment.config.evaluation, experiment.method
    support, unlabelled, steps = max(test.shots), method.unlabelled_inputs, test.inner_steps
    if split == "meta-validation":
        support, steps = experiment.config.tasks.support_shots, method.inner_steps
    query = test.grid or test.query_shots
    weights = 0 if steps == 0 else (2 + min(steps, 2)) * method.num_params
    samples = max(1.5 * query, 2.6 * max(support, unlabelled) if steps else 0)
    numbers = weights + samples * activation_units(experiment.model) + 2 * (steps + 1)
    drawn = (support + unlabelled + query) * _numbers_of_drawn_sample(experiment)
    return FLOAT_BYTES * len(experiment.config.seeds) * numbers, FLOAT_BYTES * drawn


def _block_of_tasks(experiment: Experiment, *, steps: int) -> Part:
    """The tasks of as many meta-steps as are drawn at a time, with those before, which stay until then."""
    config, block = experiment.config, experiment.stream().steps_at_a_time
    seeds, numbers = len(config.seeds), experiment.family.num_inputs + experiment.family.num_outputs
    shots = config.tasks.support_shots + config.tasks.query_shots + experiment.method.unlabelled_inputs
    samples = config.outer.meta_batch_size * shots * min(block, steps)
    before = 1 if block < steps else 0
    # As the seeds are stacked, all are there twice; as the last seed is drawn, it is there in double precision.
    held = max((before + 2) * numbers * seeds, (before + 1) * numbers * seeds + _numbers_of_drawn_sample(experiment))
    shots_keys = ("tasks.support_shots", "tasks.query_shots", "algorithm.unlabelled_inputs")
    keys = lowerable(config, "outer.meta_batch_size", *shots_keys, "seeds")
    return Part("the tasks of a meta-step", FLOAT_BYTES * samples * held, keys, on_device=False)


def _numbers_of_drawn_sample(experiment: Experiment) -> int:
    """In float32 numbers: inputs and target in double precision, what they are computed from, and the result."""
    return 2 * experiment.family.num_inputs + 5 * experiment.family.num_outputs


def _flat_bytes(experiment: Experiment) -> int:
    """All meta-parameters of all seeds: of the models, and what else is learned."""
    method = experiment.method
    numbers = max(experiment.model.num_params, method.num_params + method.num_learned)
    return FLOAT_BYTES * len(experiment.config.seeds) * numbers


def _parameter_keys(experiment: Experiment) -> tuple[str, ...]:
    per_step = ("algorithm.inner_steps",) if experiment.method.num_learned > experiment.method.num_params else ()
    return lowerable(experiment.config, "model", "seeds", *per_step)


def _total(parts: Sequence[Part]) -> int:
    return sum(part.num_bytes for part in parts)
