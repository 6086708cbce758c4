"""Reading params.yaml: each stage validates exactly the sections it declares, `check` validates all of them.

A section is a pydantic model that forbids unknown keys. Errors come as one InputError that lists every problem with the
dotted name of its key, so that a typo is found by reading one line.
"""

import difflib
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, overload

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ood.errors import InputError

T = TypeVar("T")


def distinct(values: list) -> list:
    """A list's validator: nothing stands in it twice."""
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if twice is not None:
        raise ValueError(f"{twice!r} stands twice; list everything once")
    return values


class Section(BaseModel):
    """Base of every section: unknown keys are errors, true is no number, nothing is infinite, values don't change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


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
        except UnicodeDecodeError as error:
            raise InputError(f"{self.path}: not in UTF-8 ({error}). Save it so.") from None
        except YAMLError as error:
            raise InputError(f"{self.path}: not valid YAML: {error}") from None
        if not isinstance(self.raw, dict):
            raise InputError(f"{self.path}: expected sections at the top level, found {type(self.raw).__name__}.")

    @overload
    def section(self, key: str, kind: type[T]) -> T: ...

    @overload
    def section(self, key: str, kind: Any) -> Any: ...

    def section(self, key: str, kind: Any) -> Any:
        """The validated value at a dotted key ('um.training') as an instance of `kind`, a model or any type."""
        value = self.raw
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                raise InputError(f"{self.path}: {key}: missing. Add it; params.yaml as shipped shows every key with its meaning.")
            value = value[part]
        try:
            return TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            lines = [f"{self.path}: {line}" for line in _problems(error, key, kind)]
            raise InputError("\n".join(lines)) from None


def _problems(error: ValidationError, prefix: str, kind: Any) -> Iterator[str]:
    for item in error.errors(include_url=False):
        path, known = _resolve(kind, item["loc"])
        key = ".".join([prefix, *map(str, path)])
        if item["type"] == "extra_forbidden":
            close = difflib.get_close_matches(str(path[-1]), known, n=1)
            yield f"{key}: unknown key. " + (f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}.")
        elif item["type"] == "missing":
            yield f"{key}: missing. Add it; params.yaml as shipped shows every key with its meaning."
        else:
            given = "" if isinstance(item["input"], dict | list) else f" (given: {item['input']!r})"
            yield f"{key.removesuffix('.[key]')}: {_plainly(item)}{given}"


def _plainly(item: Any) -> str:
    """pydantic's message, or ours where its own speaks of its insides."""
    context = item.get("ctx", {})
    match item["type"]:
        case "string_pattern_mismatch" if item["loc"][-1] == "[key]":
            return "a name is made of lower-case letters, digits and hyphens, and begins with a letter or digit. Rename it"
        case "union_tag_not_found":
            return "it says nothing of its source. Add one, as {source: folder, path: ...}"
        case "union_tag_invalid":
            return f"unknown source {context['tag']!r}. Known: {context['expected_tags']}"
        case "too_short":
            return f"too few entries: {context['actual_length']}. Give at least {context['min_length']}"
        case "model_type" | "dict_type" | "model_attributes_type":
            return "expected keys with values below it. Give them, or {} where every one has a default"
        case _:
            return item["msg"].removeprefix("Value error, ")


def _resolve(kind: Any, loc: tuple[str | int, ...]) -> tuple[list[str | int], list[str]]:
    """An error's location without pydantic's own additions (the tags of unions), and the keys known where it ends."""
    path: list[str | int] = []
    known: list[str] = []
    for part in loc:
        while get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        options = [k for k in get_args(kind) if k is not type(None)] if get_origin(kind) in (Union, UnionType) else []
        tagged = [
            k for k in options if "source" in getattr(k, "model_fields", {}) and part in get_args(k.model_fields["source"].annotation)
        ]
        if tagged:
            kind = tagged[0]
            continue
        kind = options[0] if len(options) == 1 else kind
        path.append(part)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            known = list(kind.model_fields)
            kind = kind.model_fields[part].annotation if part in known else None
        else:
            kind = get_args(kind)[-1] if get_args(kind) else None
    return path, known
