"""What torch says of an operation that it cannot differentiate twice, or not for many tasks at once, in plain words."""

import re

_FIRST_ORDER = "use algorithm.order: first where the method has it, or write the operation out of others"
# Pattern of torch's message, what it means, and the remedy; a group is the operation.
_KNOWN: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"derivative for '?(?:aten::)?(\w+)'? is not implemented"),
        "the operation {} has no second derivative",
        _FIRST_ORDER,
    ),
    (
        re.compile(r"[Bb]atching rule (?:not implemented )?for (?:aten::)?(\w+)"),
        "the operation {} does not work under vmap, for many tasks at once",
        "write it out of operations that do",
    ),
    (
        re.compile(r"calling \.item\(\)|data-dependent control flow"),
        "a value is read out of a tensor (.item(), if, int()), which vmap cannot do for many tasks at once",
        "use torch.where, or keep it a tensor",
    ),
    (
        re.compile(r"vmap: called random operation|randomness='error'"),
        "random numbers are drawn in the forward pass, so a loss is no function",
        "call .eval() on the module, or leave the random layer out",
    ),
    (
        re.compile(r"vmap: (?:aten::)?(\w+?)_?\(self, \*extra_args\) is not possible|vmap: in-?place (\w+)"),
        "the in-place operation {} changes a tensor that all tasks share",
        "use the operation that returns a new tensor",
    ),
)


def explained(error: BaseException) -> str | None:
    """Say what of a model cannot be differentiated as a meta-gradient needs it, and the remedy.

    Returns:
        None for an error that says something else.
    """
    said = str(error)
    for pattern, meaning, remedy in _KNOWN:
        if match := pattern.search(said):
            operation = next((group for group in match.groups() if group), "")
            return f"{meaning.format(f'`{operation}`' if operation else '').replace('  ', ' ')}; {remedy}"
    return None
