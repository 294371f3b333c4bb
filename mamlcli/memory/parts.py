"""Parts of what is held, the keys that make them smaller, and the refusal of what does not fit."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from mamlcli.config.experiment import Config
from mamlcli.errors import DeviceError
from mamlcli.section import Section

# What `engine.task_chunk: auto` comes to in a small experiment.
_USUAL_CHUNK = 25


class Part(NamedTuple):
    """One thing that is held while others are."""

    name: str
    num_bytes: int
    keys: tuple[str, ...]
    """The keys of the config that make it smaller when they are lowered, the one that was raised most first."""
    on_device: bool = True
    """Whether it lies where the model does; the rest lies in the host's memory."""


class Estimate(NamedTuple):
    """What a phase of a command holds at its peak."""

    what: str
    parts: tuple[Part, ...]

    def total(self) -> int:
        """Bytes of all parts."""
        return sum(part.num_bytes for part in self.parts)


class Free(NamedTuple):
    """Bytes that are free; None where nobody can tell, and nothing is refused."""

    host: int | None
    device: int | None = None
    """Of a device with memory of its own."""
    device_name: str = ""
    """Of such a device; empty where the model lies in the host's memory."""


def check_fits(estimate: Estimate, free: Free) -> None:
    """Refuse what is larger than the memory that is free.

    Raises:
        DeviceError: See `shortage`.
    """
    if message := shortage(estimate, free):
        raise DeviceError(f"not enough memory: {message}")


def shortage(estimate: Estimate, free: Free) -> str | None:
    """Say what is needed and free, which part is the largest, and what to lower; None where it fits."""
    places = [(estimate.parts, free.host, "")]
    if free.device_name:
        there = [tuple(part for part in estimate.parts if part.on_device == on_device) for on_device in (True, False)]
        places = [(there[0], free.device, f" on {free.device_name}"), (there[1], free.host, " in the host's memory")]
    for parts, left, place in places:
        needed = sum(part.num_bytes for part in parts)
        if left is not None and needed > left:
            largest = max(parts, key=lambda part: part.num_bytes)
            *others, last = largest.keys or ("nothing, but take a larger machine",)
            keys = f"{', '.join(others)} or {last}" if others else last
            return (
                f"{estimate.what} needs about {readable(needed)}, and {readable(left)} are free{place}; the largest "
                f"part is {largest.name} ({readable(largest.num_bytes)}): lower {keys}"
            )
    return None


def readable(num_bytes: int) -> str:
    """Bytes in the unit that a person would take.

    >>> readable(3 * 2**39), readable(2**20), readable(0)
    ('1.5 TiB', '1.0 MiB', '0 B')
    """
    if num_bytes < 1024:
        return f"{num_bytes} B"
    power = min((num_bytes.bit_length() - 1) // 10, 6)
    return f"{num_bytes / 1024**power:,.1f} {' KMGTPE'[power]}iB"


def lowerable(config: Config, *candidates: str, task_chunk: int = 1) -> tuple[str, ...]:
    """Choose the keys that this experiment has and that can be lowered, the most times its default first.

    >>> lowerable(Config(name="a", seeds=(0, 1)), "seeds", "algorithm.inner_steps", "algorithm.beam_width", "model")
    ('model.hidden_sizes', 'seeds')

    Args:
        config: The experiment.
        candidates: Keys, and sections for all of their keys that are sizes. What the experiment's family, model or
            method does not have is left out.
        task_chunk: Tasks that are differentiated at a time.
    """
    sizes = {key: size for candidate in candidates for key, size in _sizes(config, candidate, task_chunk)}
    can_be = [key for key, (now, _) in sizes.items() if now > 1]
    return tuple(sorted(can_be, key=lambda key: -sizes[key][0] / sizes[key][1])) or tuple(sizes)


def _sizes(config: Config, candidate: str, task_chunk: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """Each key that a candidate stands for, with how large it is and how large it is by default."""
    if candidate == "engine.task_chunk":
        yield candidate, (task_chunk, _USUAL_CHUNK)
        return
    prefix, _, key = candidate.rpartition(".")
    section = getattr(config, prefix or candidate)
    if not isinstance(section, Section):
        section, keys = config, [key]
    else:
        keys, prefix = [key] if prefix else list(type(section).model_fields), f"{prefix or candidate}."
    for name in keys:
        field = type(section).model_fields.get(name)
        if field is not None and (now := _amount(name, getattr(section, name))):
            yield f"{prefix}{name}", (now, _amount(name, field.get_default(call_default_factory=True)) or 1)


def _amount(key: str, value: Any) -> int:
    """How large a size is: a whole number, or the sum of several; 0 for what is none."""
    if key == "seeds":
        return len(value)
    numbers = value if isinstance(value, tuple) else (value,)
    return sum(numbers) if all(type(number) is int for number in numbers) else 0
