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
from hvqbench.errors import HvqbenchError
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
        from hvqbench.curves import curve_metric, find_published, is_published
        from hvqbench.selection import choose_among, only_points

        for name in metrics:
            curve_metric(name)  # refuses one that does not exist
        measured = [name for name in codecs if not is_published(name)]
        only_published = codecs and not measured and anchor is not None and is_published(anchor)
        known = {place.codec for place in Store(results).partitions()}
        chosen = choose_among(measured, known) if known else {}
        if known and anchor is not None and not is_published(anchor):
            (anchor, points), *others = choose_among(anchor, known).items()
            if others:
                raise HvqbenchError(f"the anchor is one codec, these are {len(others) + 1}: name {anchor!r}, say")
            chosen.setdefault(anchor, points)
        # Of a large store only what the curves are made of is read.
        read = list(chosen) if codecs else None
        columns = {*COLUMNS, *metrics, "protocol"}
        self.rows = to_frame([]) if only_published else read_results(results, codecs=read, columns=columns)
        self.rows = only_points(self.rows, chosen)
        for name in () if only_published else metrics:
            if name not in self.rows.columns:
                raise _no_metric(name, results)
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
        table, unlike = self._with_unlike(self._table())
        lines = list(table["text"])
        if unlike:
            lines += ["not like for like:", *(f"  {line}" for line in unlike)]
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
            table = self._table()
            wide = anchor_matrix(table)
            titles = [" on ".join(reversed(place)) for place in wide.index]
            text = f"BD-rate against {self.anchor}, {_places(table)}\n\n{_percents(titles, wide)}"
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

    def _with_unlike(self, table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
        """*table* with a column of what is not like for like in each pair, and what that means, a line each."""
        from hvqbench.analysis.comparable import explain_unlike, unlike
        from hvqbench.curves.library import PREFIX

        names = [*self.rows["codec"].unique(), *(PREFIX + name for name in self.published), self.anchor]
        marked = {dataset: unlike(self.curves, names, dataset) for dataset in table["dataset"].unique()}
        pairs = zip(table["dataset"], table["codec"], table["anchor"], strict=True)
        flags = [dict.fromkeys([*marked[dataset][anchor], *marked[dataset][codec]]) for dataset, codec, anchor in pairs]
        told = dict.fromkeys(line for of_set in marked.values() for line in explain_unlike(of_set))
        return table.assign(unlike=[" ".join(own) for own in flags]), list(told)

    def _nobody(self) -> HvqbenchError:
        return HvqbenchError(
            f"{self.place} has no codec to compare with {self.anchor!r}: run one more over the same images"
        )


def _no_metric(name: str, results: str | Path) -> HvqbenchError:
    """What to do about a metric that no row has: one that only published curves have cannot be added."""
    from hvqbench.advice import command
    from hvqbench.metrics import PYIQA, metric_ids

    if name in metric_ids() or name.startswith(PYIQA):
        remedy = f"`{command('score', '--metric', name, results=results)}` adds it"
    else:
        remedy = "only published curves have that one; compare them with each other, or name another"
    return HvqbenchError(f"the results have no metric {name!r}: {remedy}")


def _places(table: pd.DataFrame) -> str:
    """Where the BD-rates of *table* are of: ``on kodak (24 images)``, or ``(22 to 24 images)`` where they differ."""
    counts = table.groupby("dataset", sort=False)["images"].agg(["min", "max"])
    spans = {str(name): " to ".join(dict.fromkeys((str(low), str(high)))) for name, low, high in counts.itertuples()}
    return "on " + ", ".join(f"{name} ({span} images)" if span != "0" else name for name, span in spans.items())


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
