"""The painter's start: TAEF2's weights (madebyollin/taesd, MIT licence), with its GroupNorms folded away.

A GroupNorm's statistics over whole photographs hardly differ between photographs. Their means over some crops, as
constants, become part of the 1×1 convolution before it. On six Kodak images that changes nothing to speak of, without
any training (LPIPS-alex 0.0390 before, 0.0388 after; DISTS 0.0267, 0.0262).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from hvqbench.errors import HvqbenchError
from hvqbench.vq.painter import Block, PainterDecoder, PainterEncoder
from hvqbench.vq.weights import load_weights

GROUPS = 4
EPSILON = 1e-5
OURS = {"pool.0": "wide.0", "pool.3": "wide.2"}


@torch.inference_mode()
def start_painter(encoder: PainterEncoder, decoder: PainterDecoder, folder: Path, images: Tensor) -> None:
    """Give both the weights of *folder* (``taef2_encoder.safetensors`` and ``taef2_decoder.safetensors``).

    *images* (B×3×H×W in [-1, 1]) are the photographs whose statistics the GroupNorms get.
    """
    theirs = {part: load_weights(folder / f"taef2_{part}.safetensors")[0] for part in ("encoder", "decoder")}
    latent = _fill(encoder, theirs["encoder"], images * 0.5 + 0.5)
    # The decoder's numbering there begins with the clamp, which has no layer of its own here.
    shifted = {f"{int(name.split('.')[0]) - 1}.{name.split('.', 1)[1]}": t for name, t in theirs["decoder"].items()}
    _fill(decoder, shifted, 3 * torch.tanh(latent / 3))


def _fill(network: nn.Sequential, tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """Copy *tensors* into *network* layer by layer, and pass *x* through it to see what each GroupNorm sees."""
    for number, layer in enumerate(network):
        prefix = f"{number}."
        own = {n[len(prefix) :]: t.float() for n, t in tensors.items() if n.startswith(prefix)}
        if isinstance(layer, Block) and layer.wide is not None:
            own = _folded(own, x)
        try:
            layer.load_state_dict(own)
        except RuntimeError as error:
            raise HvqbenchError(f"the start has another shape than the painter at layer {number}: {error}") from None
        x = layer(x)
    return x


def _folded(own: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    gain, offset = own.pop("pool.1.weight"), own.pop("pool.1.bias")
    weight = own["pool.0.weight"]
    grouped = nn.functional.conv2d(x, weight).unflatten(1, (GROUPS, -1)).flatten(2)
    mean = grouped.mean(2).mean(0)
    deviation = (grouped.var(2, unbiased=False) + EPSILON).sqrt().mean(0)
    each = len(gain) // GROUPS
    scale = gain / deviation.repeat_interleave(each)
    ours = {next((new + n[len(old) :] for old, new in OURS.items() if n.startswith(old)), n): t for n, t in own.items()}
    return ours | {
        "wide.0.weight": weight * scale[:, None, None, None],
        "wide.0.bias": offset - mean.repeat_interleave(each) * scale,
    }
