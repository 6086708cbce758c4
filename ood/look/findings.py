"""What there is to say of a folder: figures for metrics/look, lines for people."""

from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ood.detection import guarantee
from ood.look import files
from ood.look.folder import Seen
from ood.look.labels import Doubts
from ood.look.shortcut import Shortcut, shortcut

TINY = 32  # pixels along the short side, below which there is hardly a picture
CALIBRATION = 0.2  # of the images, that a data set can usually spare
RATES, CONFIDENCE = (0.05, 0.01), 0.95
LISTED = 10  # names of a kind that are printed; the JSON has all


@dataclass(frozen=True)
class Findings:
    """seen: the folder; side: pixels that the network looks at; doubts and cut: None where there is one class alone."""

    seen: Seen
    side: int
    doubts: Doubts | None
    cut: Shortcut | None

    @classmethod
    def of(cls, seen: Seen, side: int, doubts: Doubts | None) -> "Findings":
        """With what the files' facts tell."""
        return cls(seen, side, doubts, shortcut(files.columns(seen.files), seen.labels, seen.units) if doubts else None)

    def copies(self) -> list[list[str]]:
        """Names of pictures with the same pixels, group by group."""
        found: dict[str, list[str]] = {}
        for name, digest in zip(self.seen.names, self.seen.digests, strict=True):
            found.setdefault(digest, []).append(name)
        return [names for names in found.values() if len(names) > 1]

    def doubtful(self) -> list[dict[str, Any]]:
        """Labels that look wrong: name, what it is labelled, what it looks like, what its own label is believed; most doubtful first."""
        if self.doubts is None or not self.doubts.trusted(self.seen.labels):
            return []
        believed, seen_as, classes = self.doubts.believed(self.seen.labels), self.doubts.seen_as, self.seen.classes
        return [
            {
                "name": self.seen.names[i],
                "labelled": classes[self.seen.labels[i]],
                "looks_like": classes[seen_as[i]],
                "believed": round(float(believed[i]), 4),
            }
            for i in self.doubts.doubtful
        ]

    def by_class(self) -> dict[str, dict[str, Any]]:
        """Per class what its files are."""
        together = {i for group in self.seen.groups for i in group.tolist()}
        doubtful = {row["name"] for row in self.doubtful()}
        table = {}
        for label, name in enumerate(self.seen.classes):
            members = np.flatnonzero(self.seen.labels == label).tolist()
            own = [self.seen.files[i] for i in members]
            table[name] = {
                "images": len(own),
                "short_side": [int(f([file.short for file in own])) for f in (min, np.median, max)] if own else [],
                "encodings": _counted([file.kind for file in own]),
                "modes": _counted([file.mode for file in own]),
                "cameras": _counted([file.camera for file in own]),
                "alike": len(together & set(members)),
                "doubtful": sum(self.seen.names[i] in doubtful for i in members),
            }
        return table

    def promises(self) -> list[dict[str, Any]]:
        """What a part of the images, kept for calibration, can promise."""
        count = int(CALIBRATION * len(np.unique(self.seen.units)))  # look-alikes are no draws of their own
        rows = []
        for rate in RATES:
            kinds: dict[guarantee.Guarantee, float | None] = {"marginal": None, "conditional": CONFIDENCE}
            for kind, sure in kinds.items():
                rank, fewest = guarantee.rank(kind, count, rate, CONFIDENCE), guarantee.fewest(kind, rate, CONFIDENCE)
                rows.append({"rate": rate, "confidence": sure, "images": count, "rank": rank, "fewest": fewest})
        return rows

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Everything, for metrics/look; figures first, lists of names last."""
        seen, groups, copies, doubtful = self.seen, self.seen.groups, self.copies(), self.doubtful()
        counts = np.bincount(seen.labels, minlength=len(seen.classes))
        tiny = [name for name, file in zip(seen.names, seen.files, strict=True) if file.short < TINY]
        crossing = [[seen.names[one], seen.names[other]] for one, other in seen.crossing]
        return {
            "folder": seen.folder,
            "images": len(seen.labels),
            "classes": len(seen.classes),
            "smallest_class": int(counts.min()),
            "largest_class": int(counts.max()),
            "unreadable": len(seen.unreadable),
            "skipped": seen.skipped,
            "tiny": len(tiny),
            "smaller_than_seen": sum(file.short < self.side for file in seen.files),
            "identical": sum(len(names) - 1 for names in copies),
            "alike": sum(map(len, groups)),
            "alike_under_two_classes": len(crossing),
            "doubtful_labels": len(doubtful),
            "accuracy_of_heads": self.doubts and self.doubts.accuracy(seen.labels),
            "shortcut": self.cut and {key: value for key, value in asdict(self.cut).items() if key != "best"} | {"warns": self.cut.warns},
            "promises": self.promises(),
            "by_class": self.by_class(),
            "listed": {
                "unreadable": seen.unreadable,
                "tiny": tiny,
                "identical": copies,
                "alike": [[seen.names[i] for i in group] for group in groups],
                "alike_under_two_classes": crossing,
                "doubtful_labels": doubtful,
            },
        }


def _counted(values: list[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def told(found: Findings, title: str) -> list[str]:
    """The lines that `look` prints."""
    summary = found.summary
    return [
        *_counts(title, summary),
        *_table(summary["by_class"]),
        *_files(found, summary),
        *_likeness(summary),
        *_labels(found, summary),
        *_cut(found),
        *_promised(summary),
    ]


def _counts(title: str, summary: dict[str, Any]) -> list[str]:
    few, many = summary["smallest_class"], summary["largest_class"]
    lines = [f"{title}: {summary['images']:,} pictures, {summary['classes']} classes of {few} to {many}", ""]
    left = [f"{count} {why}" for why, count in summary["skipped"].items() if count]
    return lines[:1] + ([f"left out: {', '.join(left)}"] if left else []) + lines[1:]


def _table(by_class: dict[str, dict[str, Any]]) -> list[str]:
    """A line for each class."""

    def most(counted: dict[str, int]) -> str:
        return ", ".join(name if len(counted) == 1 else f"{name} {count}" for name, count in [*counted.items()][:3])

    rows = [("class", "pictures", "short side", "encoding", "mode", "alike", "doubtful")]
    for name, row in by_class.items():
        low, middle, high = row["short_side"] or (0, 0, 0)
        sides = f"{middle}" if low == high else f"{low} - {middle} - {high}"
        rows.append((name, str(row["images"]), sides, most(row["encodings"]), most(row["modes"]), str(row["alike"]), str(row["doubtful"])))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows] + [""]


def _files(found: Findings, summary: dict[str, Any]) -> list[str]:
    lines = []
    if found.seen.unreadable:
        lines += [f"{_count(summary['unreadable'], 'file')} can't be read:", *_some(found.seen.unreadable)]
    if summary["tiny"]:
        lines += [f"{_count(summary['tiny'], 'picture')} of less than {TINY} pixels along a side:", *_some(summary["listed"]["tiny"])]
    if summary["smaller_than_seen"]:
        lines.append(f"{_count(summary['smaller_than_seen'], 'picture')} of less than the network's {found.side} pixels, enlarged for it")
    return lines


def _likeness(summary: dict[str, Any]) -> list[str]:
    listed, lines = summary["listed"], []
    if summary["identical"]:
        lines += [f"{_count(summary['identical'], 'copy', 'copies')} of another picture, pixel by pixel:"]
        lines += _some([", ".join(one) for one in listed["identical"]])
    if summary["alike"]:
        groups = _count(len(listed["alike"]), "group")
        lines.append(f"{summary['alike']} pictures look like another one, {groups}; `prepare` keeps each on one side of the split")
    if crossing := listed["alike_under_two_classes"]:
        lines += [f"{_count(len(crossing), 'pair')} that look the same, under two classes; one label of each is wrong, or both are right:"]
        lines += _some([" = ".join(pair) for pair in crossing])
    return lines


def _labels(found: Findings, summary: dict[str, Any]) -> list[str]:
    if found.doubts is None:
        return ["one class: nothing to tell apart"]
    accuracy = summary["accuracy_of_heads"]
    if accuracy is None:
        return ["labels were not looked at: no two classes have three pictures each that look different"]
    guess = found.doubts.guess(found.seen.labels)
    lines = [f"heads on the given backbone are right on {accuracy:.1%} of pictures that they haven't seen (by guessing: {guess:.0%})"]
    if not found.doubts.trusted(found.seen.labels):
        lines.append("that is too little to doubt labels by; none is listed")
    left = int((found.doubts.seen_as < 0).sum())
    if left:
        lines.append(f"{_count(left, 'picture')} not judged: of a class that has no three that look different")
    doubtful = summary["listed"]["doubtful_labels"]
    if doubtful:
        lines.append(f"{_count(len(doubtful), 'label')} to look at, the most doubtful first:")
        lines += _some([f"{row['name']}: labelled {row['labelled']}, looks like {row['looks_like']}" for row in doubtful])
    return lines


def _cut(found: Findings) -> list[str]:
    cut = found.cut
    if cut is None or not cut.warns:
        return []
    label, recall = cut.best
    return [
        f"warning: a shortcut. By sizes, encodings and cameras alone (above all {' and '.join(cut.facts)}), without a look at the picture, "
        f"the class is told right for {cut.accuracy:.0%} (chance: {cut.chance:.0%}), most easily {found.seen.classes[label]!r} "
        f"({recall:.0%}). A network may learn that. Take all classes with the same cameras and settings, or bring all to one size and "
        "encoding first."
    ]


def _promised(summary: dict[str, Any]) -> list[str]:
    count = summary["promises"][0]["images"]
    kept = f"{count} pictures, {CALIBRATION:.0%} of those that look different, kept for it alone"
    lines = ["", f"what a threshold promises that is set on {kept}, if those to come are like these:"]
    for row in summary["promises"]:
        kind = "on average" if row["confidence"] is None else f"with {row['confidence']:.0%} confidence"
        rate = f"at most {row['rate']:.0%} false alarms {kind}"
        can = f"may flag {row['rank']} of these" if row["rank"] else f"not with these; it takes {row['fewest']} for calibration"
        lines.append(f"  {rate}: {can}")
    return lines


def _count(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _some(lines: list[str]) -> list[str]:
    """The first lines of a list, indented."""
    more = [f"  ... and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return [f"  {line}" for line in lines[:LISTED]] + more
