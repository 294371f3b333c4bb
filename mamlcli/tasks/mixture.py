"""A mixture of families: each task is of one of them, by chance. Loads no torch.

Several families at once are the field's test of what one initialisation can learn (Vuorio et al. 2019,
arXiv:1910.13616; Yao et al. 2020, arXiv:2001.00745). A family of fewer inputs than the mixture sees others that are
always 1, as in the code of the latter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from mamlcli.section import Choosing, FunctionTasksSection, Holds, Positive, Section, list_to_tuple

if TYPE_CHECKING:
    from mamlcli.tasks.family import TaskFamily

# What all families of a mixture have from it.
_SHARED = frozenset(FunctionTasksSection.model_fields) - {"family"}


class Member(Section):
    """A family of a mixture. In a config its keys stand in one mapping with `weight`."""

    weight: Positive = 1.0
    """How often tasks of this family come, beside the weights of the others."""
    tasks: SerializeAsAny[FunctionTasksSection]
    """The family and its keys."""

    @model_validator(mode="wrap")
    @classmethod
    def _of_one_mapping(cls, value: Any, made: Callable[[Any], Self], info: ValidationInfo) -> Self:
        if isinstance(value, FunctionTasksSection):
            return made({"tasks": value})
        if not isinstance(value, dict) or "tasks" in value:
            return made(value)
        choosing = (info.context or {}).get("tasks")
        if not isinstance(choosing, Choosing):
            raise ValueError("must be the section of a family, where no config is around it")
        _check_family(value, choosing)
        keys = {name: one for name, one in value.items() if name != "weight"}
        weight = {name: one for name, one in value.items() if name == "weight"}
        return made({"tasks": choosing.make(keys), **weight})

    @model_serializer
    def _as_one_mapping(self) -> dict[str, Any]:
        own = self.tasks.model_dump(exclude=set(_SHARED))
        return {"family": own.pop("family"), "weight": self.weight, **own}


def _check_family(value: dict[str, Any], choosing: Choosing) -> None:
    """Refuse an entry that names no family, or one that cannot stand in a mixture."""
    if "family" not in value:
        raise _errors([InitErrorDetails(type="missing", loc=("family",), input=value)])
    named = value["family"]
    known = choosing.classes.get(named) if isinstance(named, str) else None
    if known is None or (issubclass(known, FunctionTasksSection) and known.holds is None):
        return  # one that is not known is refused with all that are
    reason = "has samples of its own, and a mixture is of families of functions"
    if issubclass(known, FunctionTasksSection):
        reason = "stands in no other one: write its families here, with their weights"
    raise _errors([_unfit(("family",), f"a {named} {reason}", named)])


def _unfit(loc: tuple[str | int, ...], problem: str, value: Any) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError("unfit", "{problem}", {"problem": problem}), loc=loc, input=value)


def _errors(details: list[InitErrorDetails]) -> ValidationError:
    return ValidationError.from_exception_data("families", details)


class MixtureTasks(FunctionTasksSection):
    """Tasks of several families, each of one of them by chance."""

    test_keys: ClassVar[tuple[str, ...]] = (*FunctionTasksSection.test_keys, "families")
    holds: ClassVar[Holds | None] = Holds("families", FunctionTasksSection, Member, _SHARED)

    family: Literal["mixture"] = "mixture"
    """The task family."""
    families: Annotated[tuple[Member, ...], Field(min_length=1, max_length=100), BeforeValidator(list_to_tuple)]
    """The families, each a mapping: `family`, the keys of that family, and `weight`, how often its tasks come beside
    those of the others (1 where it is left out). `x`, noise, shots, pool, oracle inputs and corrupted slots are those
    of the mixture for all of them. Like `[{family: sinusoid, weight: 2}, {family: linear, slope: [0, 1]}]`."""
    inputs: Annotated[int, Field(ge=1, le=100)] = 1
    """Inputs of every task; a family of fewer sees others that are always 1."""
    oracle_inputs: bool = False
    """Whether the model is told the task: which family it is of, and its parameters, are inputs beside x."""

    @model_validator(mode="after")
    def _is_of_one_piece(self) -> Self:
        found = [self._completed(index, member) for index, member in enumerate(self.families)]
        if wrong := [detail for problems, _ in found for detail in problems]:
            raise _errors(wrong)
        # A frozen model is set once, here, while it is made.
        object.__setattr__(self, "families", tuple(member for _, member in found))
        return self

    def _completed(self, index: int, member: Member) -> tuple[list[InitErrorDetails], Member]:
        """A family with the keys of the mixture, and what is wrong with it."""
        tasks, place = member.tasks, ("families", index)
        said = {key: getattr(tasks, key) for key in tasks.model_fields_set}
        shared = {key: getattr(self, key) for key in sorted(_SHARED)}
        wrong = [
            _unfit((*place, key), f"all families of a mixture have the same: say it once, as tasks.{key}", said[key])
            for key in shared
            if said.get(key, shared[key]) != shared[key]
        ]
        if tasks.num_inputs > self.inputs:
            remedy = f"set tasks.inputs: {tasks.num_inputs}, where families of fewer see others that are always 1"
            problem = f"{tasks.family} has {tasks.num_inputs} inputs, and the mixture {self.inputs}: {remedy}"
            wrong.append(_unfit((*place, "family"), problem, tasks.family))
        try:
            return wrong, member.model_copy(update={"tasks": type(tasks).model_validate(said | shared)})
        except ValidationError as error:
            for one in error.errors():
                key, reason = ".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")
                problem = f"{tasks.family} cannot have the {key} of the mixture: {reason}; set tasks.{key}"
                wrong.append(_unfit((*place, "family"), problem, tasks.family))
            return wrong, member


def mixture(config: MixtureTasks, build: Callable[[FunctionTasksSection], TaskFamily]) -> TaskFamily:
    """Build the family, of those that `build` makes of the sections.

    Raises:
        UsageError: If they cannot be in one mixture.
    """
    from mamlcli.tasks.mixture_family import mixture_family

    return mixture_family(config, [build(member.tasks) for member in config.families])
