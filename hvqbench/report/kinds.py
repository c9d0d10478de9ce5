"""The kinds of figures: what each draws of a scope, with a name to add to the file's and a caption."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hvqbench.errors import HvqbenchError
from hvqbench.files import file_name, image_file_name
from hvqbench.report import captions
from hvqbench.report.scope import Scope
from hvqbench.report.spec import FigureSpec
from hvqbench.report.style import looks
from hvqbench.report.tables import label

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from hvqbench.data import ImageFile
    from hvqbench.vq.inspect import Inspection


@dataclass(frozen=True, eq=False)
class Drawn:
    """A figure, what is added to the name of its files, and its caption."""

    name: str
    figure: Figure
    caption: str


Figures = Iterator[Drawn]


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
        names, infos = scope.names, scope.named_infos
        shown = {metric: [names.curve(curve) for curve in of_metric] for metric, of_metric in curves.items()}
        classic = frozenset(map(names, scope.classic))
        note = captions.partial(curve for of_metric in curves.values() for curve in of_metric)
        figure = rd_figure(
            shown,
            infos,
            classic,
            bands={(metric, names(codec)): band for (metric, codec), band in bands.items()},
            order=list(map(names, scope.codecs)),
            width=spec.width,
            labels=spec.labels,
            bpp=spec.bpp,
            note=note,
        )
        caption = captions.rd(shown, infos, names(dataset), classic, bool(bands))
        yield Drawn(file_name(dataset), figure, caption)


def _ledger(spec: FigureSpec, scope: Scope) -> Figures:
    from hvqbench.report.ledger import ledger_figure, ledger_points
    from hvqbench.report.tables import points_table

    for dataset, points in points_table(scope.ok, []).groupby("dataset", sort=True) if len(scope.ok) else ():
        rows = ledger_points(points, scope.codecs, spec.point)
        if len(rows):
            caption = captions.ledger(captions.place(scope.names(str(dataset)), rows["images"]))
            figure = ledger_figure(rows.assign(codec=rows["codec"].map(scope.names)), spec.width)
            yield Drawn(file_name(str(dataset)), figure, caption)


def _per_image(spec: FigureSpec, scope: Scope) -> Figures:
    from hvqbench.curves import is_published
    from hvqbench.report.per_image import codec_percents, per_image_figure

    shown_as = {scope.names(codec): of_codec for codec, of_codec in looks(scope.codecs, scope.classic).items()}
    for dataset in scope.datasets:
        for anchor in (name for name in scope.anchors if not is_published(name)):
            for metric in scope.of_images:
                percents = codec_percents(scope, dataset, anchor, metric)
                if percents:
                    name = file_name(f"{dataset}-{metric}" + (f"-{anchor}" if len(scope.anchors) > 1 else ""))
                    names, title = scope.names, scope.named_infos[metric].title
                    called = {names(codec): values for codec, values in percents.items()}
                    figure = per_image_figure(called, shown_as, names(anchor), title, spec.width)
                    where = captions.place(names(dataset), map(len, percents.values()))
                    caption = captions.per_image(where, names(anchor), title)
                    yield Drawn(name, figure, caption)


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
    names = scope.names
    shown_as = {names(codec): of_codec for codec, of_codec in looks(scope.codecs, scope.classic).items()}
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
                title, against = scope.named_infos[metric].title, names.text(label(anchor))
                shown = shown.assign(codec=shown["codec"].map(names))
                figure = speed_figure(shown, shown_as, against, title, spec.width)
                counts = bd.loc[bd.index.isin(scope.codecs), "images"].dropna()
                where = captions.place(names(dataset), counts.astype(int))
                caption = captions.speed(where, against, title)
                yield Drawn(name, figure, caption)


def _usage(spec: FigureSpec, scope: Scope) -> Figures:
    from hvqbench.report.indices import usage_figure

    for dataset, codec, inspection, images in _inspections(spec, scope):
        where = captions.place(scope.names(dataset), [len(images)])
        caption = captions.usage(where, scope.names(codec), spec.point or 0.0)
        yield Drawn(file_name(f"{dataset}-{codec}"), usage_figure(inspection), caption)


def _bits(spec: FigureSpec, scope: Scope) -> Figures:
    from hvqbench.report.indices import bits_figure

    for dataset, codec, inspection, images in _inspections(spec, scope):
        for file, bits in zip(images, inspection.maps, strict=True):
            figure = bits_figure(file.read(), bits, inspection)
            name = f"{file_name(f'{dataset}-{codec}')}-{image_file_name(file.name)}"
            where = f"{file.name} of {scope.names(dataset)} (1 image)"
            caption = captions.bits(where, scope.names(codec), spec.point or 0.0)
            yield Drawn(name, figure, caption)


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
    from hvqbench.catalog import load_codec
    from hvqbench.data import load_dataset
    from hvqbench.vq.inspect import inspect_codec

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
