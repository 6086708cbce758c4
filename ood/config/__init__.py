"""Reading params.yaml: each stage validates exactly the sections it declares, `check` validates all of them.

A section is a pydantic model that forbids unknown keys. Errors come as one InputError that lists every problem with the
dotted name of its key, so that a typo is found by reading one line.
"""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ood.errors import InputError

T = TypeVar("T")


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values don't change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Params:
    """The content of a params file; `section` hands out its validated parts.

    Args:
        path: a YAML 1.2 file, read the way DVC reads it.

    Raises:
        InputError: the file is missing or is not YAML.
    """

    def __init__(self, path: Path | str = "params.yaml"):
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{self.path}: no such file. Run the command from the folder that holds params.yaml.")
        try:
            self.raw = YAML(typ="safe").load(self.path.read_text(encoding="utf-8"))
        except YAMLError as error:
            raise InputError(f"{self.path}: not valid YAML: {error}") from None
        if not isinstance(self.raw, dict):
            raise InputError(f"{self.path}: expected sections at the top level, found {type(self.raw).__name__}.")

    def section(self, key: str, kind: type[T] | Any) -> T:
        """The validated value at a dotted key ('um.training') as an instance of `kind`, a model or any type."""
        value = self.raw
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                raise InputError(f"{self.path}: {key}: missing. {_suggest(part, value)}".rstrip())
            value = value[part]
        try:
            return TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            lines = [f"{self.path}: {line}" for line in _problems(error, key, value)]
            raise InputError("\n".join(lines)) from None


def _problems(error: ValidationError, prefix: str, value: Any) -> Iterator[str]:
    for item in error.errors(include_url=False):
        path = [part for part in item["loc"] if _is_key(part, value, item["loc"])]
        key = ".".join([prefix, *map(str, path)])
        if item["type"] == "extra_forbidden":
            yield f"{key}: unknown key. Remove it, or correct its name."
        elif item["type"] == "missing":
            yield f"{key}: missing. Add it; params.yaml as shipped shows every key with its meaning."
        else:
            message = item["msg"].removeprefix("Value error, ")
            given = "" if isinstance(item["input"], dict | list) else f" (given: {item['input']!r})"
            yield f"{key}: {message}{given}"


def _is_key(part: str | int, value: Any, loc: tuple) -> bool:
    """Pydantic puts the tag of a discriminated union into an error's location; only real keys help the reader."""
    here = value
    for step in loc:
        if step is part or step == part:
            break
        if isinstance(here, dict) and step in here:
            here = here[step]
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            here = here[step]
    tag = isinstance(here, dict) and here.get("source") == part and part not in here
    return not tag


def _suggest(name: str, mapping: Any) -> str:
    close = difflib.get_close_matches(name, map(str, mapping)) if isinstance(mapping, dict) else []
    return f"Did you mean to call it {name!r} where {close[0]!r} stands?" if close else ""
