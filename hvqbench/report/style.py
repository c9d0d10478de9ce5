"""How figures look: one style file, one palette, the widths of a page, and files that are the same bytes every time.

Drawn with matplotlib's objects and not with pyplot, so that no global state is touched and no display is needed.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hvqbench.errors import HvqbenchError, UnavailableError
from hvqbench.files import atomic_path
from hvqbench.report.spec import WIDTHS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("hvqbench.mplstyle")
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe and Ito's palette for all kinds of colour vision, without its yellow, which no white page shows."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h")
WIDTH = WIDTHS["double"]
SOLID, DASHED, DOTTED = "-", (0, (4, 1.6)), (0, (1, 1.5))
_OPTIONS: dict[str, dict[str, Any]] = {
    "png": {"metadata": {"Software": None}},
    "pdf": {"metadata": {"CreationDate": None}},
    "svg": {"metadata": {"Date": None}},
    "pgf": {},
}


@dataclass(frozen=True)
class Look:
    """A codec's colour and marker, the same in every panel; dashed for a classic codec, dotted for a published one."""

    colour: str
    marker: str
    dash: Any = SOLID

    @property
    def line(self) -> dict[str, Any]:
        """As matplotlib's ``plot`` takes it; hollow markers tell dashed and dotted apart in print, too."""
        hollow = self.dash != SOLID
        return {
            "color": self.colour,
            "marker": self.marker,
            "linestyle": self.dash,
            "markerfacecolor": "white" if hollow else self.colour,
            "markeredgecolor": self.colour if hollow else "white",
            "markeredgewidth": 1.0 if hollow else 0.5,
        }


def look(number: int, classic: bool = False, published: bool = False) -> Look:
    """The look of the codec at place *number* among those of its kind; 77 of them differ.

    Each kind begins elsewhere in palette and markers, so that the first of one has not the colour of the first of
    another.
    """
    if published:
        return Look(COLOURS[(number + 3) % len(COLOURS)], MARKERS[(number + 8) % len(MARKERS)], DOTTED)
    if classic:
        return Look(COLOURS[-(number + 1) % len(COLOURS)], MARKERS[(number + 4) % len(MARKERS)], DASHED)
    return Look(COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)], SOLID)


def looks(names: Iterable[str], classic: Collection[str], published: Collection[str] = ()) -> dict[str, Look]:
    """The look of each of *names*, by its place among those of its kind."""
    found: dict[str, Look] = {}
    counts: Counter[tuple[bool, bool]] = Counter()
    for name in dict.fromkeys(names):
        kind = (name in classic and name not in published, name in published)
        found[name] = look(counts[kind], *kind)
        counts[kind] += 1
    return found


@contextmanager
def style() -> Iterator[None]:
    """The style file, for drawing as for saving; nothing of the user's own settings shines through."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(mpl.rc_params_from_file(STYLE, use_default_template=False))
        yield


def save_figure(
    figure: Figure, stem: Path, formats: Iterable[str] = ("png", "pdf"), dpi: int | None = None
) -> tuple[Path, ...]:
    """Write *figure* as ``<stem>.<format>`` for each of *formats*, without a date in them; *dpi* is of pixels in it.

    Raises
    ------
    HvqbenchError
        A format that is none of these; for ``pgf``, where there is no LaTeX to measure its text with.
    """
    paths = []
    for kind in formats:
        if kind not in _OPTIONS:
            raise HvqbenchError(
                f"cannot draw {stem.name}.{kind}: figures end in .{', .'.join(_OPTIONS)}; name one of them"
            )
        if kind == "pgf" and shutil.which("pdflatex") is None:
            raise UnavailableError(
                "pgf figures need pdflatex to measure text: install texlive-latex-base and texlive-pictures, or leave "
                "pgf out of the formats"
            )
        path = stem.with_name(f"{stem.name}.{kind}")
        with style(), atomic_path(path) as temporary:
            figure.savefig(temporary, format=kind, dpi=dpi, **_OPTIONS[kind])
        paths.append(path)
    return tuple(paths)


def classic_codecs(codecs: Sequence[str]) -> frozenset[str]:
    """Those of *codecs* whose ``codec.toml`` has the tag ``classic``; one that the catalog does not know has none."""
    from hvqbench.catalog import codec_files, read_spec

    files, found = codec_files(), set()
    for codec in codecs:
        with suppress(HvqbenchError):  # what is wrong with it is `ls codecs`'s to say
            if codec in files and "classic" in read_spec(files[codec]).tags:
                found.add(codec)
    return frozenset(found)
