"""What `mask` leaves in data/mask/<run>/: <seed>.json, a loss constraint (ood.unmask.levels); atypical-<seed>.csv, the ranking."""

from pathlib import Path

from ood.handover import read_table

ESTIMATES = Path("data/mask")


def ranking(run: str, seed: int) -> list[dict[str, str]]:
    """Training images from the most to the least atypical (ood.unmask.atypical.Atypical.table).

    Raises:
        InputError: not there yet.
    """
    return read_table(ESTIMATES / run / f"atypical-{seed}.csv", f"mask {run}", ("image", "label", "likely", "masked_loss", "flip_rate"))
