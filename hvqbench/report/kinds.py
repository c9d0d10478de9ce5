"""The kinds of figures: what each draws of a scope. Each yields pairs of a name to add to the file's, and a figure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from hvqbench.errors import HvqbenchError
from hvqbench.report.scope import Scope
from hvqbench.report.spec import FigureSpec
from hvqbench.report.style import file_name, image_file_name, looks
from hvqbench.report.tables import label

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from hvqbench.analysis.indices import Inspection
    from hvqbench.data import ImageFile

Figures = Iterator[tuple[str, "Figure"]]


def _rd(spec: FigureSpec, scope: Scope) -> Figures:
    from hvqbench.report.figures import rd_figure

    for dataset in scope.datasets:
        curves = scope.curves(dataset)
        if not curves:
            continue
        of_images = [m for m in curves if m in scope.of_images]
        bands = {
            (metric, curve.codec): band
            for metric in of_images
            for curve in curves[metric]
            if not curve.published and (band := scope.source.band(curve.codec, metric, dataset)) is not None
        }
        options = {"bands": bands, "order": scope.codecs, "width": spec.width, "labels": spec.labels, "bpp": spec.bpp}
        yield file_name(dataset), rd_figure(curves, scope.infos, scope.classic, **options)  # type: ignore[arg-type]


def _ledger(spec: FigureSpec, scope: Scope) -> Figures:
    from hvqbench.report.ledger import ledger_figure, ledger_points
    from hvqbench.report.tables import points_table

    for dataset, points in points_table(scope.ok, []).groupby("dataset", sort=True) if len(scope.ok) else ():
        rows = ledger_points(points, scope.codecs, spec.point)
        if len(rows):
            yield file_name(str(dataset)), ledger_figure(rows, spec.width)


def _per_image(spec: FigureSpec, scope: Scope) -> Figures:
    from hvqbench.curves import is_published
    from hvqbench.report.per_image import image_bd_rates, per_image_figure

    shown_as = looks(scope.codecs, scope.classic)
    for dataset in scope.datasets:
        for anchor in (name for name in scope.anchors if not is_published(name)):
            for metric, info in scope.of_images.items():
                rows = scope.with_anchors
                rows = rows[(rows["dataset"] == dataset) & (rows["status"] == "ok")]
                if anchor not in set(rows["codec"].unique()):
                    continue
                percents = {}
                for codec in (c for c in scope.codecs if c != anchor and c in set(rows["codec"].unique())):
                    values = image_bd_rates(scope.source.curves, codec, anchor, metric, dataset)[1]
                    if np.isfinite(values).sum() > 1:
                        percents[codec] = values[np.isfinite(values)]
                if percents:
                    name = file_name(f"{dataset}-{metric}" + (f"-{anchor}" if len(scope.anchors) > 1 else ""))
                    yield name, per_image_figure(percents, shown_as, anchor, info.title, spec.width)


def _speed(spec: FigureSpec, scope: Scope) -> Figures:
    from hvqbench.analysis import bd_table
    from hvqbench.report.speed import speed_figure

    timing = scope.source.timing
    if timing is None or not len(timing):
        scope.source.lack(f"figure speed: no timing pass; {scope.source.run_advice('', '--timing')}")
        return
    timing = timing[(timing["status"] == "ok") & ~timing["busy"].astype(bool)]
    if timing.empty:
        scope.source.lack("figure speed: others were working beside every round of the timing pass: time again alone")
        return
    shown_as = looks(scope.codecs, scope.classic)
    metric = next(iter(scope.of_images), "")
    calls_of = {str(name): calls for name, calls in timing.groupby("dataset", sort=True)}
    for dataset, calls in calls_of.items() if metric else ():
        for anchor in scope.anchors if dataset in scope.datasets else ():
            try:
                rows = scope.source.curves.part(scope.with_anchors)
                bd = bd_table(rows, anchor, metric, dataset).set_index("codec")
            except HvqbenchError as error:
                scope.source.lack(f"figure speed: {error}")
                continue
            bd.loc[anchor, ["bd_rate_percent", "ci_low", "ci_high"]] = (0.0, np.nan, np.nan)
            fast = speeds(calls).join(bd[["bd_rate_percent", "ci_low", "ci_high"]], on="codec")
            shown = fast[fast["codec"].isin(scope.codecs) & fast["bd_rate_percent"].notna()]
            for codec in fast.loc[fast["bd_rate_percent"].isna(), "codec"]:
                scope.source.lack(f"figure speed: {codec} has no BD-rate against {label(anchor)} in {metric}")
            if len(shown) > 1:  # a lone point compares nothing
                name = file_name(dataset + (f"-{anchor}" if len(scope.anchors) > 1 else ""))
                title = scope.infos[metric].title
                yield name, speed_figure(shown, shown_as, label(anchor), title, spec.width)


def _usage(spec: FigureSpec, scope: Scope) -> Figures:
    from hvqbench.report.indices import usage_figure

    for dataset, codec, inspection, _ in _inspections(spec, scope):
        yield file_name(f"{dataset}-{codec}"), usage_figure(inspection)


def _bits(spec: FigureSpec, scope: Scope) -> Figures:
    from hvqbench.report.indices import bits_figure

    for dataset, codec, inspection, images in _inspections(spec, scope):
        for file, bits in zip(images, inspection.maps, strict=True):
            figure = bits_figure(file.read(), bits, inspection.factor, inspection.counts.shape[1])
            yield f"{file_name(f'{dataset}-{codec}')}-{image_file_name(file.name)}", figure


KINDS: Mapping[str, Callable[[FigureSpec, Scope], Figures]] = {
    "rd": _rd,
    "ledger": _ledger,
    "per-image": _per_image,
    "speed": _speed,
    "usage": _usage,
    "bits": _bits,
}


def speeds(calls: pd.DataFrame) -> pd.DataFrame:
    """Megapixels per second of each codec, ``encode`` and ``decode``: of all its points, each call once."""
    import pandas as pd

    from hvqbench.report.sections import speed

    rows = [(codec, speed(own, "encode"), speed(own, "decode")) for codec, own in calls.groupby("codec", sort=False)]
    return pd.DataFrame(rows, columns=["codec", "encode", "decode"])


def _inspections(spec: FigureSpec, scope: Scope) -> Iterator[tuple[str, str, Inspection, list[ImageFile]]]:
    """The VQ codecs' indices, by running them: no row of the results has these."""
    from hvqbench.adapters.vq import VQCodec
    from hvqbench.analysis.indices import inspect_codec
    from hvqbench.catalog import load_codec
    from hvqbench.data import load_dataset

    for dataset in scope.datasets:
        for name in scope.codecs:
            try:
                codec = load_codec(name)
                if not isinstance(codec, VQCodec):
                    continue
                images = list(load_dataset(dataset).images)
            except HvqbenchError as error:
                scope.source.lack(f"figure {spec.kind}: {error}")
                continue
            if reason := codec.unavailable():
                scope.source.lack(f"figure {spec.kind}: codec {name} cannot run here: {reason}")
                continue
            chosen = [image for image in images if image.name in spec.images] if spec.images else images[:1]
            if not chosen:
                scope.source.lack(f"figure {spec.kind}: {dataset} has no image {', '.join(spec.images)}")
                continue
            codec.prepare("cpu")
            yield dataset, name, inspect_codec(codec, chosen, spec.point or 0.0), chosen
