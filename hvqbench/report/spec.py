"""What a report is made of: a TOML file in ``reports/``, read into frozen values.

::

    anchors = ["huffman-vq"]
    metrics = ["psnr", "lpips-alex"]
    formats = ["pdf", "png"]

    [[figure]]
    kind = "rd"
    width = "single"

    [[table]]
    kind = "bd-rate"

What a figure or a table does not choose for itself, it takes from the report. ``docs/reports.md`` lists the keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from hvqbench.catalog import content_folders, read_toml
from hvqbench.errors import HvqbenchError, closest
from hvqbench.settings import read_settings

FigureKind = Literal["rd", "ledger", "per-image", "speed", "usage", "bits"]
TableKind = Literal["bd-rate", "points", "tails", "saving", "sets", "timing", "ablation"]
Format = Literal["pdf", "png", "svg", "pgf"]
FIGURE_KINDS: tuple[FigureKind, ...] = get_args(FigureKind)
TABLE_KINDS: tuple[TableKind, ...] = get_args(TableKind)
FORMATS: tuple[Format, ...] = get_args(Format)
WIDTHS: Mapping[str, float] = {"single": 3.5, "double": 7.16}
"""Inches: a column, and the full width, of a two-column page."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is shown; an empty field is everything that the results have, or what the report says.

    Parameters
    ----------
    codecs
        Ids, tags or paths, each with ``@POINTS`` for some of its points (:mod:`hvqbench.selection`).
    datasets, metrics
        Ids.
    anchors
        What BD-rates are against, measured or ``published:NAME``: each has its own table.
    published
        Published curves beside the measured ones; ``*`` matches anything.
    """

    codecs: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    anchors: tuple[str, ...] = ()
    published: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FigureSpec(Selection):
    """A figure, or one for each data set.

    Parameters
    ----------
    kind
        One of :data:`FIGURE_KINDS`.
    name
        Of its files; the kind by default.
    width
        One of :data:`WIDTHS`.
    labels
        ``direct`` writes a codec's name at its curve, ``legend`` below the panels; ``auto`` is direct for a lone panel
        of few curves.
    bpp
        Least and greatest rate shown; empty for all.
    images
        Of ``bits``: which ones.
    point
        Of ``ledger``, ``usage`` and ``bits``: the operating point; a codec's first by default.
    """

    kind: FigureKind
    name: str = ""
    width: Literal["single", "double"] = "double"
    labels: Literal["auto", "direct", "legend"] = "auto"
    bpp: tuple[float, ...] = ()
    images: tuple[str, ...] = ()
    point: float | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.bpp and not (len(self.bpp) == 2 and self.bpp[0] < self.bpp[1]):
            raise HvqbenchError("bpp takes two rates, the least and the greatest, like [0.01, 1.0]")


@dataclass(frozen=True, kw_only=True)
class TableSpec(Selection):
    """A table.

    Parameters
    ----------
    kind
        One of :data:`TABLE_KINDS`.
    name
        Of its files; the kind by default.
    title
        Its heading, and its caption in LaTeX.
    source
        Of ``ablation``: the ``ablation.csv`` that ``hvqbench ablate`` wrote, relative to the working folder.
    """

    kind: TableKind
    name: str = ""
    title: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        _check_name(self.name)


@dataclass(frozen=True, kw_only=True)
class ReportSpec(Selection):
    """A whole report; without figures and tables, those that the results have something for.

    Parameters
    ----------
    formats
        Of figures, among :data:`FORMATS`; ``pgf`` needs a LaTeX.
    html
        Whether to write the one-file HTML report as well.
    maps
        Of that report's pictures: metrics that are to show where they see the difference, of
        :data:`hvqbench.metrics.maps.MAPS`.
    names
        How codecs, data sets and metrics are called in figures, tables, captions and on the page: id to name.
    """

    title: str = "hvqbench report"
    formats: tuple[Format, ...] = ("png", "pdf")
    html: bool = False
    maps: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    figure: tuple[FigureSpec, ...] = ()
    table: tuple[TableSpec, ...] = ()

    def __post_init__(self) -> None:
        called = list(self.names.values())
        if not all(map(str.strip, called)):
            raise HvqbenchError('names: an empty one; write names like [names] and below it jpeg = "JPEG"')
        if twice := [name for name in called if called.count(name) > 1]:
            raise HvqbenchError(f"names: two are called {twice[0]!r}: give one of them another name")
        for kind, items in (("figure", self.figure), ("table", self.table)):
            names = [item.name or item.kind for item in items]
            if twice := [name for name in names if names.count(name) > 1]:
                raise HvqbenchError(f"two [[{kind}]] are named {twice[0]!r}: give one of them another name")


def _check_name(name: str) -> None:
    if name and not re.fullmatch(r"[\w][\w.-]*", name):
        raise HvqbenchError(f"name = {name!r} is part of file names: use letters, digits, dots and dashes")


def report_files() -> dict[str, Path]:
    """Every report spec of the catalog by its name: the TOML files of ``reports/``, but for those of ablations."""
    return {
        path.stem: path
        for folder in content_folders("reports")
        for path in sorted(folder.glob("*.toml"))
        if "variant" not in read_toml(path)
    }


def find_spec(name: str | Path) -> ReportSpec:
    """The spec of that name in the catalog, or at that path."""
    if Path(name).suffix == ".toml" or Path(name).is_file():
        return read_spec(Path(name))
    files = report_files()
    if str(name) not in files:
        raise HvqbenchError(
            f"unknown report {str(name)!r}: {closest(str(name), files)}"
            f"name a TOML file, or one of {', '.join(files) or 'none'}"
        )
    return read_spec(files[str(name)])


def read_spec(path: Path) -> ReportSpec:
    """Parse one spec.

    Raises
    ------
    HvqbenchError
        The file cannot be read; an unknown key, a value of another kind, a kind of figure or table that does not exist.
    """
    return read_settings(ReportSpec, read_toml(path), str(path))


Spec = TypeVar("Spec", bound=Selection)


def override(spec: ReportSpec, **chosen: Iterable[str]) -> ReportSpec:
    """*spec* with what is *chosen* of :class:`Selection`, in every figure and table too; an empty choice is none."""
    own: dict[str, Any] = {name: tuple(values) for name, values in chosen.items() if tuple(values)}
    figures = tuple(replace(item, **own) for item in spec.figure)
    return replace(spec, **own, figure=figures, table=tuple(replace(item, **own) for item in spec.table))


def inherit(item: Spec, report: Selection) -> Spec:
    """*item* with the *report*'s choice wherever it has none of its own."""
    chosen = {one.name: getattr(item, one.name) or getattr(report, one.name) for one in fields(Selection)}
    return replace(item, **chosen)
