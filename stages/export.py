"""Export: the calibrated detector as one safe folder that answers the same anywhere."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from ood.config import Params
from ood.config.data import Data
from ood.config.detector import Detector
from ood.config.evaluation import Features, Scores
from ood.config.training import Runtime
from ood.data import packed
from ood.data.sets import load
from ood.data.texts import TOKENIZER
from ood.deploy import bundle, calibrated, export
from ood.deploy.card import card
from ood.deploy.detector import Detector as Product
from ood.errors import InputError
from ood.files import in_place_of, write_text
from ood.handover import checked
from ood.refusals import must_take
from ood.training.devices import set_up_cpu
from stages.console import Console

FOLDER = Path("data/detector")


def main(
    onnx: Annotated[Path | None, typer.Option(help="write data/detector, which is there, as one ONNX graph to this file, instead")] = None,
) -> None:
    """Write data/detector: weights, what the score fitted, thresholds, a model card; then load it and compare what it says."""
    console = Console("export")
    if onnx is not None:
        return as_graph(onnx, console)
    params = Params()
    found, of_texts = calibrated.load(), params[Data].kind == "text"
    with in_place_of(FOLDER, sealed=False) as folder:
        if found is None:
            return console.note("no detector is made (detector.model: null)")
        runtime, count = params[Runtime], params[Detector].thumbnails
        set_up_cpu(runtime)
        entries = export.networks(folder, found)
        export.calibration(folder)
        settings = params[Scores], params[Features].odin, runtime.channels_last
        if of_texts:
            shutil.copyfile(checked(packed.PREPARED / "id" / TOKENIZER, "prepare"), folder / TOKENIZER)
        chain = params[Data].text if of_texts else params[Data].chain
        facts = export.facts(found, packed.info(), chain, params[Data].max_pixels, entries, *settings)
        text = card(found, calibrated.load_figures(), packed.manifest(), FOLDER.as_posix(), facts["made_with"], texts=of_texts)
        write_text(folder / bundle.CARD, text)
        bundle.write(folder, facts | {"thumbnails": False})
        written = Product.load(folder)
        export.prove(written, load(calibrated.CALIBRATION, workers=runtime.workers), console.step)
        if count:
            export.thumbnails(folder, load("id/train", workers=runtime.workers), count, written.ensemble)
            bundle.write(folder, facts | {"thumbnails": True})
    console.note(f"{FOLDER}: {found.model} with {found.score}; it answers as it was calibrated, bit for bit")
    console.note(f"try it: python -m stages predict --detector {FOLDER} {'TEXT' if of_texts else 'PICTURE'}...")


def as_graph(path: Path, console: Console) -> None:
    """Write the graph and compare it with its detector."""
    from ood.deploy import onnx

    if path.suffix.lower() != ".onnx":
        raise InputError(f"--onnx {path}: call it .onnx, by which `predict` knows it.")
    must_take([path])
    worst = onnx.write(Product.load(FOLDER), path)
    console.note(f"{path}: answers as {FOLDER}, by onnxruntime, to {worst:.1g} (batches of 1, 2 and 7, three sizes)")
