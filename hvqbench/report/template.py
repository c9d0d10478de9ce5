"""A spec to start from: what the results have, written out, to be cut and renamed by its author."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hvqbench.errors import HvqbenchError
from hvqbench.report.captions import place
from hvqbench.report.spec import Selection, TableSpec

if TYPE_CHECKING:
    import pandas as pd

    from hvqbench.report.scope import Scope


def init_spec(
    path: Path,
    results: Path,
    codecs: Iterable[str] = (),
    datasets: Iterable[str] = (),
    metrics: Iterable[str] = (),
    anchor: str | None = None,
) -> Path:
    """Write a new spec about what the folder *results* has, by default all of it.

    Raises
    ------
    HvqbenchError
        There is such a file, or there are no results.
    """
    from hvqbench.bench import read_results, read_timing
    from hvqbench.files import atomic_write
    from hvqbench.report.scope import ReportData, Scope

    if path.suffix != ".toml":
        raise HvqbenchError(f"{path} is not a name for a spec: let it end in .toml")
    if path.exists():
        raise HvqbenchError(f"{path} exists: choose another name, or remove it")
    timing = None
    with suppress(HvqbenchError):  # none was made
        timing = read_timing(results)
    source = ReportData(read_results(results), timing, results)
    anchors = () if anchor is None else (anchor,)
    selection = Selection(codecs=tuple(codecs), datasets=tuple(datasets), metrics=tuple(metrics), anchors=anchors)
    scope = Scope(source, selection)
    if source.missing:
        raise HvqbenchError(next(iter(source.missing)))
    text = "\n".join(_lines(scope, selection, path)) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, text.encode())
    except OSError as error:
        raise HvqbenchError(f"cannot write {path}: {error.strerror}; choose another place") from None
    return path


def _lines(scope: Scope, selection: Selection, path: Path) -> Iterator[str]:
    from hvqbench.advice import command
    from hvqbench.manifest import title_of

    make = command("report", str(path), "--out", path.stem, results=scope.source.folder)
    yield f"# {make}        (docs/reports.md lists every key)"
    yield "# What the results had when this was written. Cut what the paper does not need; what is missing is said."
    yield f"title = {_text(path.stem)}"
    yield ""
    yield "# Ids or tags, in the order that gives them colours; hypervq@0,1.6 is hypervq at these points only."
    yield "# There are:"
    for dataset, codec, line in _contents(scope.ok):
        yield f"#   {codec:<24} on {dataset}: {line}"
    yield f"codecs = {_list(selection.codecs or scope.codecs)}"
    yield f"datasets = {_list(scope.datasets)}"
    yield f"metrics = {_list(scope.infos)}"
    yield "# What BD-rates are against, each in a table of its own."
    yield f"anchors = {_list(selection.anchors or scope.anchors)}"
    if published := _published(scope):
        yield "# Published curves of these data sets and metrics, dotted (`hvqbench curves ls` says whose they are)."
        yield f"# published = {_list(published)}"
    yield f"formats = {_list(('pdf', 'png'))}"
    yield ""
    yield "[names]"
    yield "# What they are called in figures, tables and captions; files and CSV keep the ids."
    called = {name: name for name in scope.codecs}
    called |= {name: title_of(name) for name in scope.datasets}
    called |= {name: info.title for name, info in scope.infos.items()}
    yield from (f"{_text(name)} = {_text(own)}" for name, own in called.items())
    if others := [name for name in published if name not in called]:
        yield "# Of the published curves, for those that are shown:"
        yield from (f"# {_text(name)} = {_text(name)}" for name in others)
    for kind, name, comment, keys in _items(scope):
        yield ""
        yield f"# {comment}"
        yield f"[[{kind}]]"
        yield f"kind = {_text(name)}"
        yield from keys


def _items(scope: Scope) -> Iterator[tuple[str, str, str, list[str]]]:
    """The figures and tables that the results have something for: with a comment, and keys."""
    from hvqbench.report.sections import saving

    rows = scope.ok
    vq = "bytes.indices" in rows and rows["bytes.indices"].notna().any()
    low, high = (rows["bpp"].min(), rows["bpp"].max()) if len(rows) else (0.0, 1.0)
    yield "figure", "rd", "Rate-distortion curves, a figure for each data set and a panel for each metric.", [
        'width = "double"  # or "single": a column',
        f"# bpp = [{low:.3g}, {high:.3g}]  # the rates that are shown",
    ]  # fmt: skip
    if metric := _with_image_bd_rates(scope):
        yield "figure", "per-image", "BD-rate of each image: many small gains, or a few great ones?", [
            f"metrics = {_list([metric])}",
            'width = "single"',
        ]  # fmt: skip
    if vq:
        yield "figure", "ledger", "Where the bits go: the streams of each codec's files.", ['width = "single"']
    has_times = scope.source.timing is not None and len(scope.source.timing) > 0
    if has_times:
        yield "figure", "speed", "Rate against speed, from the timing pass.", []
    yield "table", "points", "Means at each operating point, and the rate of each stream.", []
    if len(scope.codecs) > 1:
        yield "table", "bd-rate", "Codecs by metrics, with intervals.", []
    if any(table.cells for table in saving(TableSpec(kind="saving"), scope)):
        yield "table", "saving", "Bytes saved against fixed length, for each tokenizer.", []
    if any(info.of_set for info in scope.infos.values()):
        yield "table", "sets", "Metrics of whole sets.", []
    if has_times:
        yield "table", "timing", "Times, speed and memory.", []


def _with_image_bd_rates(scope: Scope) -> str:
    """The first metric in which images have BD-rates that a figure could show; empty if there is none."""
    from hvqbench.curves import is_published
    from hvqbench.report.per_image import codec_percents

    places = [(d, a) for d in scope.datasets for a in scope.anchors if not is_published(a)]
    return next((m for m in scope.of_images if any(codec_percents(scope, d, a, m) for d, a in places)), "")


def _contents(rows: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    """Data set, codec, and its points and number of images."""
    for (dataset, codec), own in rows.groupby(["dataset", "codec"], sort=False):
        unit = own["point_name"].iloc[0] if "point_name" in own else "point"
        points = ", ".join(f"{point:g}" for point in sorted(own["point"].unique()))
        counts = place("", own.groupby("point")["image"].nunique()).strip(" ()")
        yield str(dataset), str(codec), f"{unit} {points}; {counts}"


def _published(scope: Scope) -> list[str]:
    """The published curves that share a data set and a metric with the results."""
    from hvqbench.curves import published_points

    points = published_points()
    return list(dict.fromkeys(p.codec for p in points if p.dataset in scope.datasets and p.metric in scope.infos))


def _list(values: Iterable[str]) -> str:
    return f"[{', '.join(map(_text, values))}]"


def _text(value: str) -> str:
    """A TOML string: JSON's escapes are TOML's."""
    return json.dumps(value, ensure_ascii=False)
