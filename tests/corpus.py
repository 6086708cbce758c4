"""A small corpus from what every installation has: sentences of docstrings, Python's topics of help, scikit-learn's descriptions."""

import ast
import json
import re
import sysconfig
from pathlib import Path
from pydoc_data import topics

import matplotlib
import sklearn
import torch
from conftest import PLAIN
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel

LIBRARY = (Path(sysconfig.get_path("stdlib")), Path(matplotlib.__file__).parent)
CLASSES = {
    "arithmetic": ["_pydecimal.py", "fractions.py", "statistics.py"],
    "drawing": ["axes/_axes.py", "figure.py", "patches.py"],
    "testing": ["unittest/case.py", "unittest/mock.py", "doctest.py"],
}
NEAR = ["logging/__init__.py", "logging/handlers.py", "email/message.py", "email/header.py", "argparse.py"]

OUTLIERS = PLAIN | {"outliers": "prepared/auxiliary"}
TEXT = {
    "data.kind": "text",
    "data.duplicates": "drop",
    "data.text": {"length": 24, "words": 2000},
    "data.id.images": {"source": "tsv", "path": "corpus/id.tsv"},
    "data.auxiliary": {"topics": {"source": "lines", "path": "corpus/topics.txt"}},
    "data.validation": {"spoilt": {"source": "lines", "path": "corpus/spoilt.txt"}},
    "data.near": {"logging": {"source": "lines", "path": "corpus/near.txt"}},
    "data.far": {"descriptions": {"source": "documents", "path": "corpus/descriptions"}},
    "data.corrupted": {},
    "data.world": {},
    "net": {"name": "gru_2_16", "embedding": 12},
    "pretrain.training": {"epochs": 8, "batch_size": 16, "lr": 0.02, "optimizer": "adamw", "weight_decay": 0.0},
    "pretrain.runs": {"ce": {}, "scratch": {"epochs": 0}},
    "trace.runs": {"ce": "energy"},
    "epochs": {"stopped": {"run": "ce", "by": "msp"}},
    "mask.runs": {"um": {"init": "ce", "epochs": 1}},
    "um.runs": {"um": {"init": "ce", "constraint": "um"}, "control": PLAIN},
    "umap.runs": {"umap": {"init": "ce", "constraint": "um"}},
    "prompts.names": {},
    "diffusion.enabled": False,
    "embed.runs": {},
    "synthesize.runs": {},
    "oe.outlier_batch": 64,
    "oe.training": {"epochs": 8, "batch_size": 16, "lr": 0.02, "optimizer": "adamw", "weight_decay": 0.0},
    "oe.runs": {"oe": OUTLIERS | {"objective": "uniform", "weight": 1.0}, "no-outliers": OUTLIERS | {"objective": "none"}},
    "models": {"ce": "msp", "um": "energy", "control": "energy", "umap": "energy", "oe": "msp", "no-outliers": "msp"},
    "report.pairs": {"um": "control", "oe": "no-outliers"},
    "features.odin": None,
    "detector.thumbnails": 0,
    "detector.model": "oe",
    "detector.guarantee": "marginal",
}


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


def encoder(folder: Path, texts: list[str], **changes: object) -> Path:
    """A small BERT with random weights and a tokenizer that has learned these texts, as sentence-transformers writes them."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=400, special_tokens=marks, show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.enable_padding(length=99)
    tokenizer.enable_truncation(7)  # what its authors did is no business of ours
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 40,
        "initializer_range": 0.3,
    }
    BertModel(BertConfig(vocab_size=tokenizer.get_vocab_size(), **sizes | changes)).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}))
    return folder
