"""Codecs side by side on the same images: what is shown, from kept bitstreams where there are any, else by encoding.

Every picture is what another process decoded from the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hvqbench.bench.pictures import Pictures
from hvqbench.bench.plan import Entry, check_device, find_codec
from hvqbench.bench.reading import read_results
from hvqbench.bench.store import Store
from hvqbench.catalog import select_codecs
from hvqbench.codec import image_digest
from hvqbench.errors import HvqbenchError, UnavailableError, say
from hvqbench.grid import NONE
from hvqbench.rate_control import Target, UnreachableError
from hvqbench.selection import parse_choices

if TYPE_CHECKING:
    import pandas as pd

    from hvqbench.bench.task import Decoded
    from hvqbench.codec import Image
    from hvqbench.data import ImageFile
    from hvqbench.metrics.maps import Map

NEAR = 0.1
"""A kept stream this near a rate, relatively, serves for it; else one is made."""

USUAL = ("psnr", "lpips-alex", "dists")
"""The metrics named below a picture, where kept rows have them; the first one always."""


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture of a sheet.

    Parameters
    ----------
    image
        The image's name in the data set.
    codec
        Empty for the original.
    how
        ``kept`` for a decoded bitstream of the results, ``encoded`` for one made now.
    """

    image: str
    pixels: Image = field(repr=False)
    codec: str = ""
    point_name: str = ""
    point: float = math.nan
    bpp: float = math.nan
    values: Mapping[str, float] = field(default_factory=dict)
    how: str = ""
    maps: Mapping[str, Map] = field(default_factory=dict, repr=False)
    """Where a metric sees the difference from the original: float32 H×W, by the metric's id."""

    def record(self) -> dict[str, Any]:
        """All but the pixels and the maps, for JSON."""
        shown = replace(self, pixels=self.pixels[:0], maps={})
        content = {name: value for name, value in asdict(shown).items() if name not in ("pixels", "maps")}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in content.items()}


def reading(value: float, form: str) -> str:
    """*value* of a metric in the format *form*; ∞, as the PSNR of equal pictures is; a dash where there is none."""
    return format(value, form) if math.isfinite(value) else "∞" if value == math.inf else NONE


def shots(
    codecs: Sequence[str],
    dataset: str | Path,
    images: Sequence[str] = (),
    *,
    bpp: float | None = None,
    metrics: Sequence[str] = (),
    maps: Sequence[str] = (),
    results: Path = Path("results"),
    device: str = "cpu",
) -> list[list[Shot]]:
    """For each image the original, and what each codec makes of it at nearly the same rate.

    Parameters
    ----------
    codecs
        Ids, tags or paths, each with ``@POINTS`` for given operating points: a picture for each.
    dataset, images
        A data set's id, a folder or an image; and the names of images in it, by default the first.
    bpp
        The rate to be matched; by default the one at which kept streams of the codecs are nearest to each other.
    metrics
        What to name below the pictures; by default those of :data:`USUAL` that the kept rows have.
    maps
        Metrics whose maps are to be shown, of :data:`hvqbench.metrics.maps.MAPS`.

    Raises
    ------
    HvqbenchError
        An unknown codec, data set, image or metric; no rate to match.
    UnavailableError
        A codec cannot run here.
    """
    from hvqbench.data import load_dataset
    from hvqbench.metrics.maps import load_maps

    check_device(device)
    mappers = load_maps(maps) if maps else {}
    data = load_dataset(dataset)
    chosen = data.named(images) or list(data.images[:1])
    wanted = [
        (source, point)
        for choice in parse_choices(codecs)
        for source in select_codecs(choice.name)
        for point in choice.points or (None,)
    ]
    entries = {name: _ready(name) for name, _ in wanted}
    rows = _kept(results, data.id, [entry.spec.id for entry in entries.values()])
    sheet = []
    with Pictures(device) as pictures:
        for file in chosen:
            own = rows[rows["image"] == file.name]
            if "image_sha256" in own:  # what was made of other pixels is not shown beside these
                own = own[own["image_sha256"] == image_digest(file.read())]
            names = list(metrics) or [m for m in USUAL if m == USUAL[0] or (m in own and own[m].notna().any())]
            maker = _Maker(file, own, Store(results), pictures, bpp, names)
            made = [_mapped(shot, maker.original, mappers) for shot in maker.make([(entries[n], p) for n, p in wanted])]
            sheet.append([Shot(file.name, maker.original), *made])
    return sheet


def _mapped(shot: Shot, original: Image, mappers: Mapping[str, Any]) -> Shot:
    return replace(shot, maps={name: mapper.map(original, shot.pixels) for name, mapper in mappers.items()})


