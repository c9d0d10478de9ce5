"""Command lines that are printed for a user to run: they run as they stand, in the folder where they were printed.

So they name the catalog that is in use, the folder of the results where it is not the usual one, and a data set or a
codec that was a path by that path, which the rows remember in their column ``command``.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from hvqbench.catalog import CATALOG_VARIABLE, codec_files, dataset_files, select_codecs
from hvqbench.errors import HvqbenchError

PROGRAM = "hvqbench"
USUAL_RESULTS = "results"


def command(*words: str, results: str | Path | None = None) -> str:
    """``hvqbench`` and *words* as one line for a shell, with ``--results`` and ``--catalog`` where these are needed.

    >>> command("run", "--codec", "my codec", "--dataset", "kodak", results="results")
    "hvqbench run --codec 'my codec' --dataset kodak"
    """
    place = [] if results is None or str(results) == USUAL_RESULTS else ["--results", str(results)]
    return shlex.join([PROGRAM, *words, *place, *_catalog()])


def given_command() -> str:
    """How this process was called, as rows keep it: with the catalog, which may have come from the environment."""
    name = os.path.basename(sys.argv[0])
    words = [PROGRAM if name in (PROGRAM, "__main__.py") else name, *sys.argv[1:]]
    if words[0] == PROGRAM and not recorded("catalog", [shlex.join(words)]):
        words += _catalog()
    return shlex.join(words).encode(errors="replace").decode()


def codec_source(codec: str, commands: Iterable[str]) -> str:
    """What names *codec* here: its id, or the path by which one of the *commands* named it; the id if neither does."""
    if codec in codec_files():
        return codec
    named = [re.sub(r"@[-+.\deE]+$", "", word) for word in recorded("codec", commands)]  # without points
    paths = [word for word in named if os.sep in word or word.endswith(".toml")]
    folders = {_folder(path).resolve().name: path for path in paths if _folder(path).is_dir()}
    return folders.get(codec, codec)


def dataset_source(dataset: str, commands: Iterable[str]) -> str:
    """What names *dataset* here: its id, or the folder or image that one of the *commands* named; the id if neither."""
    if dataset in dataset_files():
        return dataset
    paths = [word for word in recorded("dataset", commands) if Path(word).exists()]
    named = {_name(Path(path)): path for path in paths}
    return named.get(dataset.removesuffix("-folder"), named.get(dataset, dataset))


def repr_point(point: float) -> str:
    """A point as text that gives this very point again, and so this very key.

    >>> repr_point(30.0), repr_point(0.1234567)
    ('30', '0.1234567')
    """
    return f"{point:g}" if float(f"{point:g}") == point else repr(float(point))


def recorded(option: str, commands: Iterable[str]) -> list[str]:
    """The values of ``--option`` in command lines of hvqbench, split at commas, each once, the newest first."""
    values: dict[str, None] = {}
    for line in reversed(list(dict.fromkeys(commands))):
        values |= dict.fromkeys(_values(option, line))
    return list(values)


@lru_cache(maxsize=1024)
def _values(option: str, line: str) -> tuple[str, ...]:
    try:
        words = shlex.split(line)
    except ValueError:  # cut, or not a command line at all
        return ()
    found: list[str] = []
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == f"--{option}":
            found += [value] if equals else words[number + 1 : number + 2]
    return tuple(part for value in found for part in value.split(",") if part)


def is_known(codec: str) -> bool:
    """Whether an id, a tag or a path names a codec that is here."""
    try:
        return codec in codec_files() or select_codecs(codec) != [codec] or (_folder(codec) / "codec.toml").is_file()
    except HvqbenchError:
        return False


def _catalog() -> list[str]:
    catalog = os.environ.get(CATALOG_VARIABLE, "")
    return ["--catalog", catalog] if catalog else []


def _folder(path: str) -> Path:
    return Path(path).parent if path.endswith(".toml") else Path(path)


def _name(path: Path) -> str:
    """As :func:`hvqbench.data.load_dataset` names it."""
    from hvqbench.data import path_id

    return path_id(path)
