"""The views of ``hvqbench bd``: one comparison of codecs at equal quality, told in several ways."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hvqbench.analysis.bd import bd_table
from hvqbench.analysis.curves import COLUMNS
from hvqbench.analysis.pairs import Curves, comparisons
from hvqbench.errors import HvqbenchError, did_you_mean
from hvqbench.grid import grid

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class View:
    """What a command prints: *text* for a person, *records* for JSON; *nothing* if no comparison gave a number."""

    text: str
    records: Any
    nothing: bool

    @property
    def json(self) -> str:
        """*records* as JSON, with null where there is no number."""
        return json.dumps(_plain(self.records), indent=2, ensure_ascii=False)


class Comparison:
    """The codecs of *results* (only *codecs*, if any are named) against *anchor* in *metrics*."""

    def __init__(
        self,
        results: str | Path,
        anchor: str | None,
        metrics: Sequence[str],
        codecs: Sequence[str] = (),
        dataset: str | None = None,
        method: str = "akima",
    ) -> None:
        from hvqbench.bench.reading import read_results, to_frame
        from hvqbench.bench.store import Store
        from hvqbench.curves import find_published, is_published

        measured = [name for name in codecs if not is_published(name)]
        only_published = codecs and not measured and anchor is not None and is_published(anchor)
        known = {place.codec for place in Store(results).partitions()}
        for name in measured if known else ():
            if name not in known:
                raise did_you_mean("codec", name, known)
        # Of a large store only what the curves are made of is read.
        chosen = [*measured, *([anchor] if anchor in known else [])] if codecs else None
        columns = {*COLUMNS, *metrics}
        self.rows = to_frame([]) if only_published else read_results(results, codecs=chosen, columns=columns)
        self.published = find_published(name for name in codecs if is_published(name))
        self.place, self.metrics, self.dataset, self.method = results, list(metrics), dataset, method
        self._anchor, self.curves = anchor, Curves(self.rows)

    @property
    def anchor(self) -> str:
        if self._anchor is None:
            raise HvqbenchError("there is no anchor to compare with: name one with --anchor, or all with --matrix")
        return self._anchor

    def rates(self) -> View:
        """BD-rates, one line each."""
        table = self._table()
        lines = list(table["text"])
        if ((table["codec_points"] == 1) & (table["anchor_points"] > 1)).any():
            lines.append("A codec of one point has no BD-rate: --gap has what it needs at equal quality.")
        return View("\n".join(lines), table, bool(table["bd_rate_percent"].isna().all()))

    def images(self) -> View:
        """Each image's BD-rate, best first, and the three averages."""
        from hvqbench.analysis.estimands import per_image

        parts, records, found = [], [], 0
        for dataset, metric, codec in self._pairs():
            of_images = per_image(self.curves, codec, self.anchor, metric, dataset, self.method)
            table = of_images.table
            rows = [
                [str(image), _percent(percent), str(flags)]
                for image, percent, flags in zip(table["image"], table["bd_rate_percent"], table["flags"], strict=True)
            ]
            drawn = grid(["image", "BD-rate", "flags"], rows) if of_images.images else ""
            parts.append(f"{of_images.text}\n\n{drawn}".strip())
            records.append(of_images)
            found += of_images.images
        return View("\n\n".join(parts), records, not found)

    def matrix(self) -> View:
        """Codecs by metrics; without an anchor, for each metric all codecs against all."""
        from hvqbench.analysis.matrix import anchor_matrix, square_matrix

        if self._anchor is not None:
            wide = anchor_matrix(self._table())
            titles = [" on ".join(reversed(place)) for place in wide.index]
            text = f"BD-rate against {self.anchor}\n\n{_percents(titles, wide)}"
            return View(text, wide.reset_index(), bool(wide.isna().all(axis=None)))
        squares = {m: square_matrix(self.rows, m, self.dataset, self.method) for m in self.metrics}
        text = "\n\n".join(f"{m}: rows against columns\n\n{_percents(s.index, s)}" for m, s in squares.items())
        return View(
            text,
            {m: s.reset_index() for m, s in squares.items()},
            all(s.isna().all(axis=None) for s in squares.values()),
        )

    def gaps(self) -> View:
        """Each operating point's rate over the anchor's curve at equal quality."""
        from hvqbench.analysis.rate_gap import rate_gaps

        found = [
            gap
            for dataset, metric, codec in self._pairs()
            for gap in rate_gaps(self.curves, codec, self.anchor, metric, dataset, self.method)
        ]
        return View("\n".join(g.text for g in found), found, all(math.isnan(g.rate_gap_percent) for g in found))

    def at_rate(self) -> View:
        """The change of the metric at equal rate."""
        from hvqbench.analysis.bd_metric import bd_metric

        found = [bd_metric(self.curves, c, self.anchor, m, d, self.method) for d, m, c in self._pairs()]
        return View("\n".join(one.text for one in found), found, all(math.isnan(one.change) for one in found))

    def over_quality(self, path: Path) -> View:
        """The change of rate at each quality, drawn into the file *path*, and as records."""
        import pandas as pd

        from hvqbench.analysis.rcd import rate_over_quality
        from hvqbench.report.changes import rate_figure
        from hvqbench.report.style import save_figure

        tables = [rate_over_quality(self.curves, c, self.anchor, m, d, self.method) for d, m, c in self._pairs()]
        table = pd.concat(tables, ignore_index=True)
        if table.empty:
            return View("no figure: no curve shares a range of quality with the anchor's", table, True)
        kind = path.suffix.lstrip(".") or "png"
        (written,) = save_figure(rate_figure(table), path.with_suffix(""), [kind])
        return View(str(written), table, False)

    def _pairs(self) -> Iterator[tuple[str, str, str]]:
        pairs = list(comparisons(self.rows, self.anchor, self.metrics, self.dataset, self.published))
        if not pairs:
            raise self._nobody()
        yield from pairs

    def _table(self) -> pd.DataFrame:
        table = bd_table(self.rows, self.anchor, self.metrics, self.dataset, self.method, self.published)
        if table.empty:
            raise self._nobody()
        return table

    def _nobody(self) -> HvqbenchError:
        return HvqbenchError(
            f"{self.place} has no codec to compare with {self.anchor!r}: run one more over the same images"
        )


def _percents(titles: Iterable[str], table: pd.DataFrame) -> str:
    rows = [[title, *map(_percent, row)] for title, row in zip(titles, table.to_numpy(), strict=True)]
    return grid(["", *map(str, table.columns)], rows)


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+.2f} %"


def _plain(value: Any) -> Any:
    """*value* as JSON has it: tables and dataclasses as records, null for what is no number."""
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        return _plain(value.to_dict("records"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
