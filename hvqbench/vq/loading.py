"""Which tokenizer a configuration means: a folder of ours, or a model of another library.

Nothing here imports torch before a tokenizer is loaded, so that listing codecs stays fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hvqbench.vq.hub import PREFIX, Source

if TYPE_CHECKING:
    from hvqbench.vq.base import BaseTokenizer

TOKENIZER_FILE = "tokenizer.safetensors"


def load_tokenizer(name: str, base: Path) -> BaseTokenizer:
    """The tokenizer *name* of a ``codec.toml`` or ``train.toml`` that lies in the folder *base*, ready for use.

    *name* is a folder, relative to *base*, that holds ``tokenizer.safetensors``, or the name of a diffusers ``VQModel``
    (``diffusers:PLACE[:SUBFOLDER]``, :mod:`hvqbench.vq.hub`), which is fetched if need be.
    """
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

    Of ours: its own and that of the autoencoder it names. Of a diffusers model: configuration and weights.
    """
    if name.startswith(PREFIX):
        return Source.parse(name, base).files()
    path = _own_file(name, base)
    autoencoder = _metadata(path).get("autoencoder")
    return [path, (path.parent / autoencoder).resolve()] if autoencoder else [path]


def tokenizer_unavailable(name: str, base: Path) -> str | None:
    """Why that tokenizer cannot be used here, and what to do, in one line; None if it can. Cheap; fetches nothing."""
    if name.startswith(PREFIX):
        return Source.parse(name, base).unavailable()
    missing = [path for path in tokenizer_files(name, base) if not path.is_file()]
    return f"weights {missing[0]} are missing; train them (docs/training.md) or fetch the file" if missing else None


def tokenizer_libraries(name: str) -> tuple[str, ...]:
    """Distributions besides torch whose version can change what that tokenizer paints."""
    return ("diffusers",) if name.startswith(PREFIX) else ()


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
