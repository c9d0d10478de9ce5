"""Training: tokenizers, and index models on top of them.

Every trainer reads one ``train.toml``, resumes from its last checkpoint when the same command is given again, and ends
by writing safetensors and a model card.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hvqbench.training.ablation import ablate
    from hvqbench.training.binding import bind_index_models
    from hvqbench.training.index_model import train_index_model
    from hvqbench.training.tokenizer import train_tokenizer
    from hvqbench.training.transformer import train_transformer

__all__ = ["ablate", "bind_index_models", "train_index_model", "train_tokenizer", "train_transformer"]


def __getattr__(name: str) -> object:
    if name == "train_tokenizer":
        from hvqbench.training.tokenizer import train_tokenizer

        return train_tokenizer
    if name == "train_index_model":
        from hvqbench.training.index_model import train_index_model

        return train_index_model
    if name == "train_transformer":
        from hvqbench.training.transformer import train_transformer

        return train_transformer
    if name == "ablate":
        from hvqbench.training.ablation import ablate

        return ablate
    if name == "bind_index_models":
        from hvqbench.training.binding import bind_index_models

        return bind_index_models
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
