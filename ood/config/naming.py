"""What classes are called in sentences that a text encoder reads."""

from string import Formatter
from typing import Annotated

from pydantic import AfterValidator, Field

from ood.config import Section


def _one_name(template: str) -> str:
    try:
        fields = [field[1:] for field in Formatter().parse(template) if field[1] is not None]
    except ValueError as error:
        raise ValueError(f"not a template: {error}") from None
    if fields != [("name", "", None)]:
        raise ValueError("the template must hold {name} exactly once, and no other braces")
    return template


def _different(names: list[str]) -> list[str]:
    if len({name.strip().lower() for name in names}) < len(names) or not all(map(str.strip, names)):
        raise ValueError("a name is empty or stands twice; every name must be a word of its own")
    return names


OtherNames = Annotated[list[str], AfterValidator(_different)]
Template = Annotated[str, AfterValidator(_one_name)]


class Naming(Section):
    """template: the prompt, {name} in it. names: class -> what stands for {name} (a class that isn't listed: its own name)."""

    template: Template
    names: dict[str, Annotated[str, Field(min_length=1)]]

    def name(self, label: str) -> str:
        """What the prompt calls a class."""
        return self.names.get(label, label)

    def prompt(self, label: str) -> str:
        """The whole prompt of a class."""
        return self.template.format(name=self.name(label))
