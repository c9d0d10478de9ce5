"""Baselines: results that were good once, in one small file that lives in a repository, to compare with later.

A baseline holds what is the same on every run: bytes, metrics, digests, and the versions that they are of. It holds no
time. ``reports/baselines/<name>.parquet`` is where it lives; one row is one image at one operating point. The same as
text is ``<name>.csv`` beside it, which nothing reads but people: the diff of a pull request shows what changed.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hvqbench.errors import HvqbenchError, closest
from hvqbench.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd

FORMAT, FORMAT_KEY = 1, b"hvqbench.baseline"
COLUMNS = (
    *("dataset", "codec", "point", "point_name", "image", "width", "height", "bytes", "bpp", "metrics"),
    *("image_sha256", "bitstream_sha256", "reconstruction_sha256", "digest", "codec_fingerprint", "protocol"),
)
"""What is kept of a row, beside its metrics and ``exact``: whether its bitstream must stay the same, byte for byte."""

SHORT = 12
"""Digits of a hash that tell two of them apart for a reader."""


@dataclass(frozen=True, eq=False)
class Baseline:
    """A saved baseline: its rows, when it was saved (UTC, ISO 8601) and with which hvqbench."""

    name: str
    rows: pd.DataFrame
    saved: str
    version: str

    @property
    def metrics(self) -> list[str]:
        """The metrics that it has values of."""
        return metrics_of(self.rows)


def save_baseline(
    results: pd.DataFrame,
    path: Path,
    *,
    codecs: Collection[str] = (),
    datasets: Collection[str] = (),
    exact: Collection[str] | None = None,
) -> Baseline:
    """Write the finished rows of *results* to *path*, and as text to the ``.csv`` beside it.

    Parameters
    ----------
    codecs, datasets
        Only these; by default all.
    exact
        Codecs whose bitstreams must stay the same, byte for byte, while their code does; by default all but those that
        declare themselves stochastic.

    Raises
    ------
    HvqbenchError
        If a codec or data set has no finished row, or *path* cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    import hvqbench
    from hvqbench.bench.task import now

    rows = as_text(results[results["status"] == "ok"])
    for kind, wanted in (("codec", codecs), ("dataset", datasets), ("codec", exact or ())):
        known = set(rows[kind])
        for name in wanted:
            if name not in known:
                raise HvqbenchError(f"no finished row of {kind} {name!r}: {closest(name, known)}run it first")
        if wanted is not exact and wanted:
            rows = rows[rows[kind].isin(list(wanted))]
    if rows.empty:
        raise HvqbenchError("no row finished, and a baseline of nothing would pass every gate: run the codecs first")
    names = [*COLUMNS, *metrics_of(rows)]
    rows = rows.reindex(columns=names).sort_values(["dataset", "codec", "point", "image"], ignore_index=True)
    stochastic = rows["protocol"].map(lambda flags: "stochastic" in str(flags))
    rows["exact"] = ~stochastic if exact is None else rows["codec"].isin(list(exact))
    saved = now()[:19]
    facts = {"format": FORMAT, "saved": saved, "version": hvqbench.__version__}
    table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata({FORMAT_KEY: json.dumps(facts)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, sink.getvalue().to_pybytes())
        baseline = Baseline(path.stem, rows, saved, hvqbench.__version__)
        atomic_write(path.with_suffix(".csv"), as_csv(baseline).encode())
    except OSError as error:
        raise HvqbenchError(f"cannot write {path}: {error.strerror}; name another folder with --folder") from None
    return baseline


def as_csv(baseline: Baseline) -> str:
    """*baseline* as text: above the rows a comment for each codec, with the versions of the metrics that it has.

    Metrics have six digits, and hashes their first twelve. When and of which code it was saved is in the other file
    alone: this one stays the same while its numbers do, so that a diff has nothing else.
    """
    rows = baseline.rows
    lines = [f"# baseline {baseline.name}"]
    for (dataset, codec), own in rows.groupby(["dataset", "codec"], sort=False):
        of_metrics = ", ".join({version: None for text in own["metrics"].unique() for version in _versions(text)})
        lines.append(f"# {codec} on {dataset}: metrics {of_metrics or 'none'}")
    names = ["dataset", "codec", "point_name", "point", "image", "bytes", *baseline.metrics]
    hashes = {"digest": "digest", "bitstream": "bitstream_sha256"}
    shown = rows[names].assign(
        **{title: rows[name].astype(str).str[:SHORT] for title, name in hashes.items()},
        exact=rows["exact"].map({True: "exact", False: ""}),
    )
    return "\n".join(lines) + "\n" + shown.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def _versions(text: str) -> list[str]:
    return list(json.loads(text or "{}").values())


def read_baseline(path: str | Path) -> Baseline:
    """A baseline by the path of its file, or by its name in ``reports/baselines/``, here or in a catalog.

    Raises
    ------
    HvqbenchError
        If there is none, or it is of another format.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = _find(path)
    try:
        table = pq.ParquetFile(pa.BufferReader(file.read_bytes())).read()
        facts = json.loads((table.schema.metadata or {})[FORMAT_KEY])
    except (pa.ArrowException, OSError, KeyError, ValueError):
        raise HvqbenchError(f"{file} is no baseline: save one with `hvqbench baseline save NAME`") from None
    if facts["format"] != FORMAT:
        raise HvqbenchError(f"{file} has format {facts['format']}, and this hvqbench reads {FORMAT}: upgrade hvqbench")
    # Only finished rows are kept, and all of one time: the columns that curves ask for.
    rows = table.to_pandas().assign(status="ok", started="")
    return Baseline(file.stem, rows, facts["saved"], facts["version"])


def metrics_of(rows: pd.DataFrame) -> list[str]:
    """The metrics of images that *rows* have values of, in the registry's order."""
    from hvqbench.metrics import metric_ids

    measured = {name for text in rows["metrics"].unique() for name in json.loads(text or "{}")}
    known = metric_ids()
    return [*(name for name in known if name in measured), *sorted(measured - set(known))]


def as_text(rows: pd.DataFrame) -> pd.DataFrame:
    """*rows* without categories: two tables with others could not be compared."""
    return rows.astype({name: object for name, kind in rows.dtypes.items() if kind == "category"})


def _find(path: str | Path) -> Path:
    from hvqbench.catalog import content_folders

    if Path(path).is_file():
        return Path(path)
    folders = [*content_folders("reports"), Path("reports")]  # where `baseline save` puts it goes before a catalog
    known = {file.stem: file for folder in folders for file in sorted(folder.glob("baselines/*.parquet"))}
    if str(path) not in known:
        listed = f"there are {', '.join(sorted(known))}; " if known else ""
        raise HvqbenchError(
            f"there is no baseline {str(path)!r}: {closest(Path(path).stem, known)}{listed}"
            "save one with `hvqbench baseline save NAME`"
        )
    return known[str(path)]
