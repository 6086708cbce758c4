"""Verdicts as people and programs read them: a row of a table, a line of JSON, a line of CSV."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, fields

from ood.deploy.verdicts import Verdict

UNKNOWN, UNREADABLE = "unknown", "unreadable"
COLUMNS = tuple(field.name for field in fields(Verdict))
HEADER = ("picture", "verdict", "probability", "p-value", "score", "")


def word(verdict: Verdict) -> str:
    """A verdict in a word: the class, or that there is none."""
    return UNREADABLE if verdict.error else UNKNOWN if verdict.is_ood else str(verdict.label)


def row(verdict: Verdict) -> tuple[str, ...]:
    """The cells below HEADER."""
    if verdict.error is not None:
        return verdict.name, UNREADABLE, "", "", "", verdict.error.removeprefix(f"{verdict.name}: ")
    numbers = f"{verdict.probability:.1%}", f"{verdict.p_value:.3g}", f"{verdict.score:.4g}"
    return verdict.name, word(verdict), *numbers, f"nearest class: {verdict.label}" if verdict.is_ood else ""


def json_line(verdict: Verdict) -> str:
    """One object on one line, keys as Verdict's."""
    return json.dumps(asdict(verdict), ensure_ascii=False)


def csv_line(values: Iterable[object]) -> str:
    """One line, without its end; None is empty, numbers in full."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(["" if value is None else value for value in values])
    return text.getvalue()


def summed_up(counts: dict[str, int]) -> str:
    """How many of each verdict, in a line: the classes by name, then what is none of them."""
    last = [word for word in (UNKNOWN, UNREADABLE) if word in counts]
    return ", ".join(f"{word}: {counts[word]}" for word in [*sorted(counts.keys() - {*last}), *last])
