"""Training of the transformer (stage 2 of RDVQ, arXiv 2604.10546): its keys, and what its integers cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from hvqbench.training.index_model import IndexModelTraining
from hvqbench.vq.base import BaseTokenizer
from hvqbench.vq.layout import Layout
from hvqbench.vq.models.slices import Mask
from hvqbench.vq.models.transformer import Transformer, TransformerConfig
from hvqbench.vq.models.transformer_coding import TransformerModel
from hvqbench.vq.models.transformer_exact import ExactTransformer


@dataclass(frozen=True)
class TransformerTraining(IndexModelTraining):
    """Keys of a transformer's ``train.toml``, besides those of every index model.

    ``start`` is a ``transformer.safetensors`` of the same shape. With a large codebook the head's logits are most of
    the work, which ``positions`` makes less. All other keys are those of
    :class:`~hvqbench.vq.models.transformer.TransformerConfig`.
    """

    model: str = "transformer"
    steps: int = 20000
    crops: int = 24000
    learning_rate: float = 1e-3
    warmup: int = 500
    weight_decay: float = 0.05
    slices: tuple[int, ...] = ()
    window: int = 256
    width: int = 192
    layers: int = 4
    heads: int = 8
    hidden: int = 0
    mask: Mask = "block"
    coarse: Literal["first", "all"] = "first"

    kind: ClassVar[str] = "transformer"
    file: ClassVar[str] = "transformer.safetensors"

    def network(self, tokenizer: BaseTokenizer) -> Transformer:
        keys = ("slices", "window", "width", "layers", "heads", "hidden", "mask", "coarse")
        return Transformer(TransformerConfig.of(tokenizer, **{key: getattr(self, key) for key in keys}))

    def load(self, path: Path) -> Transformer:
        return Transformer.load(path)[0]

    def differs(self, start: Transformer, network: Transformer) -> str:
        return "" if start.config == network.config else f"{start.config}, not {network.config},"

    def facts(self, path: Path, tokenizer: BaseTokenizer, maps: Sequence[Tensor]) -> dict[str, str]:
        cost = 100 * integer_cost(self.load(path), tokenizer, maps)
        return {"integers against float": f"{cost:+.3f} % of bits"}


@torch.inference_mode()
def integer_cost(model: Transformer, tokenizer: BaseTokenizer, maps: Sequence[Tensor]) -> float:
    """The share by which the integers of *model* need more bits than its floats for *maps* (B×h×w of each grid)."""
    exact = TransformerModel(ExactTransformer(model, list(tokenizer.codebooks)))
    height, width = (side * tokenizer.grids[0].factor for side in maps[0].shape[1:])
    layout = Layout.of(tokenizer, height, width)
    integer = sum(sum(exact.code(layout, crop, {}).ideal_bits.values()) for crop in zip(*maps, strict=True))
    return integer / sum(float(costs.sum()) for costs in model.bits(maps, list(tokenizer.codebooks))["indices"]) - 1
