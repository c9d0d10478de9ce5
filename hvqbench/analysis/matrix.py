"""BD-rates side by side: codecs against one anchor in several metrics, or all codecs against all in one metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hvqbench.analysis.bd import bd_rate
from hvqbench.analysis.curves import the_dataset
from hvqbench.analysis.pairs import Curves
from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    import pandas as pd


def anchor_matrix(table: pd.DataFrame) -> pd.DataFrame:
    """A table of :func:`hvqbench.analysis.bd_table` as codecs×metrics, of BD-rates in per cent.

    The index is ``(dataset, codec)``, and both keep the table's order; NaN where there is no BD-rate.
    """
    keys = ["dataset", "codec"]
    wide = table.pivot(index=keys, columns="metric", values="bd_rate_percent")
    rows = list(dict.fromkeys(table[keys].itertuples(index=False, name=None)))
    return wide.reindex(index=rows, columns=list(dict.fromkeys(table["metric"])))


def square_matrix(
    results: pd.DataFrame, metric: str, dataset: str | None = None, method: str = "akima", codecs: Sequence[str] = ()
) -> pd.DataFrame:
    """BD-rates of all codecs (rows) against all (columns), in per cent; NaN on the diagonal and where there is none.

    Each is over the images that its two codecs share, so two cells may be of different images. A cell and its mirror
    are one ratio and its inverse: -50 % is +100 % the other way round.
    """
    import numpy as np
    import pandas as pd

    dataset = the_dataset(results, dataset)
    names = list(codecs) or list(results.loc[results["dataset"] == dataset, "codec"].unique())
    if len(names) < 2:
        raise HvqbenchError(f"the results on {dataset} have one codec, {names[0]}: run one more over the same images")
    curves = Curves(results)
    square = np.full((len(names), len(names)), np.nan)
    for row, codec in enumerate(names):
        for column, anchor in enumerate(names):
            if row != column:
                # The estimate alone: intervals of all pairs would be a hundred bootstraps that nobody reads.
                square[row, column] = bd_rate(curves, codec, anchor, metric, dataset, method, interval=False).percent
    return pd.DataFrame(square, index=pd.Index(names, name="codec"), columns=pd.Index(names, name="anchor"))
