"""The table of comparators: every codec that a result can stand beside, and on what terms. ``docs/comparators.md``.

It is written from the catalog and from the published curves, so that no page says what they do not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hvqbench.errors import HvqbenchError
from hvqbench.protocol import FLAGS, Protocol, published_flags

if TYPE_CHECKING:
    from hvqbench.codec import CodecSpec
    from hvqbench.curves.format import PublishedPoint

COMMAND = "hvqbench ls comparators"

PAGE = f"""\
# Comparators

What can a result be compared with? Every row is one of these:

- **runs**: out of the box.
- **needs**: runs once something that is not shipped is there (weights, a program, a GPU). `hvqbench ls codecs` says
  what is missing here and what to do.
- **needs a coder**: its authors' code decodes nothing that comes from a file, so it has no bitstream to count.
  `hvqbench ls codecs` says what would have to be written ([codecs.md](codecs.md) tells how).
- **published**: only as a published curve, drawn and named as such ([curves.md](curves.md)).

*Rate* is what a codec's bits are: a real `file`, the `payload` without all that a decoder needs, a model's `estimated`
entropy, a `nominal` number of bits, or `unknown`. *Unlike* is how its rows are not like for like with others; reports
and `hvqbench run` mark them with these flags:

{{flags}}

A dash is not known or not said. Written by `{COMMAND} > docs/comparators.md`.

{{table}}
"""


@dataclass(frozen=True)
class Comparator:
    """A row of the table; each cell is text, ``""`` where nothing is known."""

    codec: str
    how: str
    rate: str
    unlike: str
    chroma: str
    licence: str
    published: str
    source: str


def comparators() -> list[Comparator]:
    """All of them but the VQ codecs of hvqbench itself, by name: those of the catalog, then those of curves alone."""
    from hvqbench.catalog import codec_files, read_spec
    from hvqbench.curves import published_points

    specs = []
    for path in codec_files().values():
        try:
            specs.append(read_spec(path))
        except HvqbenchError:  # `ls codecs` says what is wrong with it
            continue
    specs = [spec for spec in specs if spec.adapter != "vq"]
    curves: dict[str, list[PublishedPoint]] = {}
    for point in published_points():
        curves.setdefault(_owner(point.codec, {spec.id for spec in specs}), []).append(point)
    known = [_of_catalog(spec, curves.pop(spec.id, [])) for spec in specs]
    return known + [_of_curves(codec, points) for codec, points in sorted(curves.items())]


def comparators_page() -> str:
    """The text of ``docs/comparators.md``."""
    rows = [tuple(vars(row).values()) for row in comparators()]
    lines = [tuple(Comparator.__dataclass_fields__), ("---",) * len(Comparator.__dataclass_fields__), *rows]
    table = "\n".join("| " + " | ".join(cell or "–" for cell in line) + " |" for line in lines)
    flags = "\n".join(f"- `{flag}`: {text}" for flag, text in FLAGS.items())
    return PAGE.format(flags=flags, table=table)


def _of_catalog(spec: CodecSpec, points: list[PublishedPoint]) -> Comparator:
    needs, protocol = spec.needs, spec.protocol
    how = "needs" if needs.install or needs.weights or needs.gpu else "runs"
    if spec.adapter == "published":
        how = "needs a coder"
    commit = f" at {needs.commit[:7]}" if needs.commit else ""
    source = f"{needs.repository}{commit}" if needs.repository else _last_url(spec.reference)
    flags = " ".join(protocol.flags)
    return Comparator(
        spec.id, how, protocol.rate, flags, protocol.chroma, needs.licence, _sets(points, spec.id), source
    )


def _of_curves(codec: str, points: list[PublishedPoint]) -> Comparator:
    rates = dict.fromkeys(point.protocol.partition(":")[0] for point in points)
    flags = dict.fromkeys(flag for point in points if (flag := published_flags(point.protocol)))
    sources = dict.fromkeys(point.source.partition(" ")[0] for point in points)
    return Comparator(
        codec,
        "published",
        ", ".join(rates),
        " ".join(flags),
        Protocol().chroma,
        "",
        _sets(points, codec),
        ", ".join(sources),
    )


def _owner(curve: str, codecs: set[str]) -> str:
    """The codec that a curve is of: ``vtm`` for ``vtm@diffeic``, and ``rdeic`` for its variant ``rdeic-2``."""
    name = curve.partition("@")[0]
    variants = [codec for codec in codecs if name.startswith(f"{codec}-")]
    return name if name in codecs or not variants else max(variants, key=len)


def _sets(points: list[PublishedPoint], codec: str) -> str:
    """The curves of *codec* and the data sets that they are on."""
    curves: dict[str, dict[str, None]] = {}
    for point in points:
        curves.setdefault(point.codec, {})[point.dataset] = None
    named = (("" if name == codec else f"{name}: ") + ", ".join(sorted(sets)) for name, sets in sorted(curves.items()))
    return "; ".join(named)


def _last_url(text: str) -> str:
    urls = re.findall(r"https?://[^\s,;]+", text)
    return urls[-1] if urls else text
