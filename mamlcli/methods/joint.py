"""Joint training: one model for all tasks at once, the baseline that MAML is compared with.

Finn et al. 2017 (arXiv:1703.03400, section 5.1) call it pre-training on all tasks: no adaptation in training, plain
supervised learning on the samples of every task of the meta-batch; at test time it is adapted like MAML.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from mamlcli.section import AlgorithmSection, NonNegative

if TYPE_CHECKING:
    from mamlcli.methods.method import Bench, Method
    from mamlcli.proofs.checks import Case, Check


class JointConfig(AlgorithmSection):
    """Joint training: one model on all samples of all tasks, without adaptation in training."""

    test_keys: ClassVar[tuple[str, ...]] = ("inner_lr",)
    row_keys: ClassVar[tuple[str, ...]] = ("inner_lr",)

    name: Literal["joint"] = "joint"
    """The method."""
    inner_lr: NonNegative = 0.01
    """The step size of adaptation at test time."""


def joint(config: JointConfig, bench: Bench) -> Method:
    """Build joint training."""
    from mamlcli.methods.course import Course
    from mamlcli.methods.inner_loops import constant_rate, gradient_descent
    from mamlcli.methods.meta_gradients import on_all_samples
    from mamlcli.methods.method import Descent, Footprint, Method

    return Method(
        title="joint training",
        init=bench.model.init,
        inner=gradient_descent(bench.loss_fn, constant_rate(config.inner_lr)),
        meta_gradient=on_all_samples(bench.loss_fn),
        inner_steps=0,
        num_params=bench.model.num_params,
        unrolled_steps=1,
        descent=Descent(config.inner_lr, 0, Course("second"), on_all_samples=True),
        holds_copies=False,
        footprint=lambda support_shots, query_shots: Footprint(0.0, 2.0 * (support_shots + query_shots)),
        proofs=partial(_proofs, bench),
    )


def _proofs(bench: Bench, case: Case) -> list[Check]:
    from mamlcli.methods.method import textbook_loss
    from mamlcli.proofs.descent import joint_checks

    return joint_checks(textbook_loss(bench), case)
