"""Training: tokenizers, and index models on top of them.

Every trainer reads one ``train.toml``, resumes from its last checkpoint when the same command is given again, and ends
by writing safetensors and a model card.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hvqbench.training.ablation import ablate
    from hvqbench.training.binding import bind_index_models
    from hvqbench.training.granular import train_granular
    from hvqbench.training.index_model import train_index_model
    from hvqbench.training.joint import train_joint
    from hvqbench.training.tokenizer import train_tokenizer

__all__ = ["ablate", "bind_index_models", "train_granular", "train_index_model", "train_joint", "train_tokenizer"]

_MODULES = {
    "ablate": "ablation",
    "bind_index_models": "binding",
    "train_granular": "granular",
    "train_index_model": "index_model",
    "train_joint": "joint",
    "train_tokenizer": "tokenizer",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
