"""What differentiating one chunk of tasks holds: weights and activations of each, or the workspace of the kernel.

The factors count what is alive at the peak, measured in tensors (`tests/test_memory.py` measures them again): numbers
times the parameters of a model, and times the units of its layers for each sample.
"""

import torch

from mamlcli.compute.plan import Plan
from mamlcli.experiment import PRE_ADAPT_NUMBERS, Experiment
from mamlcli.memory.parts import Part, lowerable
from mamlcli.methods.method import Descent, Footprint, Method, descent_footprint
from mamlcli.models.model import Layers, Model

FLOAT_BYTES = 4

# What differentiating an activation keeps: a ReLU its output, most others their input too. Of other models than MLPs
# both are counted already.
_KEPT = {"relu": 1.0, "tanh": 1.4, "sigmoid": 1.4}
_KEPT_OF_OTHERS = 2.0
# Bytes that autograd records of an inner step for each tensor of parameters, beside tensors: of a gradient that is
# differentiated again, of one that is not, and of a low-rank update for each pair of steps.
_RECORD_SECOND, _RECORD_FIRST, _RECORD_PAIR = 20_000, 650, 8_000
# The parameters and the gradient of a task whose gradient is clamped by itself, as so many times the parameters.
_OF_ITS_OWN = 3.0
# Bytes of a vector register, of which the kernel's numbers are made.
_LANE_BYTES = {"AVX512": 64, "AVX2": 32}
_SHORTEST_LANE_BYTES = 16


