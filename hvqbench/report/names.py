"""What codecs, data sets and metrics are called in figures, tables, captions and on the page: ``[names]`` of a spec.

Files, CSV and ``claims.json`` keep the ids, so that a number can be found again.

>>> names = Names({"hypervq": "HyperVQ (ours)", "lpips-alex": "LPIPS", "vtm": "VTM"})
>>> names.text("BD-rate of hypervq and hypervq-search against vtm (published)")
'BD-rate of HyperVQ (ours) and hypervq-search against VTM (published)'
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from hvqbench.report.table import ARROWS, Table

if TYPE_CHECKING:
    from hvqbench.analysis import Curve
    from hvqbench.metrics import MetricInfo

NAMED = ("codec", "dataset", "anchor", "metric")
"""Headings of the columns that hold ids."""


@dataclass(frozen=True)
class Names:
    """Ids to what they are called; an id without an entry is called by itself."""

    entries: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, name: str) -> str:
        """What *name* is called; ``vtm (published)`` by the entry of ``vtm``."""
        return self.text(name) if name not in self.entries else self.entries[name]

    def text(self, text: str) -> str:
        """*text* with every id that stands in it as a word replaced, but for what is in backticks."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: self.entries.get(found[0], found[0]), text)

    def title(self, metric: str) -> str:
        """What a metric is called; without an entry, its title."""
        from hvqbench.metrics import metric_info

        return self.entries[metric] if metric in self.entries else metric_info(metric).title

    def curve(self, curve: Curve) -> Curve:
        """The same curve of a codec that is called so."""
        return replace(curve, codec=self(curve.codec))

    def infos(self, infos: Mapping[str, MetricInfo]) -> dict[str, MetricInfo]:
        """The metrics with their titles."""
        return {name: replace(info, title=self.entries.get(name, info.title)) for name, info in infos.items()}

    def table(self, table: Table) -> Table:
        """The same table to read; its frame keeps the ids."""
        if not self.entries:
            return table
        columns = tuple(replace(column, title=self._header(column.title)) for column in table.columns)
        named = [column.title in NAMED for column in table.columns]
        cells = tuple(
            tuple(
                replace(cell, text=self(cell.text) if is_id else cell.text, hint=self.text(cell.hint))
                for cell, is_id in zip(row, named, strict=True)
            )
            for row in table.cells
        )
        title, intro = self.text(table.title), self.text(table.intro)
        return replace(
            table, title=title, intro=intro, columns=columns, cells=cells, outro=tuple(map(self.text, table.outro))
        )

    def _header(self, header: str) -> str:
        """``lpips-alex ↓`` by the metric's name."""
        name, _, arrow = header.rpartition(" ")
        return f"{self(name)} {arrow}" if arrow in ARROWS.values() and name in self.entries else header

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        if not self.entries:
            return None
        ids = "|".join(re.escape(name) for name in sorted(self.entries, key=len, reverse=True))
        return re.compile(rf"`[^`]*`|(?<![\w.-])(?:{ids})(?![\w-])")
