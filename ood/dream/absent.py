"""DREAM-OOD left out (diffusion.enabled: false): its stages stand in the DAG all the same, and leave nothing but their places."""

from pathlib import Path

from ood.files import empty, write_text
from ood.progress import Progress

NOTICE = "DREAM-OOD is left out (diffusion.enabled: false)"


def leave(folder: Path, figures: Path, progress: Progress) -> None:
    """An empty folder and a table without figures, in the places where others look for them."""
    empty(folder)
    write_text(figures, "{}\n")
    progress.note(NOTICE)
