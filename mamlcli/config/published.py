"""What others have published, and the rule by which a result here reproduces it."""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mamlcli.config.experiment import Config
from mamlcli.section import Count, CountOrZero, Float32, NonNegative, list_to_tuple

VERDICT_RULE = (
    "reproduced: the two means differ by at most sqrt(a^2 + b^2), where a is the half-width of our 95% interval over "
    "seeds and tasks (with one seed over its tasks, and the verdict is on this seed alone), and b that of the "
    "published interval; where none was published, b is that of our uncorrected mean over tasks, since theirs were "
    "other tasks; b is 0 for an analytic number. A bound is reproduced if it is met within a. Where that distance is "
    "larger than the published number itself, nothing is decided."
)


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class PublishedNumber(_Part):
    """One published number, or a place in the table where none is known."""

    shots: Count
    """K."""
    inner_steps: CountOrZero
    """Steps of adaptation before the query loss is measured."""
    mean: Float32 | None = None
    """The published mean query loss."""
    ci95: NonNegative | None = None
    """Half-width of its 95% interval, where one was published."""
    relation: Literal["equals", "at_most", "at_least"] = "equals"
    """Whether the number is a bound."""
    analytic: bool = False
    """Whether it was calculated, and not measured."""


class PublishedRow(_Part):
    """A result that others published, and the experiment that should give it."""

    title: str
    """What it is, in a line."""
    source: str
    """Where it was published."""
    ambiguous: str
    """What the source leaves open, and what was chosen here."""
    start: Literal["trained", "random-init", "zero"] = "trained"
    """What is evaluated: trained parameters, those that training begins with, or a model that always says zero."""
    curve: str | None = None
    """Its name in the figure of loss against inner steps; null leaves it out."""
    flat: bool = False
    """Whether its curve is the loss before adaptation, drawn as a level."""
    published: Annotated[tuple[PublishedNumber, ...], BeforeValidator(list_to_tuple), Field(min_length=1)]
    """The numbers."""
    config: Config
    """The experiment."""

    @model_validator(mode="after")
    def _is_measured(self) -> "PublishedRow":
        measured = self.config.evaluation
        for number in self.published:
            if number.shots not in measured.shots:
                raise ValueError(f"shots {number.shots} is not among evaluation.shots {list(measured.shots)} of config")
            if number.inner_steps > measured.inner_steps:
                raise ValueError(
                    f"inner_steps {number.inner_steps} is more than evaluation.inner_steps ({measured.inner_steps}) "
                    "of config"
                )
        return self


def verdict(
    published: PublishedNumber,
    mean: float | None,
    *,
    ci95: float | None,
    ci95_theirs: float | None,
    num_diverged: int,
) -> str:
    """Say whether a mean reproduces a published number; see VERDICT_RULE.

    Args:
        published: The number.
        mean: Ours, over seeds and tasks; None if it is not finite.
        ci95: Half-width of its interval; None, where there is none, counts as 0.
        ci95_theirs: What stands for the half-width of theirs where none was published.
        num_diverged: Tasks that diverged, over all seeds.

    >>> published = PublishedNumber(shots=5, inner_steps=1, mean=0.7)
    >>> verdict(published, 0.69, ci95=0.02, ci95_theirs=0.05, num_diverged=0)
    'reproduced'
    """
    if published.mean is None:
        return "no number published"
    if mean is None:
        return f"not reproduced: {num_diverged} diverged"
    if published.ci95 is None:
        theirs = 0.0 if published.analytic or published.relation != "equals" else ci95_theirs or 0.0
    else:
        theirs = published.ci95
    distance = math.hypot(ci95 or 0.0, theirs)
    diverged = f" ({num_diverged} diverged)" if num_diverged else ""
    if distance > abs(published.mean) > 0:
        return f"undecided: the interval is wider than the number{diverged}"
    above, below = mean > published.mean + distance, mean < published.mean - distance
    if above and published.relation != "at_least":
        return f"not reproduced: higher{diverged}"
    if below and published.relation != "at_most":
        return "not reproduced: lower"
    return "reproduced"
