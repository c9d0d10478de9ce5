"""Weights on disk: safetensors only, written atomically, read with errors that name the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from hvqbench.errors import HvqbenchError
from hvqbench.files import atomic_path


def save_weights(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write *tensors* and string *metadata* to *path*, or leave what was there untouched."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary, dict(metadata))
        temporary.chmod(0o644)  # safetensors writes files for their owner only


def load_weights(path: Path, *keys: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of *path*; *keys* are metadata that must be there."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise HvqbenchError(f"cannot read weights {path}: {error}; fetch or train them again") from None
    missing = [key for key in keys if key not in metadata]
    if missing:
        raise HvqbenchError(
            f"{path} holds no {missing[0]!r} in its metadata: it is not the kind of weights expected here"
        )
    return tensors, metadata
