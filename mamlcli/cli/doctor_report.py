"""What `maml doctor` prints: one screen."""

import textwrap
from typing import TYPE_CHECKING

from mamlcli.cli.tables import WIDTH
from mamlcli.escaping import shorten, visible

if TYPE_CHECKING:
    from mamlcli.results import Doctor
    from mamlcli.rows import DeviceFound

_MARK, _LABEL = 7, 12
_FREE = 2**30


def doctor_report(found: "Doctor") -> str:
    """Say what there is, with a mark for what works, what may be missed and what is broken."""
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    extras = [f"{name} {'there' if is_here else 'not installed'}" for name, is_here in found.extras.items()]
    lines = [
        *_line("ok", "versions", versions),
        *(_line("ok" if all(found.extras.values()) else "-", "extras", ", ".join(extras)) if extras else []),
        *_line("ok", "cores", _cores(found)),
        *(line for one in found.devices for line in _device(one)),
        *_compiler(found),
        *_kernel(found),
        *_space(found),
        *_choice(found),
    ]
    lines += [line for problem in found.problems for line in _line("fails", "", problem)]
    lines += [line for warning in found.warnings for line in _line("warn", "", warning)]
    return "\n".join([*lines, "", "everything works" if found.works else "not everything works"])


def _line(mark: str, label: str, text: str) -> list[str]:
    """A mark, what it is of, and the rest, wrapped under itself."""
    head = f"{mark:<{_MARK}}{label:<{_LABEL}}"
    return textwrap.wrap(
        visible(text), WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_long_words=False
    )


def _cores(found: "Doctor") -> str:
    cores = found.cores
    others = cores["used_by_others"]
    said = [f"{cores['usable']} usable, {cores['name']}"]
    said += [f"others use {others:.1f} of them now"] if others is not None else []
    said += [f"load {' '.join(f'{one:.1f}' for one in cores['load'])}"] if cores["load"] else []
    return "; ".join(said)


def _device(one: "DeviceFound") -> list[str]:
    if one["name"] is None:
        return _line("-", one["device"], "not there")
    error = one["double_backward_error"]
    tried = "a meta-gradient cannot be computed" if error is None else f"a meta-gradient is off by {error:.0e}"
    return _line("ok" if one["works"] else "fails", one["device"], f"{one['name']}; {tried} of its closed form")


def _compiler(found: "Doctor") -> list[str]:
    if found.compiler is None:
        return _line("warn", "compiler", "none: experiments run uncompiled")
    alone = "" if found.compiler["graphs"] else "; builds the kernel alone: for graphs, install g++ or clang++"
    return _line("ok", "compiler", f"{found.compiler['command']}: {found.compiler['version']}{alone}")


def _kernel(found: "Doctor") -> list[str]:
    kernel = found.kernel
    if kernel["path"] is None:
        return []  # a warning says why
    kept = "kept" if kernel["was_kept"] else "built just now"
    error = "not tried" if kernel["error"] is None else f"its gradient is off by {kernel['error']:.0e} of torch's"
    said = f"{kept} ({kernel['num_bytes'] / 1024:.0f} KiB), {error}"
    return [*_line("ok" if kernel["works"] else "fails", "kernel", said), *_line("", "", kernel["path"])]


def _space(found: "Doctor") -> list[str]:
    from mamlcli.memory.parts import readable

    enough = found.free_disk_bytes >= _FREE
    lines = _line("ok" if enough else "warn", "disk", f"{readable(found.free_disk_bytes)} free for {found.folder}")
    if found.free_memory_bytes is not None:
        lines += _line("ok", "memory", f"{readable(found.free_memory_bytes)} free")
    return lines


def _choice(found: "Doctor") -> list[str]:
    """What `auto` comes to."""
    from mamlcli.memory.parts import readable

    choice = found.choice
    if choice is None:
        return []
    threads = f"{choice['threads']} thread{'s' * (choice['threads'] > 1)}"
    said = f"{choice['device']}, {threads}, about {readable(choice['memory_bytes'])}; {choice['plan']}"
    lines = _line("ok", "config", f"{shorten(choice['config'], 24)}: {said}")
    return lines + [line for reason in choice["passed_over"] for line in _line("", "", f"passed over: {reason}")]
