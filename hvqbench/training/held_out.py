"""What a tokenizer in training gives on photos that it does not learn from."""

from __future__ import annotations

import numpy as np
import torch

from hvqbench.training.loop import autocast
from hvqbench.training.photos import to_tensor
from hvqbench.vq.painted import PainterTokenizer


@torch.inference_mode()
def judge_prefixes(tokenizer: PainterTokenizer, crops: np.ndarray, device: str) -> dict[str, float]:
    """Mean LPIPS-alex of each prefix of the grids, and of all of them DISTS and PSNR, on uint8 B×H×W×3 *crops*."""
    from hvqbench.metrics import load_metric

    with autocast(device):
        entries = tokenizer.embed(tokenizer.quantize(tokenizer.encode(to_tensor(crops).to(device))))
        prefixes = [tokenizer.compose(entries[: n + 1]) for n in range(len(entries))]
        painted = [tokenizer.decoder(latent).float().cpu() for latent in prefixes]
    pixels = [((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy() for x in painted]

    def mean(name: str, outputs: np.ndarray) -> float:
        metric = load_metric(name)
        return float(np.mean([metric(x, np.ascontiguousarray(y)) for x, y in zip(crops, outputs, strict=True)]))

    found = {f"held-alex-{number}": mean("lpips-alex", outputs) for number, outputs in enumerate(pixels, 1)}
    return found | {f"held-{name}": mean(name, pixels[-1]) for name in ("dists", "psnr")}
