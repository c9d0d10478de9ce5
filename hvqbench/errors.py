"""What a user is told: lines on stderr, and one exception for everything that can be mended.

An error names the thing, the reason and the remedy. The command line prints it as one line and exits with 2; anything
else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable

from hvqbench.shown import visible


class HvqbenchError(Exception):
    """A problem that the user can mend; ``str(error)`` is one line with the thing, the reason and the remedy."""


class BitstreamError(HvqbenchError):
    """A stream that cannot be decoded: truncated, altered, foreign, or made by another model."""


class UnavailableError(HvqbenchError):
    """Something that exists but cannot run here, for want of a binary, weights, data or a licence."""


def did_you_mean(kind: str, name: str, known: Iterable[str]) -> HvqbenchError:
    """An error for an unknown *name*, with the nearest known names.

    >>> print(did_you_mean("codec", "hyprvq", ["hypervq", "jpeg"]))
    unknown codec 'hyprvq': did you mean 'hypervq'? `hvqbench ls codecs` lists them all
    """
    return HvqbenchError(f"unknown {kind} {name!r}: {closest(name, known)}`hvqbench ls {kind}s` lists them all")


def closest(name: str, known: Iterable[str]) -> str:
    """The known names nearest to *name*, as a question that ends in a space; ``""`` if none is near."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(repr(c) for c in close)}? " if close else ""


def say(line: str) -> None:
    """One line on stderr, about something that takes a while or turned out otherwise than asked."""
    sys.stderr.write(f"hvqbench: {visible(line)}\n")