def meta_step_parts(experiment: Experiment, plan: Plan) -> tuple[Part, ...]:
    """Estimate what a chunk of tasks holds."""
    config, method, model = experiment.config, experiment.method, experiment.model

    def keys(*names: str) -> tuple[str, ...]:
        return lowerable(config, *names, task_chunk=plan.chunk)

    shots = ("tasks.support_shots", "tasks.query_shots", "algorithm.unlabelled_inputs")
    sizes = ("model", "algorithm.inner_steps")
    if plan.form == "fused":
        size = max(_workspace_bytes(experiment, plan), _pre_adapt_bytes(experiment))
        return (Part("the workspace of the fused kernel", size, keys(*sizes, *shots, "engine.threads")),)
    whole = plan.chunk >= config.outer.meta_batch_size
    together = ("seeds", "outer.meta_batch_size" if whole else "engine.task_chunk")
    scale, support, query = (
        FLOAT_BYTES * len(config.seeds) * plan.chunk,
        config.tasks.support_shots,
        config.tasks.query_shots,
    )
    if plan.form == "low_rank":
        assert method.descent is not None
        held = Footprint(0, _low_rank_passes(method.descent, support, query))
        overlaps = _overlaps(method.descent, model.num_tensors // 2, support, query)
    else:
        held, overlaps = footprint_of(method, support, query), 0.0
        if config.outer.max_task_grad is not None:
            held = held._replace(weights=held.weights + _OF_ITS_OWN)
    activations = int(scale * (activation_units(model) * held.samples + overlaps))
    return (
        Part("one meta-step's adapted weights", int(scale * held.weights * method.num_params), keys(*sizes, *together)),
        Part(
            "one meta-step's activations",
            max(activations, _pre_adapt_bytes(experiment)),
            keys(*shots, *sizes, *together),
        ),
        Part(
            "what autograd records of the inner steps",
            _record_bytes(experiment, plan),
            keys("algorithm.inner_steps"),
            on_device=False,
        ),
    )


def footprint_of(method: Method, support_shots: int, query_shots: int) -> Footprint:
    """What a task holds; of a method that does not say it, what second-order MAML of as many steps would."""
    if method.footprint is not None:
        return method.footprint(support_shots, query_shots)
    slots = support_shots + method.unlabelled_inputs
    held = descent_footprint(max(1, method.inner_steps), method.order or "second", slots, query_shots)
    return held if method.holds_copies else held._replace(weights=0)


def activation_units(model: Model) -> float:
    """Units of a model and an error, each counted as often as its activation is kept."""
    layers = model.layers
    if layers is None:
        return model.num_units + 1
    return (sum(layers.sizes[1:]) + 1) * _KEPT.get(layers.activation, _KEPT_OF_OTHERS)


def _pre_adapt_bytes(experiment: Experiment) -> int:
    """Activations of samples before adaptation, as `Experiment.pre_adapt_loss` measures them at logged steps."""
    config = experiment.config
    of_task = experiment.units_of_task() * len(config.seeds)
    # Of one task at least.
    return int(1.5 * FLOAT_BYTES * min(max(PRE_ADAPT_NUMBERS, of_task), of_task * config.outer.meta_batch_size))


def _low_rank_passes(descent: Descent, support: int, query: int) -> float:
    """Samples of a task whose activations are held at once, where its weights are the factors of their change.

    Every later step adds them up.
    """
    steps = descent.inner_steps
    kept = 2.2 * steps + 0.5 * steps**2 if descent.course.order == "second" else 2 * steps
    return kept * support + 2.7 * max(support if steps else 0, query)


def _overlaps(descent: Descent, num_layers: int, support: int, query: int) -> float:
    """Products of a task's samples with each other, which low-rank updates make at every layer and step."""
    steps = descent.inner_steps
    inner, outer = (support**2 if steps > 1 else 0), (support * query if steps else 0)
    if descent.course.order == "first":
        return 3 * max(inner, outer)
    return num_layers * steps * (outer + 0.9 * inner * (steps - 1)) + 1.3 * max(inner, outer)


def _record_bytes(experiment: Experiment, plan: Plan) -> int:
    method, tensors = experiment.method, experiment.model.num_tensors
    steps = method.unrolled_steps
    if method.order != "second":
        return _RECORD_FIRST * tensors * steps
    return tensors * (_RECORD_PAIR * steps**2 // 2 if plan.form == "low_rank" else _RECORD_SECOND * steps)


def _workspace_bytes(experiment: Experiment, plan: Plan) -> int:
    """What each thread has, and the state before a block of steps.

    Of a thread that is the `Workspace` of compute/fused/groups.h, and the sums of a part of the tasks.
    """
    config, method, layers = experiment.config, experiment.method, experiment.model.layers
    descent, support, query = method.descent, config.tasks.support_shots, config.tasks.query_shots
    assert descent is not None
    assert layers is not None
    query += support if descent.on_all_samples else 0
    has_own_rates = (descent.rates, descent.adapts) != (None, "all")
    weights = (method.inner_steps + 2 + has_own_rates) * experiment.model.num_params
    samples = (method.inner_steps + 1) * support + query
    vectors = weights + method.num_learned + max(method.num_learned, 1)
    vectors += (2 if layers.activation == "relu" else 4) * samples * _units(layers)
    vectors += (support + query) * layers.sizes[-1]
    lanes = _LANE_BYTES.get(torch.backends.cpu.get_cpu_capability(), _SHORTEST_LANE_BYTES)
    learned, seeds = experiment.model.num_params + method.num_learned, len(config.seeds)
    at_a_time = min(seeds, -(-lanes // config.outer.meta_batch_size) + 1)  # those that four vectors can hold tasks of
    vectors += -(-FLOAT_BYTES * (at_a_time + 1) * (learned + 2) // lanes)
    joined = config.outer.meta_batch_size * query * (layers.sizes[0] + layers.sizes[-1]) * descent.on_all_samples
    kept = seeds * (FLOAT_BYTES * (3 * learned + joined) + 9)
    groups = -(-config.outer.meta_batch_size * FLOAT_BYTES // lanes) if plan.is_waiting and plan.threads > 1 else 0
    slots = min(4 * -(-groups // 4), 128) * FLOAT_BYTES * (learned + 2)  # of which the threads of a seed have the sums
    return plan.threads * lanes * vectors + slots + kept


def _units(layers: Layers) -> int:
    return sum(layers.sizes)
