"""The results as one HTML file that needs nothing else: no network, no server, no other file.

Its parts: :mod:`~hvqbench.report.html.content` gathers what is shown, :mod:`~hvqbench.report.html.room` the pictures,
which :mod:`~hvqbench.report.html.page_pictures` makes; ``page.html`` sets both and ``style.css`` dresses
them; the scripts beside them draw the charts (with Vega-Lite, which is inlined), sort the tables and move the pictures.
Tables are plain HTML, and read without any script.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from hvqbench.errors import HvqbenchError
from hvqbench.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup

    from hvqbench.report.html.content import Page
    from hvqbench.report.html.pictures import Blobs
    from hvqbench.report.html.room import Room
    from hvqbench.report.spec import ReportSpec

LIMIT = 12_000_000
"""Bytes of the whole file: what is left beside the text goes to pictures."""
LISTING = 200_000
"""Bytes of it that are kept for the list of the pictures and their metrics."""
HERE = Path(__file__).parent
SCRIPTS = ("page.js", "tables.js", "chart.js", "curves.js", "room.js")


def write_html(
    results: pd.DataFrame,
    out: str | Path,
    *,
    published: Sequence[str] = (),
    anchor: str | None = None,
    streams: str | Path | None = None,
    spec: ReportSpec | None = None,
) -> Path:
    """Write the results as one self-contained HTML file.

    Parameters
    ----------
    results
        As :func:`hvqbench.read_results` returns them. There may be none: the page then says so.
    out
        The file, or a folder that gets ``report.html``.
    published
        Published curves to draw as well; ``*`` matches anything.
    anchor
        What BD-rates are against, measured or ``published:NAME``; by default as in :func:`hvqbench.report.make_report`.
    streams
        The folder of the results (or its ``_streams``), whose kept bitstreams are decoded for the picture room.
        Without it the page has no pictures.
    spec
        What to show; its title, codecs, data sets, metrics, anchors, published curves, names and maps are heeded.

    Returns
    -------
    Path
        The file, of at most :data:`LIMIT` bytes: pictures that do not fit are left out, and the page says which.

    Raises
    ------
    HvqbenchError
        An anchor or a published curve that does not exist, or a file that cannot be written.
    """
    from hvqbench.metrics.maps import load_maps
    from hvqbench.report.html.content import gather
    from hvqbench.report.html.pictures import Blobs
    from hvqbench.report.html.room import Room, make_room

    maps = load_maps(spec.maps if spec else ())
    folder = Path(streams) if streams is not None else None
    of_results = folder.parent if folder is not None and folder.name == "_streams" else folder
    page = gather(results, published, anchor, spec, of_results)
    rooms = {part.name: Room() for part in page.parts}
    blobs = Blobs(0)
    left = LIMIT - len(_render(page, rooms, blobs).encode()) - LISTING
    for number, part in enumerate(page.parts):
        blobs.budget = blobs.size + (left - blobs.size) // (len(page.parts) - number)
        rooms[part.name] = make_room(
            page.results, part.name, page.image_metrics, folder, blobs, part.finding, maps, page.names
        )
    out = Path(out)
    path = out if out.suffix in (".html", ".htm") else out / "report.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, _render(page, rooms, blobs).encode())
    except OSError as error:
        raise HvqbenchError(f"cannot write {path}: {error.strerror}; choose another place with --out") from None
    return path


def _render(page: Page, rooms: Mapping[str, Room], blobs: Blobs) -> str:
    import jinja2

    from hvqbench.report.html import pictures

    maps = _maps(page, rooms)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html").render(
        page=page,
        rooms=rooms,
        quality=pictures.QUALITY,
        maps=maps,
        style=_inline((HERE / "style.css").read_text(encoding="utf-8")),
        vega=_inline(_vega() if page.parts else ""),
        scripts=[_inline((HERE / name).read_text(encoding="utf-8")) for name in SCRIPTS],
        data=_json(page.data | {"rooms": {name: vars(room) for name, room in rooms.items()}, "maps": maps}),
        pictures=_json(blobs.texts),
    )


def _maps(page: Page, rooms: Mapping[str, Room]) -> dict[str, dict[str, str]]:
    """The maps that pictures in *rooms* have: what each is called, and what its lightest colour stands for."""
    from hvqbench.metrics.maps import LIGHTEST
    from hvqbench.report.html.page_pictures import ERROR
    from hvqbench.report.html.pictures import MAP_SCALE

    there = dict.fromkeys(name for room in rooms.values() for decode in room.decodes for name in decode["maps"])
    of_metrics = {
        name: {"title": page.names.title(name), "lightest": f"{LIGHTEST[name]:g}"} for name in there if name != ERROR
    }
    return {ERROR: {"title": "Error", "lightest": f"{MAP_SCALE:g} of 255"}, **of_metrics}


@cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed, which sets the global ``vegaEmbed``; to bundle them takes a second."""
    import vl_convert

    return f"(() => {{{vl_convert.javascript_bundle('window.vegaEmbed = vegaEmbed;')}}})();"


def _inline(text: str) -> Markup:
    """*text* as it is, for a ``<script>`` or ``<style>``, which it must not end."""
    from markupsafe import Markup

    return Markup(re.sub("</(?=script|style)", r"<\\/", text, flags=re.IGNORECASE))


def _json(value: object) -> Markup:
    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))
