"""A small corpus from what every installation has: sentences of docstrings, Python's topics of help, scikit-learn's descriptions."""

import ast
import re
import sysconfig
from pathlib import Path
from pydoc_data import topics

import matplotlib
import sklearn

LIBRARY = (Path(sysconfig.get_path("stdlib")), Path(matplotlib.__file__).parent)
CLASSES = {
    "arithmetic": ["_pydecimal.py", "fractions.py", "statistics.py"],
    "drawing": ["axes/_axes.py", "figure.py", "patches.py"],
    "testing": ["unittest/case.py", "unittest/mock.py", "doctest.py"],
}
NEAR = ["logging/__init__.py", "logging/handlers.py", "email/message.py", "email/header.py", "argparse.py"]


def sentences(text: str) -> list[str]:
    """Sentences of plain words, each once."""
    found = (" ".join(part.split()) for part in re.split(r"(?<=[.!?])\s+|\n\s*\n", text))
    plain = (s for s in found if 4 <= len(s.split()) <= 40 and s[-1:] in ".!?" and s.count(" ") > 2 and ">>>" not in s)
    return list(dict.fromkeys(plain))


def docstrings(names: list[str]) -> list[str]:
    """Sentences of a few modules' docstrings."""
    found: list[str] = []
    for name in names:
        path = next(folder / name for folder in LIBRARY if (folder / name).is_file())
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                found += sentences(ast.get_docstring(node) or "")
    return list(dict.fromkeys(found))


def write(folder: Path, each: int = 150) -> None:
    """tsv: id.tsv; lines: topics.txt (auxiliary), near.txt; documents: descriptions/<name>.txt; spoilt.txt, words in another order."""
    folder.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()

    def new(texts: list[str], count: int) -> list[str]:
        """The first so many that are nowhere yet, whatever their punctuation."""
        found = [text for text in {_letters(text): text for text in reversed(texts)}.values() if _letters(text) not in taken][::-1][:count]
        taken.update(map(_letters, found))
        return found

    rows = [f"{label}\t{text}" for label, names in CLASSES.items() for text in new(docstrings(names), each)]
    lines(folder / "id.tsv", rows)
    lines(folder / "near.txt", new(docstrings(NEAR), each))
    lines(folder / "topics.txt", new([s for text in topics.topics.values() for s in sentences(text)], 4 * each))
    lines(folder / "spoilt.txt", [" ".join(reversed(row.partition("\t")[2].split())) for row in rows[::3]])
    (folder / "descriptions").mkdir(exist_ok=True)
    about = "\n\n".join(p.read_text(encoding="utf-8") for p in sorted((Path(sklearn.__file__).parent / "datasets/descr").glob("*.rst")))
    for number, text in enumerate(new(sentences(about), each)):
        (folder / "descriptions" / f"{number:03d}.txt").write_text(text, encoding="utf-8")


def _letters(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())


def lines(path: Path, texts: list[str]) -> None:
    """A text a line."""
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