def uneven(sheet: Sequence[Sequence[Shot]], bpp: float | None = None) -> list[str]:
    """A warning for each image whose pictures are more than :data:`NEAR` apart in rate: that is not like for like.

    Of a rate that was named, *bpp*, there is no nearer one to be had by naming it.
    """
    remedy = "" if bpp is not None else "; --bpp brings them nearer"
    warnings = []
    for row in sheet:
        own = sorted((shot for shot in row if shot.codec), key=lambda shot: shot.bpp)
        if own and own[-1].bpp > own[0].bpp * (1 + NEAR):
            least, most = (f"{shot.codec} {shot.bpp:.4f} bpp" for shot in (own[0], own[-1]))
            apart = f"{own[-1].bpp / own[0].bpp:.2f} times the bits"
            warnings.append(f"{own[0].image}: {most} is {apart} of {least}, not like for like{remedy}")
    return warnings


class _Maker:
    """The shots of one image; *rows* are its kept ones."""

    def __init__(
        self,
        file: ImageFile,
        rows: pd.DataFrame,
        store: Store,
        pictures: Pictures,
        bpp: float | None,
        metrics: Sequence[str],
    ) -> None:
        self.file, self.rows, self.store, self.pictures = file, rows, store, pictures
        self.bpp, self.metrics = bpp, metrics
        self.original = file.read()

    def make(self, wanted: Sequence[tuple[Entry, float | None]]) -> Iterator[Shot]:
        target = self.bpp if self.bpp is not None else self._common_rate(wanted)
        for entry, point in wanted:
            row = self._row(entry, point, target)
            data = self.store.stream(row["bitstream_sha256"]) if row is not None else None
            if row is not None and data is not None:
                decoded = self.pictures.decode(entry, data)
                if decoded.digest == row["digest"]:
                    # The row's values are of the pixels that it was measured on: another machine's may differ a bit.
                    known = row if decoded.sha256 == row["reconstruction_sha256"] else {}
                    yield self._shot(entry, row["point"], len(data), decoded, "kept", known)
                    continue
                say(f"{self.file.name}: {entry.spec.id} decodes its kept stream to something else: it is encoded again")
            yield self._encode(entry, point, target)

    def _common_rate(self, wanted: Sequence[tuple[Entry, float | None]]) -> float | None:
        """The rate of the kept stream of one codec to which the others' are nearest."""
        groups = []
        for entry, point in wanted:
            own = self.rows[self.rows["codec"] == entry.spec.id]
            rates = own.loc[own["point"] == point, "bpp"] if point is not None else own["bpp"]
            if len(rates):
                groups.append([float(rate) for rate in rates])
        if not groups:
            return None

        def gap(rate: float) -> float:
            return sum(min(abs(math.log(other / rate)) for other in group) for group in groups)

        return min(groups[0], key=gap)

    def _row(self, entry: Entry, point: float | None, target: float | None) -> Mapping[Any, Any] | None:
        """The kept row that serves."""
        own = self.rows[self.rows["codec"] == entry.spec.id]
        if point is not None:
            own = own[own["point"] == point]
        if own.empty or (point is None and target is None):
            return None
        if point is not None:
            return own.to_dict("records")[0]
        best = min(own.to_dict("records"), key=lambda row: abs(math.log(row["bpp"] / target)))
        near = abs(math.log(best["bpp"] / target)) <= math.log1p(NEAR) if target else False
        # Of a rate that nobody named, the nearest that there is.
        return best if near or self.bpp is None else None

    def _encode(self, entry: Entry, point: float | None, target: float | None) -> Shot:
        wanted = Target("bpp", target) if point is None and target is not None else point
        if wanted is None:
            raise HvqbenchError(
                f"{self.file.name}: there is no kept stream to take a rate from: name one with --bpp 0.1, or a point "
                f"with {entry.spec.id}@{entry.spec.points[0]:g}"
            )
        try:
            made = self.pictures.make(entry, self.original, wanted)
        except UnreachableError as error:
            raise HvqbenchError(
                f"{error}; name another rate with --bpp, or a point with {entry.spec.id}@POINT"
            ) from None
        return self._shot(entry, made.point, len(made.stream.data), made.decoded, "encoded", {})

    def _shot(
        self, entry: Entry, point: float, size: int, decoded: Decoded, how: str, known: Mapping[Any, Any]
    ) -> Shot:
        from hvqbench.metrics import load_metric

        height, width = self.original.shape[:2]
        values = {}
        for name in self.metrics:
            value = known.get(name, math.nan)
            values[name] = float(value) if value == value else load_metric(name)(self.original, decoded.image)
        rate = 8 * size / (width * height)
        return Shot(self.file.name, decoded.image, entry.spec.id, entry.spec.point_name, point, rate, values, how)


def _ready(name: str) -> Entry:
    entry = find_codec(name)
    if (reason := entry.unavailable()) or entry.codec is None:
        raise UnavailableError(f"codec {entry.spec.id} cannot run here: {reason or entry.broken}")
    return entry


def _kept(results: Path, dataset: str, codecs: Sequence[str]) -> pd.DataFrame:
    """The finished rows of those codecs; none where there are no results."""
    import pandas as pd

    try:
        rows = read_results(results)
    except HvqbenchError:
        return pd.DataFrame(columns=["codec", "image", "point", "bpp"])
    return rows[(rows["dataset"] == dataset) & rows["codec"].isin(list(codecs)) & (rows["status"] == "ok")]
