"""What others have published: numbers with their intervals, and the experiments that should give them."""

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mamlcli.config.experiment import Config
from mamlcli.section import Count, CountOrZero, Float32, NonNegative, Positive, list_to_tuple

Group: TypeAlias = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
"""The name of rows that are chosen together."""


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
    degrees: Count | None = None
    """Student's degrees of freedom behind `ci95`; null for a normal interval, of 1.96 standard errors."""
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
    group: Group | Annotated[tuple[Group, ...], BeforeValidator(list_to_tuple), Field(min_length=1)] = "own"
    """With which rows it is chosen, by `maml reproduce --group`: the name of a group, or of several."""
    margin: Positive = 0.1
    """The largest difference that does not matter, as a share of the published number."""
    trainings: Count | None = 1
    """How many trainings are behind a published number, where its interval says nothing of other trainings: what ours
    differ by between seeds then stands for what theirs do. Null where its interval is over trainings."""
    beside: str | None = None
    """The name of a row that this one is set beside, paired by seed and task: what the difference between the two makes
    is then in the table of differences, where both were run."""
    tested: Annotated[tuple[str, ...], BeforeValidator(list_to_tuple)] = ()
    """What is other in testing than in training, as for `maml eval --set`: `algorithm.inner_lr=0.01`. Rows that differ
    in nothing else are trained once."""
    ms_per_step: Positive | None = None
    """What a meta-update of five seeds took on one core where it was measured, for saying how long a row takes; null
    where it was not."""
    start: Literal["trained", "random-init", "zero"] = "trained"
    """What is evaluated: trained parameters, those that training begins with, or a model that always says zero."""
    curve: str | None = None
    """Its name in the figure of loss against inner steps; null leaves it out. A curve has the same colour whichever
    others are beside it."""
    flat: bool = False
    """Whether its curve is the loss before adaptation, drawn as a level."""
    published: Annotated[tuple[PublishedNumber, ...], BeforeValidator(list_to_tuple), Field(min_length=1)]
    """The numbers."""
    config: Config
    """The experiment."""

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that it is in."""
        return (self.group,) if isinstance(self.group, str) else self.group

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
