"""Ways to a meta-gradient, one file each, all with one signature.

An algorithm maps (meta-parameters of S seeds, a meta-batch of tasks for each) to (gradients, what to log).
"""

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from mamlcli.tasks import Task
from mamlcli.types import Params

MetaGradient: TypeAlias = Callable[[Params, Task], tuple[Params, Tensor]]
"""(name -> (S, ...), tasks (S, B, ...)) to (gradients like the parameters, post_adapt_loss (S,))."""
