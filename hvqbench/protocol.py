"""How a codec's numbers come about, and what it needs: the tables ``[protocol]`` and ``[needs]`` of a ``codec.toml``.

Two rows of a table are like for like only if both count a whole file, code the image in its own size, and decode it
the same each time. A codec that does otherwise says so here, and tables mark its rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    import pandas as pd

Rate = Literal["file", "payload", "estimated", "nominal", "unknown"]
"""What the bits of a codec are.

``file``
    every byte that a decoder in another process needs.
``payload``
    coded bytes without the header or the side information (shapes, a caption) that the decoder needs as well.
``estimated``
    the entropy that a model predicts; nothing is coded.
``nominal``
    a number of symbols times a number of bits each; nothing is coded.
``unknown``
    its source does not say.
"""


NOT_DECODED = "not-decoded"
"""The flag of rows that :mod:`hvqbench.bench.reconstructions` makes of what others decoded."""

FLAGS: Mapping[str, str] = {
    "payload-only": "bits leave out a header or side information that the decoder needs",
    "estimated-rate": "bits are the entropy that a model predicts: nothing was coded",
    "nominal-rate": "bits are a number of symbols times bits each: nothing was coded",
    "unknown-rate": "its source does not say what its bits are",
    "resized": "the image was coded or restored in another size than its own",
    "stochastic": "two decodes of one stream differ",
    NOT_DECODED: "pictures and bytes are as others gave them: nothing was decoded here",
}
"""Every way in which a row is not like for like, in the order in which they are said."""

_RATE_FLAGS: Mapping[str, str] = {
    "payload": "payload-only",
    "estimated": "estimated-rate",
    "nominal": "nominal-rate",
    "unknown": "unknown-rate",
}


@dataclass(frozen=True)
class Protocol:
    """What a reader must know before comparing a codec's rows with another's."""

    rate: Rate = "file"
    resizes: bool = False
    """Whether the image is coded in another size than its own, or decoded to another."""
    stochastic: bool = False
    """Whether two decodes of one stream differ (a decoder that samples, without a fixed seed)."""
    chroma: str = ""
    """Chroma subsampling like ``"4:2:0"``; ``""`` for a codec of RGB pixels."""
    padding: str = ""
    """What happens to sides that are no multiple of the codec's block."""
    note: str = ""
    """Anything else, in one line."""

    def __post_init__(self) -> None:
        _check_lines(self)

    @property
    def flags(self) -> tuple[str, ...]:
        """Keys of :data:`FLAGS`; none if the codec's rows are like for like."""
        own = {_RATE_FLAGS.get(self.rate, ""), "resized" * self.resizes, "stochastic" * self.stochastic}
        return tuple(flag for flag in FLAGS if flag in own)


@dataclass(frozen=True)
class Needs:
    """What a codec needs that is not shipped with hvqbench, and how to get it. A field that is not known is empty."""

    repository: str = ""
    commit: str = ""
    weights: str = ""
    """URL or file name."""
    licence: str = ""
    gpu: bool = False
    install: str = ""
    """What to do, in one line."""

    def __post_init__(self) -> None:
        _check_lines(self)


def _check_lines(table: Protocol | Needs) -> None:
    for name, value in vars(table).items():
        if isinstance(value, str) and "\n" in value:
            raise HvqbenchError(f"{name} has more than one line; shorten it")


def published_flags(protocol: str) -> str:
    """The flag of a published point's protocol, ``"payload: no header"`` for one; ``""`` if it is like for like."""
    return _RATE_FLAGS.get(protocol.partition(":")[0], "")


def codec_flags(rows: pd.DataFrame) -> dict[str, str]:
    """Flags of each codec in results, as they were declared when it ran."""
    if "protocol" not in rows:  # an older hvqbench wrote them
        return {}
    return {
        str(codec): flags
        for codec, flags in rows.groupby("codec", sort=False)["protocol"].first().items()
        if isinstance(flags, str) and flags  # NaN where an older hvqbench wrote the rows
    }


def explain(marked: Mapping[str, str]) -> list[str]:
    """What each flag means and whose it is, one line for each flag that occurs.

    Parameters
    ----------
    marked
        A codec's name: its flags, separated by blanks.

    >>> explain({"a": "resized", "b": "", "c": "nominal-rate resized"})[1]
    'resized (a, c): the image was coded or restored in another size than its own'
    """
    owners = {flag: [codec for codec, flags in marked.items() if flag in flags.split()] for flag in FLAGS}
    return [f"{flag} ({', '.join(owners[flag])}): {text}" for flag, text in FLAGS.items() if owners[flag]]
