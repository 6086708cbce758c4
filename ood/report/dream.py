"""What the report says of DREAM-OOD: the painter, the dreams, the filter, the decoder's traces, accuracy under corruption."""

from dataclasses import dataclass

import numpy as np

from ood.evaluation import group_means
from ood.report.tables import PERCENT, Results, groups_in, id_values, markdown_table, spread

AGREED = 0.8  # share of plain prompts that the encoder must recognise before a dream means anything


@dataclass(frozen=True)
class Dreams:
    """What the dream stages measured.

    painter: who painted, in words. diffusion, aligned: metrics/dream/{diffusion,align}.json. embedded, painted: run -> figures. kept: run
    that trains with dreamed images -> (synthesize run, cut, share that passes it, images used).
    """

    painter: str
    diffusion: dict[str, float]
    aligned: dict[str, float]
    embedded: dict[str, dict[str, float]]
    painted: dict[str, dict[str, float]]
    kept: dict[str, tuple[str, float, float, int]]

    def text(self) -> str:
        """The painter in a few sentences."""
        agreed = self.aligned["prompts_agreed"]
        text = (
            f"Painted by {self.painter}. An encoder trained on ID images (right on {self.aligned['validation_accuracy']:.1%} of ID "
            f"validation) recognises {agreed:.1%} of what it paints for the plain prompts."
        )
        if agreed < AGREED:
            text += " **It has not learned to paint the ID classes: the figures of every dream run mean nothing. Train it longer.**"
        return text

    def tables(self) -> list[str]:
        """The sets of vectors and pictures, and what the filter leaves of them."""
        keys = {"to the seed feature": "cosine_to_seed", "to the class word": "cosine_to_class", "to another word": "cosine_to_other"}
        rows = [[run, *[f"{f[key]:.2f}" if key in f else "-" for key in keys.values()]] for run, f in self.embedded.items()]
        parts = ["Cosines of the drawn embeddings, means:", markdown_table(["embed run", *keys], rows)]
        rows = [
            [
                run,
                f"{f['images']:.0f}",
                *[f"{f[k]:.1%}" for k in ("predicted_as_own_class", "share_above_0.9")],
                f"{f['mean_confidence']:.2f}",
            ]
            for run, f in self.painted.items()
        ]
        header = ["synthesize run", "images", "judged as the class painted for", "judged above 0.9", "mean confidence"]
        parts += ["What the judge makes of the pictures:", markdown_table(header, rows)]
        rows = [[name, run, f"{cut:g}", f"{share:.1%}", str(count)] for name, (run, cut, share, count) in self.kept.items()]
        header = ["run", "dreamed set", "cut", "pass it", "images used"]
        return [*parts, *(["The filter of each run:", markdown_table(header, rows)] if rows else [])]


def decoder_table(results: Results) -> str | None:
    """How well each model's own score tells ID test images from their own round trip through the autoencoder; None without test data."""
    rows = []
    for model, summary in results.items():
        cells = []
        for key in ("auroc", "fpr_ood_at_tpr95_id"):
            means = [group_means(seed["grid"][summary["own"]]) for seed in summary["seeds"].values()]
            if any("decoder" not in m for m in means):
                return None
            cells.append(spread(PERCENT * np.array([m["decoder"][key] for m in means])))
        rows.append([model, summary["own"], *cells])
    return markdown_table(["model", "own score", "AUROC (50: sees no decoder)", "let through (95: sees no decoder)"], rows)


def corruption_table(results: Results) -> str | None:
    """Accuracy on ID test images and under each corruption; None where no test figure was asked for."""
    first = next(iter(next(iter(results.values()))["seeds"].values()))
    if groups_in(results) == ["validation"] or not first["corrupted"]:
        return None
    names = sorted(first["corrupted"])
    rows = []
    for model, summary in results.items():
        table = [PERCENT * np.array([seed["corrupted"][name] for seed in summary["seeds"].values()]) for name in names]
        mean = np.mean(table, axis=0)
        rows.append([model, spread(id_values(summary, "accuracy", "test")), *[spread(values) for values in table], spread(mean)])
    return markdown_table(["model", "clean", *names, "mean under corruption"], rows)
