"""Configuration: params.yaml as pydantic models that name every mistake; the networks by name; recipes.

`params[UM]` is the validated section `um`: a class knows its key, and a stage imports, reads and depends on just the sections that it
uses; `check` validates all of them. Errors come as one InputError that lists every problem with the dotted name of its key, so that a
typo is found by reading one line.
"""

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import ScalarNode

from ood.errors import InputError

STRICT = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)  # true is no number, nothing is infinite or changes after loading


def distinct(values: list) -> list:
    """A list's validator: nothing stands in it twice."""
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if twice is not None:
        raise ValueError(f"{twice!r} stands twice; list everything once")
    return values


def place(path: Any) -> Any:
    """A path's validator: a file may be called so."""
    raw = os.fspath(path).encode("utf-8", "surrogatepass")
    if b"\0" in raw or len(raw) > 4000 or any(len(part) > 255 for part in raw.split(b"/")):
        raise ValueError("no file or folder can be called so. Correct the path")
    return path


Place = Annotated[Path, Field(strict=False), AfterValidator(place)]


class Keyed(BaseModel):
    """A part of params.yaml. key: its place at the top level, where it has one."""

    key: ClassVar[str] = ""

    def __init_subclass__(cls, key: str = "", **options: Any):
        super().__init_subclass__(**options)
        cls.key = key or cls.key


class Section(Keyed):
    """Keys and values; unknown keys are errors."""

    model_config = STRICT | ConfigDict(extra="forbid")


Top = TypeVar("Top", bound=Keyed)


class Params:
    """The content of a params file: `params[Kind]` is its part at Kind.key, validated.

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
            raise InputError(f"{self.path}{_said_by_yaml(error)}") from None
        except Exception as error:  # the loader's own, of values that it can't make
            raise InputError(f"{self.path}{_unmakable(self.path.read_text(encoding='utf-8'), error)}") from None
        if not isinstance(self.raw, dict):
            raise InputError(f"{self.path}: expected sections at the top level, found {type(self.raw).__name__}.")

    def __getitem__(self, kind: type[Top]) -> Top:
        """The section that `kind` describes.

        Raises:
            InputError: it is missing, or something in it is wrong: a line for every problem.
        """
        if kind.key not in self.raw:
            raise InputError(f"{self.path}: {kind.key}: missing. Add it; params.yaml as shipped shows every key with its meaning.")
        try:
            return kind.model_validate(self.raw[kind.key])
        except ValidationError as error:
            raise InputError("\n".join(f"{self.path}: {line}" for line in _problems(error, kind.key, kind))) from None


def _said_by_yaml(error: YAMLError) -> str:
    """Where and why it is no YAML, in a line."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f", line {mark.line + 1}" if mark else ""
    said = " ".join(str(getattr(error, "problem", None) or error).split())
    return f"{where}: not valid YAML ({said}). Look at the colons, quotes, brackets and blanks there."


def _unmakable(text: str, error: Exception) -> str:
    """Which value YAML's loader can't make: a day that there isn't, a number of thousands of digits."""
    if isinstance(error, RecursionError):
        return ": nested too deeply. Take brackets out."
    loader = YAML(typ="safe", pure=True)
    try:
        waiting = [loader.compose(text)]
    except Exception:
        waiting = []
    while waiting:
        node = waiting.pop()
        if isinstance(node, ScalarNode):
            try:
                loader.constructor.construct_object(node)
            except Exception:
                return f", line {node.start_mark.line + 1}: YAML can't read {node.value[:40]!r}. If it is text, put it in quotes."
        elif node is not None:
            waiting += [part for entry in node.value for part in (entry if isinstance(entry, tuple) else (entry,))]
    return f": can't be read as YAML ({error or type(error).__name__}). Put what may be taken for a date or a number in quotes."


def _problems(error: ValidationError, prefix: str, kind: Any) -> Iterator[str]:
    for item in error.errors(include_url=False):
        path, known = _resolve(kind, item["loc"])
        key = ".".join([prefix, *map(spelt, path)])
        if item["type"] == "extra_forbidden":
            close = difflib.get_close_matches(str(path[-1]), known, n=1)
            yield f"{key}: unknown key. " + (f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}.")
        elif item["type"] == "missing":
            yield f"{key}: missing. Add it; params.yaml as shipped shows every key with its meaning."
        else:
            given = "" if isinstance(item["input"], dict | list) else f" (given: {_shown(item['input'])})"
            yield f"{key.removesuffix('.[key]')}: {_plainly(item)}{given}"


def spelt(key: object) -> str:
    """A key on one line, however it is called."""
    text = str(key)
    return text if text.isprintable() and text and len(text) <= 80 else _shown(key)


def _shown(value: object) -> str:
    """A value, not too long, as one writes it."""
    text = repr(value) if isinstance(value, str | int | float | None) else str(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _number(bound: float) -> str:
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"


def _plainly(item: Any) -> str:
    """pydantic's message, or ours where its own speaks of its insides."""
    context = item.get("ctx", {})
    match item["type"]:
        case "string_type" if item["loc"][-1] == "[key]":
            return f"names are text; YAML reads this one as something else. Put it in quotes: '{item['input']}'"
        case "union_tag_not_found":
            return "it says nothing of its source. Add one, as {source: folder, path: ...}"
        case "union_tag_invalid":
            return f"unknown source {_shown(context['tag'])}. Known: {context['expected_tags']}"
        case "too_short":
            return f"too few entries: {context['actual_length']}. Give at least {context['min_length']}"
        case "too_long":
            return f"too many entries. Give at most {context['max_length']}"
        case "string_too_short":
            return "empty. Give something"
        case "string_too_long":
            return f"too long. Give at most {context['max_length']} characters"
        case "int_type" | "int_from_float":
            return "must be a whole number"
        case "float_type":
            return "must be a number"
        case "finite_number":
            return "must be a finite number"
        case "bool_type":
            return "must be true or false"
        case "string_type":
            return "must be text. Put it in quotes"
        case "string_unicode":
            return "must be text in Unicode. Type it again"
        case "list_type":
            return "must be a list, as [a, b]"
        case "literal_error":
            return f"must be {context['expected']}"
        case "greater_than_equal":
            return f"must be at least {_number(context['ge'])}"
        case "greater_than":
            return f"must be greater than {_number(context['gt'])}"
        case "less_than_equal":
            return f"must be at most {_number(context['le'])}"
        case "less_than":
            return f"must be less than {_number(context['lt'])}"
        case "multiple_of":
            return f"must be a multiple of {context['multiple_of']}"
        case "path_type":
            return "must be a path"
        case "model_type" | "dict_type" | "model_attributes_type":
            return "expected keys with values below it. Give them, or {} where every one has a default"
        case _:
            return item["msg"].removeprefix("Value error, ")


def _resolve(kind: Any, loc: tuple[str | int, ...]) -> tuple[list[str | int], list[str]]:
    """An error's location without pydantic's own additions (the tags of unions), and the keys known where it ends."""
    path: list[str | int] = []
    known: list[str] = []
    for part in loc:
        while get_origin(kind) is Annotated or (isinstance(kind, type) and issubclass(kind, RootModel)):
            kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind.model_fields["root"].annotation
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
