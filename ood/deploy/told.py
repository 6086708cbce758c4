"""Verdicts as people and programs read them: a row of a table, a line of JSON, a line of CSV."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import TextIO

from ood.data.reading import shown
from ood.deploy.verdicts import Verdict

UNKNOWN, UNREADABLE = "unknown", "unreadable"
COLUMNS = tuple(field.name for field in fields(Verdict))
HEADER = ("verdict", "probability", "p-value", "score", "")  # behind what was looked at


def word(verdict: Verdict) -> str:
    """A verdict in a word: the class, or that there is none."""
    if verdict.error is not None or verdict.is_ood:
        return UNREADABLE if verdict.error is not None else UNKNOWN
    return f"class {verdict.label}" if verdict.label in (UNKNOWN, UNREADABLE) else str(verdict.label)


def row(verdict: Verdict) -> tuple[str, ...]:
    """A name, and the cells below HEADER."""
    name = shown(verdict.name)
    if verdict.error is not None:
        return name, UNREADABLE, "", "", "", verdict.error
    numbers = f"{verdict.probability:.1%}", f"{verdict.p_value:.3g}", f"{verdict.score:.4g}"
    return name, word(verdict), *numbers, f"nearest class: {verdict.label}" if verdict.is_ood else ""


def json_line(verdict: Verdict) -> str:
    """One object on one line, keys as Verdict's."""
    line = json.dumps(asdict(verdict), ensure_ascii=False, allow_nan=False)
    return line if _is_text(line) else json.dumps(asdict(verdict))


def _is_text(line: str) -> bool:
    """Whether it is Unicode: a file's name may hold bytes that aren't."""
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True


def csv_line(values: Iterable[object]) -> str:
    """One line, without its end; None is empty, numbers in full."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(["" if value is None else value for value in values])
    return text.getvalue()


@dataclass
class Count:
    """How many verdicts of each kind went by. words: by what is said of them."""

    words: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    unreadable: int = 0

    @property
    def verdicts(self) -> int:
        """All of them."""
        return self.words.total()

    @property
    def status(self) -> int:
        """The exit status: 2, something couldn't be read; 1, something is unknown; 0."""
        return 2 if self.unreadable else int(self.unknown > 0)

    def over(self, verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
        """The same verdicts, counted as they go by."""
        for verdict in verdicts:
            self.words[word(verdict)] += 1
            self.unreadable += verdict.error is not None
            self.unknown += bool(verdict.is_ood)
            yield verdict

    def told(self) -> str:
        """How many of each, in a line: the classes by name, then what is none of them."""
        last = [word for word in (UNKNOWN, UNREADABLE) if word in self.words]
        return ", ".join(f"{word}: {self.words[word]}" for word in [*sorted(self.words.keys() - {*last}), *last])


def write(stream: TextIO, lines: Iterable[str]) -> None:
    """Lines, each at once; bytes of file names that are no Unicode as they are."""
    for line in lines:
        stream.flush()
        stream.buffer.write(f"{line}\n".encode("utf-8", "surrogateescape"))
        stream.buffer.flush()
