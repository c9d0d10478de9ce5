"""May I compare? What two numbers must share before one may stand beside the other, and what must be said beside them.

The rules are :data:`CHECKS`, one line each; ``docs/what-may-i-compare.md`` explains them. They are about how numbers
were taken, not about the codecs: same images, same metric, real bytes, the image in its own size. Whether a BD-rate of
the two means anything is another question, which its own flags answer (:data:`hvqbench.analysis.bd.FLAGS`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hvqbench.analysis.pairs import Curves
from hvqbench.errors import HvqbenchError
from hvqbench.manifest import size_of
from hvqbench.protocol import FLAGS as PROTOCOL_FLAGS
from hvqbench.protocol import codec_flags, published_flags

if TYPE_CHECKING:
    import pandas as pd

    from hvqbench.analysis.curves import Curve

Verdict = Literal["yes", "with care", "no"]
UNCODED = ("estimated-rate", "nominal-rate")
"""Flags of rates behind which there is no file."""

CHECKS: Mapping[str, tuple[Verdict, str]] = {
    "other_set": ("no", "no data set has results of both"),
    "other_metric": ("no", "one of them has no value of this metric there; another id is another metric"),
    "other_images": ("no", "no image has a value of both, or a metric of whole sets is of other images"),
    "versions_differ": ("no", "the values are of different versions of the metric"),
    "bytes_and_estimates": ("no", "one's bits are a file's, and behind the other's no file was ever coded"),
    "part_of_set": ("with care", "a part of the data set was measured, the published numbers are of all of it"),
    "images_differ": ("with care", "some images have a value of one only: compare over those that both have"),
    "published": (
        "with care",
        "published numbers are means, so there is no interval; their protocol is their authors'",
    ),
    "padded": ("with care", "the source divides its bits by the pixels of a padded image, which makes them look fewer"),
    **{flag: ("with care", text) for flag, text in PROTOCOL_FLAGS.items()},
}
"""What keeps two numbers apart (``no``), and what has to be said where they stand side by side (``with care``)."""


@dataclass(frozen=True)
class Judgement:
    """Whether *codec* may be compared with *anchor* on *dataset* in *metric*.

    Parameters
    ----------
    found
        Keys of :data:`CHECKS` that hold, in their order, and more about each.
    images
        How many images both have; 0 where that is not known.
    """

    codec: str
    anchor: str
    dataset: str
    metric: str
    found: Mapping[str, str] = field(default_factory=dict)
    images: int = 0

    @property
    def verdict(self) -> Verdict:
        """The worst of what was found."""
        verdicts = {CHECKS[key][0] for key in self.found}
        return "no" if "no" in verdicts else "with care" if verdicts else "yes"

    @property
    def text(self) -> str:
        """For a person: the verdict, and a line for each reason."""
        where = f" on {self.dataset}" if self.dataset else ""
        where += f" in {self.metric}" if self.metric else ""
        where += f", {self.images} images" if self.images else ""
        lines = [f"{self.verdict:<9}  {self.codec} and {self.anchor}{where}"]
        reasons = {key: CHECKS[key][1] + (f" ({more})" if more else "") for key, more in self.found.items()}
        lines += [f"           {key}: {reason}" for key, reason in reasons.items()]
        return "\n".join(lines)

    def record(self) -> dict[str, object]:
        """For JSON."""
        place = {"codec": self.codec, "anchor": self.anchor, "dataset": self.dataset, "metric": self.metric}
        return place | {"verdict": self.verdict, "images": self.images, "found": dict(self.found)}


def judge(
    results: pd.DataFrame | Curves,
    codec: str,
    anchor: str,
    metrics: Sequence[str] = (),
    dataset: str | None = None,
) -> list[Judgement]:
    """Judge *codec* against *anchor*, measured or ``published:NAME``, on each data set and in each metric.

    Parameters
    ----------
    metrics
        Ids; by default all that either has on that data set.
    dataset
        By default every one that has both.
    """
    curves = results if isinstance(results, Curves) else Curves(results)
    sides = [_Side(curves, name) for name in (codec, anchor)]
    shared = [name for name in sides[0].metrics if name in sides[1].metrics and dataset in (None, name)]
    if not shared:
        have = "; ".join(f"{side.name}: {', '.join(side.metrics) or 'none'}" for side in sides)
        return [Judgement(codec, anchor, dataset or "", "", {"other_set": have})]
    return [
        _judge(curves, sides, name, metric)
        for name in shared
        for metric in metrics or dict.fromkeys([*sides[0].metrics[name], *sides[1].metrics[name]])
    ]


def judge_results(
    folder: str | Path, codec: str, anchor: str, metrics: Sequence[str] = (), dataset: str | None = None
) -> list[Judgement]:
    """:func:`judge` of the results in *folder*; two published codecs need none.

    Raises
    ------
    HvqbenchError
        An unknown codec, published curve or metric; no results.
    """
    from hvqbench.bench.reading import read_results, to_frame
    from hvqbench.curves import curve_metric, is_published
    from hvqbench.selection import choose_among, only_points

    for metric in metrics:
        curve_metric(metric)  # refuses one that does not exist
    measured = [name for name in (codec, anchor) if not is_published(name)]
    rows = read_results(folder) if measured else to_frame([])
    known = list(rows["codec"].unique()) if measured else []
    names = []
    for name in (codec, anchor):
        chosen = {name: ()} if is_published(name) else choose_among(name, known)
        if len(chosen) > 1:
            raise HvqbenchError(
                f"{name!r} names {len(chosen)} codecs: compare one at a time, {next(iter(chosen))}, say"
            )
        rows = only_points(rows, chosen)
        names.append(next(iter(chosen)))
    return judge(rows, names[0], names[1], metrics, dataset)


def unlike(curves: Curves, names: Iterable[str], dataset: str) -> dict[str, tuple[str, ...]]:
    """How the bits and pixels of the codecs *names* are not like for like on *dataset*: label to keys of CHECKS."""
    sides = [_Side(curves, name) for name in dict.fromkeys(names)]
    return {side.label: side.flags(dataset) for side in sides}


def explain_unlike(marked: Mapping[str, Collection[str]]) -> list[str]:
    """What each key of :data:`CHECKS` means and whose it is, a line for each that occurs."""
    owners = {key: [label for label, own in marked.items() if key in own] for key in CHECKS}
    return [f"{key} ({', '.join(owners[key])}): {text}" for key, (_, text) in CHECKS.items() if owners[key]]


class _Side:
    """One of the two: what it has on each data set."""

    def __init__(self, curves: Curves, name: str) -> None:
        from hvqbench.curves.library import PREFIX, is_published, published_points

        self.name, self.published = name, is_published(name)
        self.label = f"{name.removeprefix(PREFIX)} (published)" if self.published else name
        self.metrics: dict[str, list[str]] = {}
        self._flags: dict[str, tuple[str, ...]] = {}
        if self.published:
            own = [point for point in published_points() if point.codec == name.removeprefix(PREFIX)]
            if not own:
                raise HvqbenchError(f"unknown published curve {name!r}: `hvqbench curves ls` lists them all")
            for point in own:
                metrics = self.metrics.setdefault(point.dataset, [])
                metrics += [point.metric] if point.metric not in metrics else []
                padded = ["padded"] if "padded pixels" in point.protocol else []
                flags = (*self._flags.get(point.dataset, ()), published_flags(point.protocol), *padded)
                self._flags[point.dataset] = tuple(dict.fromkeys(filter(None, flags)))
            return
        rows = curves.results[curves.results["codec"] == name]
        rows = rows[rows["status"].isin(["ok", "set"])]
        flags_of = codec_flags(rows) if len(rows) else {}
        for dataset, of_set in rows.groupby("dataset", sort=True):
            self.metrics[str(dataset)] = [metric for metric in _metrics(rows) if of_set[metric].notna().any()]
            self._flags[str(dataset)] = tuple(flags_of.get(name, "").split())

    def flags(self, dataset: str) -> tuple[str, ...]:
        """Keys of :data:`CHECKS` about its bits and pixels there."""
        return self._flags.get(dataset, ())


def _judge(curves: Curves, sides: Sequence[_Side], dataset: str, metric: str) -> Judgement:
    codec, anchor = sides
    lacking = [side for side in sides if metric not in side.metrics[dataset]]
    if lacking:
        have = "; ".join(f"{side.name} has {', '.join(side.metrics[dataset]) or 'none'}" for side in lacking)
        return Judgement(codec.name, anchor.name, dataset, metric, {"other_metric": have})
    pair = [curves.get(side.name, metric, dataset) for side in sides]
    found = dict(_of_images(pair))
    if pair[0].version and pair[1].version and pair[0].version != pair[1].version:
        found["versions_differ"] = f"{pair[0].version}, {pair[1].version}"
    flags = [side.flags(dataset) for side in sides]
    if any(set(UNCODED) & {*own} for own in flags) and not all(set(UNCODED) & {*own} for own in flags):
        found["bytes_and_estimates"] = ""
    for side in sides:
        for flag in side.flags(dataset):
            found[flag] = ", ".join(filter(None, [found.get(flag, ""), side.label]))
    common = set(pair[0].images) & set(pair[1].images)
    ordered = {key: found[key] for key in CHECKS if key in found}
    return Judgement(codec.name, anchor.name, dataset, metric, ordered, len(common))


def _of_images(pair: Sequence[Curve]) -> Iterator[tuple[str, str]]:
    first, second = pair
    of_means = [curve for curve in pair if curve.published and not curve.images]
    if of_means:
        yield "published", ", ".join(curve.label for curve in of_means)
        for curve in pair:
            whole = size_of(curve.dataset)
            if not curve.published and whole is not None and len(curve.images) < whole:
                yield "part_of_set", f"{curve.codec}: {len(curve.images)} of {whole} images"
        return
    common = set(first.images) & set(second.images)
    of_sets = not (len(first.image_values) and len(second.image_values))
    if not common or (of_sets and set(first.images) != set(second.images)):
        yield "other_images", f"{len(first.images)} and {len(second.images)} images, {len(common)} in common"
    elif set(first.images) != set(second.images):
        yield "images_differ", f"{len(first.images)} and {len(second.images)} images, {len(common)} in common"


def _metrics(rows: pd.DataFrame) -> list[str]:
    """The columns of metrics."""
    from hvqbench.metrics import PYIQA, metric_ids

    return [*(n for n in metric_ids() if n in rows), *(n for n in rows.columns if n.startswith(PYIQA))]
