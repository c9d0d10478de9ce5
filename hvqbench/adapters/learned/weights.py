"""Weights of other people's models: where they lie, how they come here, and how they are read without running code.

Named by a URL, a file is looked for in torch hub's cache, where CompressAI and torch hub keep it too; otherwise it is a
path. Safetensors hold no code; a torch file is read with ``weights_only=True``, which unpickles nothing but tensors and
plain Python values.
"""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hvqbench.downloads import fetch, sha256_of, torch_hub_folder
from hvqbench.errors import HvqbenchError, UnavailableError

if TYPE_CHECKING:
    from torch import Tensor

WRAPPERS = ("state_dict", "network", "model_state_dict")
"""Keys under which training scripts keep a model's tensors beside the optimizer's."""


@dataclass(frozen=True)
class Weights:
    """One file, by its URL or by a path: relative to *base*, ``~`` for the home folder."""

    source: str
    base: Path

    @property
    def remote(self) -> bool:
        """Whether it is named by a URL, which then stands for the content: no other weights come under it."""
        return self.source.startswith(("https://", "http://"))

    @property
    def path(self) -> Path:
        """Where it is, or would be."""
        if self.remote:
            return torch_hub_folder() / "checkpoints" / self.source.rpartition("/")[2]
        return (self.base / Path(self.source).expanduser()).resolve()

    @property
    def sha256(self) -> str:
        """The beginning of its hash, which torch hub's convention puts into the name: ``name-7eb97409.pth``."""
        found = re.search(r"-([0-9a-f]{8,64})\.", self.path.name) if self.remote else None
        return found[1] if found else ""

    def fetch(self) -> None:
        """Download it if it is named by a URL and not here.

        Raises :class:`~hvqbench.errors.UnavailableError` if it cannot be had.
        """
        if not self.path.is_file():
            if not self.remote:
                raise UnavailableError(f"weights {self.path} are missing; put the file there, or correct the path")
            fetch(self.source, self.path, self.sha256)

    def read(self) -> dict[str, Tensor]:
        """Its tensors by name, on the CPU.

        Raises :class:`~hvqbench.errors.HvqbenchError` if it is damaged, or holds what is no tensor.
        """
        from hvqbench.vq.weights import load_weights

        if self.path.suffix == ".safetensors":
            return load_weights(self.path)[0]
        if self.sha256 and not sha256_of(self.path).startswith(self.sha256):
            raise HvqbenchError(
                f"{self.path} is not the file of {self.source} (its sha256 differs); delete and refetch it"
            )
        return _read_torch(self.path)


def _read_torch(path: Path) -> dict[str, Tensor]:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        remedy = "where you trust it, save its tensors with safetensors.torch.save_file"
        raise HvqbenchError(f"{path} holds more than tensors and could run code, so it is not read; {remedy}") from None
    except (OSError, EOFError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise HvqbenchError(f"cannot read weights {path}: {reason}; fetch or train them again") from None
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not (isinstance(content, dict) and all(isinstance(value, torch.Tensor) for value in content.values())):
        raise HvqbenchError(f"{path} holds no state_dict; save model.state_dict() with safetensors.torch.save_file")
    return dict(content)
