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
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from hvqbench.catalog import content_folders, read_toml
from hvqbench.errors import HvqbenchError, closest

FIGURE_KINDS = ("rd", "ledger", "per-image", "speed", "usage", "bits")
TABLE_KINDS = ("bd-rate", "points", "tails", "saving", "sets", "timing", "ablation")
WIDTHS: Mapping[str, float] = {"single": 3.5, "double": 7.16}
"""Inches: a column, and the full width, of a two-column page."""

FORMATS = ("pdf", "png", "svg", "pgf")
LABELS = ("auto", "direct", "legend")


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

    kind: str
    name: str = ""
    width: str = "double"
    labels: str = "auto"
    bpp: tuple[float, ...] = ()
    images: tuple[str, ...] = ()
    point: float | None = None


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

    kind: str
    name: str = ""
    title: str = ""
    source: str = ""


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
    formats: tuple[str, ...] = ("png", "pdf")
    html: bool = False
    maps: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    figure: tuple[FigureSpec, ...] = ()
    table: tuple[TableSpec, ...] = ()


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
    spec = _read(ReportSpec, read_toml(path), str(path))
    for kind, items in (("figure", spec.figure), ("table", spec.table)):
        names = [item.name or item.kind for item in items]
        for name in names:
            if names.count(name) > 1:
                raise HvqbenchError(f"{path}: two [[{kind}]] are named {name!r}: give one of them another name")
    return spec


Spec = TypeVar("Spec", bound=Selection)
_CHOICES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("FigureSpec", "kind"): FIGURE_KINDS,
    ("TableSpec", "kind"): TABLE_KINDS,
    ("FigureSpec", "width"): tuple(WIDTHS),
    ("FigureSpec", "labels"): LABELS,
    ("ReportSpec", "formats"): FORMATS,
}


def _read(kind: type[Spec], content: Mapping[str, Any], where: str) -> Spec:
    types = get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in content.items():
        if key not in types:
            raise HvqbenchError(f"{where}: unknown key {key!r}: {closest(key, types)}docs/reports.md lists the keys")
        values[key] = _value(types[key], value, f"{where}: {key}")
        choices = _CHOICES.get((kind.__name__, key))
        for one in values[key] if isinstance(values[key], tuple) else [values[key]]:
            if choices and one not in choices:
                hint = closest(str(one), choices)
                raise HvqbenchError(f"{where}: {key} = {one!r}: {hint}set it to one of {', '.join(choices)}")
    if "kind" in types and "kind" not in values:
        raise HvqbenchError(f"{where} has no kind: set it to one of {', '.join(_CHOICES[kind.__name__, 'kind'])}")
    bpp = values.get("bpp", ())
    if bpp and not (len(bpp) == 2 and bpp[0] < bpp[1]):
        raise HvqbenchError(f"{where}: bpp takes two rates, the least and the greatest, like [0.01, 1.0]")
    if (name := values.get("name", "")) and not re.fullmatch(r"[\w][\w.-]*", name):
        raise HvqbenchError(f"{where}: name = {name!r} is part of file names: use letters, digits, dots and dashes")
    return kind(**values)


def _value(wanted: Any, value: Any, where: str) -> Any:
    """*value* of TOML as the type *wanted*."""
    if get_origin(wanted) is Mapping:
        if not isinstance(value, dict) or not all(isinstance(name, str) and name.strip() for name in value.values()):
            raise HvqbenchError(f'{where}: write it as a table of names, like [names] and below it jpeg = "JPEG"')
        if twice := [name for name in value.values() if list(value.values()).count(name) > 1]:
            raise HvqbenchError(f"{where}: two are called {twice[0]!r}: give one of them another name")
        return dict(value)
    if get_origin(wanted) is tuple:
        (of, _) = get_args(wanted)
        if not isinstance(value, list):
            raise HvqbenchError(f"{where} = {value!r}: make it a list, in square brackets")
        return tuple(_value(of, one, where) for one in value)
    if isinstance(wanted, UnionType):
        wanted = next(one for one in get_args(wanted) if one is not type(None))
    if wanted in (FigureSpec, TableSpec):
        if not isinstance(value, Mapping):
            raise HvqbenchError(f"{where}: write each as a table, [[figure]] or [[table]]")
        return _read(wanted, value, where)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, wanted):
        kinds = {str: "text in quotes", float: "a number", bool: "true or false"}
        raise HvqbenchError(f"{where} = {value!r}: set it to {kinds[wanted]}")
    return value


def override(spec: ReportSpec, **chosen: Iterable[str]) -> ReportSpec:
    """*spec* with what is *chosen* of :class:`Selection`, in every figure and table too; an empty choice is none."""
    own: dict[str, Any] = {name: tuple(values) for name, values in chosen.items() if tuple(values)}
    figures = tuple(replace(item, **own) for item in spec.figure)
    return replace(spec, **own, figure=figures, table=tuple(replace(item, **own) for item in spec.table))


def inherit(item: Spec, report: Selection) -> Spec:
    """*item* with the *report*'s choice wherever it has none of its own."""
    chosen = {one.name: getattr(item, one.name) or getattr(report, one.name) for one in fields(Selection)}
    return replace(item, **chosen)
