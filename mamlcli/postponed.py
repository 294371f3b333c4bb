"""torch's compiler, imported by what compiles, and by nothing else.

Importing it takes about as long as torch itself. Eager `torch.func.grad` asks it for a context in which no compiled
autograd is at work; none can be as long as it is not there.
"""

import sys
from contextlib import nullcontext
from importlib import import_module
from types import ModuleType
from typing import Any

import torch


class _Postponed(ModuleType):
    """Stands for a module until more is asked of it than what is known without it."""

    def __init__(self, name: str, **known: Any) -> None:
        super().__init__(name)
        self._known = known

    def __getattr__(self, name: str) -> Any:
        """Look something up; imports the module, which takes this one's place in its package, unless it is known."""
        if self.__name__ not in sys.modules and name in self._known:
            return self._known[name]
        return getattr(import_module(self.__name__), name)


def postpone_compiler() -> None:
    """See to it that eager derivatives do not import the compiler; does nothing where it is imported already."""
    autograd = _Postponed("torch._dynamo.compiled_autograd", _disable=nullcontext)
    vars(torch).setdefault("_dynamo", _Postponed("torch._dynamo", compiled_autograd=autograd))
