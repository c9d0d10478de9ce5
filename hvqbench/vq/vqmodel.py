"""Tokenizers of the diffusers library: any ``VQModel``, as amused, latent diffusion and Kandinsky (MoVQ) have one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hvqbench.errors import HvqbenchError
from hvqbench.vq.base import BaseTokenizer, grid_specs
from hvqbench.vq.distance import coding_scale
from hvqbench.vq.hub import Source, first_line
from hvqbench.vq.weights import sha256

MAX_DIM = 256
"""Up to here the coder's logits are exact sums, whatever the entries within ±8 are (:mod:`hvqbench.vq.exact`)."""


class VQModelTokenizer(BaseTokenizer):
    """A diffusers ``VQModel`` behind the contract of our own tokenizers.

    Latent and codebook are the model's, times a power of two that brings the largest entry into [4, 8). Coding takes
    the entries on a fixed grid: it refuses those beyond ±16, and those of 1/K, as some codebooks have them, would fall
    between its points. A power of two changes no digit of a float, hence no nearest entry and no pixel; and the largest
    entry, unlike a mean, does not hang on an order of summation.

    Parameters
    ----------
    model
        A ``diffusers.VQModel``; typed loosely, because the library is optional.
    digest
        Identifies its weights.
    """

    model: Any
    codebooks: Tensor

    def __init__(self, model: Any, digest: str) -> None:
        super().__init__()
        entries = model.quantize.embedding.weight.detach().float()
        if (channels := (model.config.in_channels, model.config.out_channels)) != (3, 3):
            raise HvqbenchError(
                f"this VQModel is made for {channels} channels, not for RGB images; choose another model"
            )
        if entries.shape[1] > MAX_DIM:
            raise HvqbenchError(
                f"the codebook of this VQModel has {entries.shape[1]} dimensions, and exact coding can sum {MAX_DIM}; "
                "choose a model with a smaller vq_embed_dim"
            )
        self.model, self.digest = model, digest
        self.factor = 2 ** (len(model.config.block_out_channels) - 1)
        self.grids = grid_specs([self.factor])
        self.scale = coding_scale(entries)
        self.register_buffer("codebooks", (entries * self.scale)[None])

    def encode(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        if height % self.factor or width % self.factor:
            # diffusers would leave out the rest without a word.
            raise HvqbenchError(f"{width}x{height} pixels are no multiples of {self.factor}; pad or crop them")
        return self.model.encode(image).latents * self.scale

    def paint(self, embeddings: Sequence[Tensor], present: Sequence[Tensor | None] = ()) -> Tensor:
        # Not by VQModel.decode: what its force_not_quantize takes, latents or indices, depends on the model.
        entries = embeddings[0] / self.scale
        spatial = entries if self.model.config.norm_type == "spatial" else None
        return self.model.decoder(self.model.post_quant_conv(entries), spatial)

    @classmethod
    def load(cls, name: str, base: Path) -> VQModelTokenizer:
        """The tokenizer *name* (see :mod:`hvqbench.vq.hub`), a folder of which is relative to *base*.

        Its digest is the sha256 of those of its configuration and weights.
        """
        config, weights = Source.parse(name, base).fetch()
        from diffusers import VQModel

        options = {"use_safetensors": True, "local_files_only": True, "low_cpu_mem_usage": False}
        try:
            model, info = VQModel.from_pretrained(
                str(config.parent), torch_dtype=torch.float32, output_loading_info=True, **options
            )
        except Exception as error:  # of diffusers, safetensors or torch, whichever finds it first
            raise HvqbenchError(f"{weights} does not load ({first_line(error)}); fetch it again") from None
        if info["missing_keys"]:  # diffusers would go on with random numbers
            raise HvqbenchError(f"{weights} lacks {info['missing_keys'][0]}, which {config} asks for; fetch both again")
        digest = hashlib.sha256(f"{sha256(config)} {sha256(weights)}".encode()).hexdigest()
        return cls(model, digest).eval()
