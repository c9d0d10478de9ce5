"""Two codecs to compare: their curves over the images that both have.

Either may be a published one, ``published:vtm``. Most are of means: then the other's curve is of all of its images. One
whose images were published is compared over the images that both have, like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hvqbench.analysis.curves import COLUMNS, Curve, mean_curve, the_dataset
from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class CurvePair:
    """The curves of *anchor* and *test* over the same images, and what had to be done for that, as flags."""

    anchor: Curve
    test: Curve
    dataset: str
    images: int
    flags: tuple[str, ...]


class Curves:
    """The curves in a table of results, each made once, however many comparisons it is part of."""

    def __init__(self, results: pd.DataFrame) -> None:
        self.results = results
        self._made: dict[tuple[str, str, str], Curve] = {}

    @cached_property
    def _groups(self) -> Any:
        """Where the rows of each data set and codec are."""
        return self.results.groupby(["dataset", "codec"], sort=False).indices if len(self.results) else {}

    def part(self, rows: pd.DataFrame) -> Curves:
        """The curves in *rows*, which are all rows of some codecs on some data sets; what one makes, the other has."""
        curves = Curves(rows)
        curves._made = self._made
        return curves

    def get(self, codec: str, metric: str, dataset: str) -> Curve:
        """The curve of *codec*, measured, or published where its name says so."""
        place = (codec, metric, dataset)
        if place not in self._made:
            self._made[place] = self._make(*place)
        return self._made[place]

    def _make(self, codec: str, metric: str, dataset: str) -> Curve:
        from hvqbench.curves.library import is_published, published_curve

        if is_published(codec):
            return published_curve(codec, metric, dataset)
        if (own := self._groups.get((dataset, codec))) is None:
            return mean_curve(self.results, codec, metric, dataset)  # of all rows it says which codecs there are
        needed = [name for name in dict.fromkeys((*COLUMNS, metric)) if name in self.results]  # the others are long
        return mean_curve(self.results[needed].iloc[own], codec, metric, dataset)


def curve_pair(
    results: pd.DataFrame | Curves, codec: str, anchor: str, metric: str, dataset: str | None = None
) -> CurvePair:
    """The curves of *codec* and *anchor*, over the images that both have; see :func:`hvqbench.analysis.bd_rate`."""
    from hvqbench.curves.library import is_published

    curves = results if isinstance(results, Curves) else Curves(results)
    if dataset is None or not (is_published(anchor) and is_published(codec)):
        dataset = the_dataset(curves.results, dataset)
    first, second = (curves.get(name, metric, dataset) for name in (anchor, codec))
    common = sorted(set(first.images) & set(second.images))
    said: list[str] = []
    if (first.published or second.published) and not (common and _has_images(first) and _has_images(second)):
        measured = [curve for curve in (first, second) if not curve.published]
        images = len(measured[0].images) if measured else 0
        said = ["published", *(["part_of_set"] if any(map(_is_part, measured)) else [])]
    else:
        named = common
        common = [name for name in named if _same(first.sha256.get(name), second.sha256.get(name))]
        images = len(common)
        if len(common) < len(named):
            said.append("pixels_differ")
        if any(len(curve.images) != len(named) for curve in (first, second)):
            said.append("images_differ")
        if said:
            first, second = first.of(common), second.of(common)
        if first.published or second.published:
            said.append("published_images")
    if first.version and second.version and first.version != second.version:
        said.append("versions_differ")
    return CurvePair(first, second, dataset, images, tuple(said))


def _same(one: str | None, other: str | None) -> bool:
    """Whether two images of one name may be one, by the hashes of their pixels, where they are known."""
    return one == other or one is None or other is None


def _has_images(curve: Curve) -> bool:
    """Whether a curve can be compared image by image; a published one of means and one of whole sets cannot."""
    return len(curve.image_values) > 0


def _is_part(curve: Curve) -> bool:
    """Whether a measured *curve* is of fewer images than its data set has, where the catalog knows that."""
    from hvqbench.catalog import dataset_files
    from hvqbench.manifest import read_manifest

    files = dataset_files()
    return curve.dataset in files and len(curve.images) < read_manifest(files[curve.dataset]).images


def comparisons(
    results: pd.DataFrame,
    anchor: str,
    metrics: Sequence[str],
    dataset: str | None = None,
    published: Sequence[str] = (),
) -> Iterator[tuple[str, str, str]]:
    """Data set, metric and codec of everything that can be compared with *anchor*.

    All data sets that have the anchor are taken unless one is named. *published* are codecs to compare as well, where
    they have a curve; the anchor may be published too.
    """
    from hvqbench.curves.library import PREFIX, has_curve, is_published

    extra = [PREFIX + name.removeprefix(PREFIX) for name in published]
    for name in _datasets(results, anchor, metrics, dataset):
        measured = list(results.loc[results["dataset"] == name, "codec"].unique())
        for metric in metrics:
            if not is_published(anchor) or has_curve(anchor, metric, name):
                codecs = [*measured, *(codec for codec in extra if has_curve(codec, metric, name))]
                yield from ((name, metric, codec) for codec in codecs if codec != anchor)


def _datasets(results: pd.DataFrame, anchor: str, metrics: Sequence[str], dataset: str | None) -> list[str]:
    """The data sets on which there is a curve of *anchor*, or *dataset* alone."""
    from hvqbench.curves.library import extent, find_published, is_published, published_points

    if not is_published(anchor):
        if dataset is not None:
            return [the_dataset(results, dataset)]
        datasets = sorted(results.loc[results["codec"] == anchor, "dataset"].unique())
        if not datasets:
            known = ", ".join(sorted(results["codec"].unique()))
            raise HvqbenchError(f"the results have no codec {anchor!r}: they have {known}; run it first")
        return datasets
    codecs = find_published([anchor])
    if len(codecs) > 1:
        raise HvqbenchError(
            f"{anchor} is {len(codecs)} published curves, an anchor is one: name one of {', '.join(codecs)}"
        )
    own = [point for point in published_points() if point.codec == codecs[0]]
    wanted = {dataset} if dataset else set(results["dataset"].unique()) or {point.dataset for point in own}
    datasets = sorted({point.dataset for point in own if point.metric in metrics and point.dataset in wanted})
    if not datasets:
        asked = f"{', '.join(metrics)} on {', '.join(sorted(wanted))}"
        raise HvqbenchError(f"no published curve of {codecs[0]} in {asked}: there is {extent(own)}; choose among these")
    return datasets
