"""Which tokenizer a configuration means: a folder of ours, a model of another library, or a class of your own.

Nothing here imports torch before a tokenizer is loaded, so that listing codecs stays fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hvqbench.sources import local_sources, module_sources
from hvqbench.vq.hub import PREFIX, Source

if TYPE_CHECKING:
    from hvqbench.vq.base import BaseTokenizer

TOKENIZER_FILE = "tokenizer.safetensors"


def load_tokenizer(name: str, base: Path) -> BaseTokenizer:
    """The tokenizer *name* of a ``codec.toml`` or ``train.toml`` that lies in the folder *base*, ready for use.

    *name* is a folder, relative to *base*, that holds ``tokenizer.safetensors``; or the name of a diffusers ``VQModel``
    (``diffusers:PLACE[:SUBFOLDER]``, :mod:`hvqbench.vq.hub`), which is fetched if need be; or a class
    (``file.py:Class`` or ``package.module:Class``, :mod:`hvqbench.vq.own`).
    """
    if is_own(name):
        from hvqbench.vq.own import OwnTokenizer

        return OwnTokenizer.load(name, base)
    if name.startswith(PREFIX):
        from hvqbench.vq.vqmodel import VQModelTokenizer

        return VQModelTokenizer.load(name, base)
    path = _own_file(name, base)
    if "painter" in _metadata(path):
        from hvqbench.vq.painted import PainterTokenizer

        return PainterTokenizer.load(path)
    from hvqbench.vq.tokenizer import Tokenizer

    return Tokenizer.load(path)


def tokenizer_files(name: str, base: Path) -> list[Path]:
    """The files behind that tokenizer, whether they exist or not; none for a repository that was not fetched yet.

    Of ours: its own and that of the autoencoder it names. Of a diffusers model: configuration and weights. Of a class:
    its source and that of what it imports beside it.
    """
    if is_own(name):
        place = name.rpartition(":")[0]
        return local_sources(base / place) if place.endswith(".py") else module_sources(place)
    if name.startswith(PREFIX):
        return Source.parse(name, base).files()
    path = _own_file(name, base)
    autoencoder = _metadata(path).get("autoencoder")
    return [path, (path.parent / autoencoder).resolve()] if autoencoder else [path]


def tokenizer_unavailable(name: str, base: Path) -> str | None:
    """Why that tokenizer cannot be used here, and what to do, in one line; None if it can. Cheap; fetches nothing."""
    if is_own(name):
        place = name.rpartition(":")[0]
        return None if tokenizer_files(name, base) else f"tokenizer {name}: there is no {place}; correct codec.toml"
    if name.startswith(PREFIX):
        return Source.parse(name, base).unavailable()
    missing = [path for path in tokenizer_files(name, base) if not path.is_file()]
    return f"weights {missing[0]} are missing; train them (docs/training.md) or fetch the file" if missing else None


def tokenizer_libraries(name: str) -> tuple[str, ...]:
    """Distributions besides torch whose version can change what that tokenizer paints."""
    return ("diffusers",) if name.startswith(PREFIX) else ()


def is_own(name: str) -> bool:
    """Whether *name* means a class: ``file.py:Class`` or ``package.module:Class``."""
    place, separator, attribute = name.rpartition(":")
    module = place.endswith(".py") or all(part.isidentifier() for part in place.split("."))
    return bool(separator) and not name.startswith(PREFIX) and module and attribute.isidentifier()


def _own_file(name: str, base: Path) -> Path:
    return (base / name).resolve() / TOKENIZER_FILE


def _metadata(path: Path) -> dict[str, str]:
    """The strings stored with weights; empty where there is no such file, which loading it will explain."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError):
        return {}
