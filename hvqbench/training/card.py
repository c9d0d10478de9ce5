"""Model cards: what a set of weights was trained on, how, for how long, and what it gives on Kodak."""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

    from hvqbench.training.loop import Run
    from hvqbench.vq.base import BaseTokenizer
    from hvqbench.vq.hyperprior import Hyperprior


def write_card(run: Run, title: str, settings: Any, data: Path, device: str, facts: dict[str, str]) -> None:
    """Write ``README.md`` into the run's folder: settings, data, time, device, loss curve and *facts*."""
    lines = [f"# {title}", "", f"Trained by `hvqbench train` (torch {torch.__version__}).", "", "| | |", "|---|---|"]
    lines += [f"| data | `{data.name}` |", f"| device | {_device_name(device)} |"]
    lines += [f"| training time | {run.seconds / 60:.0f} minutes |"]
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    lines += ["", "## Settings", "", "| key | value |", "|---|---|"]
    lines += [f"| `{name}` | `{value}` |" for name, value in dataclasses.asdict(settings).items()]
    lines += ["", "## Loss curve", "", *_curve(run.history())]
    (run.out / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


@torch.inference_mode()
def tokenizer_on_kodak(tokenizer: BaseTokenizer) -> dict[str, str]:
    """Mean PSNR, LPIPS-Alex and DISTS of Kodak's reconstructions, and how the codebook is used; empty without Kodak."""
    from hvqbench.metrics import load_metric

    names = ("psnr", "lpips-alex", "dists")
    metrics = [load_metric(name) for name in names]
    scores: list[list[float]] = []
    counts = torch.zeros(tokenizer.config.stages, tokenizer.config.codewords)
    for image, _, indices in kodak_indices(tokenizer):
        counts += stage_counts(indices, tokenizer.config.codewords)
        output = ((tokenizer.decode(indices)[0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        scores.append([metric(image, output.permute(1, 2, 0).contiguous().numpy()) for metric in metrics])
    if not scores:
        return {}
    facts = {f"Kodak {name}": f"{value:.4f}" for name, value in zip(names, np.mean(scores, 0), strict=True)}
    usage = [f"{int((stage > 0).sum())} of {len(stage)}, perplexity {perplexity(stage):.0f}" for stage in counts]
    return facts | {"Kodak codewords used": "; ".join(usage)}


@torch.inference_mode()
def hyperprior_on_kodak(tokenizer: BaseTokenizer, model: Hyperprior, counts: Tensor) -> dict[str, str]:
    """Ideal bits per Kodak image for fixed length, static frequencies and the hyperprior; empty without Kodak."""
    from hvqbench.vq.hyperprior import static_bits

    rows = []
    for _, latent, indices in kodak_indices(tokenizer):
        bits, z_bits = model(latent, indices, tokenizer.codebooks)
        fixed = indices.numel() * math.log2(tokenizer.config.codewords)
        rows.append([fixed, float(static_bits(counts, indices).sum()), float(bits.sum()), float(z_bits)])
    if not rows:
        return {}
    fixed, static, index, side = np.mean(rows, 0)
    saved_static, saved_hyperprior = 100 * (1 - static / fixed), 100 * (1 - (index + side) / fixed)
    return {
        "Kodak ideal bits per image": f"fixed {fixed:.0f}, static {static:.0f}, hyperprior {index:.0f} + z {side:.0f}",
        "Kodak ideal saving over fixed": f"static {saved_static:.1f} %, hyperprior {saved_hyperprior:.1f} %",
    }


def kodak_indices(tokenizer: BaseTokenizer) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
    """Kodak's images, latents 1×D×h×w and indices 1×S×h×w; nothing where Kodak is not on this machine."""
    from hvqbench.data import dataset_unavailable, load_dataset

    if dataset_unavailable("kodak"):
        return
    for file in load_dataset("kodak").images:
        image = file.read()
        latent = tokenizer.encode(_as_input(image))
        yield image, latent, tokenizer.quantize(latent)


def stage_counts(indices: Tensor, codewords: int) -> Tensor:
    """How often each codeword of each stage occurs in B×S×h×w indices: S×K, int64."""
    stages = indices.transpose(0, 1).flatten(1)
    return torch.stack([torch.bincount(stage, minlength=codewords) for stage in stages])


def perplexity(counts: Tensor) -> float:
    """exp(entropy) of the frequencies in counts K: how many equally likely codewords would be as random."""
    shares = counts[counts > 0].double() / counts.sum()
    return float(torch.exp(-(shares * shares.log()).sum()))


def _as_input(image: np.ndarray) -> Tensor:
    from hvqbench.training.photos import to_tensor

    return to_tensor(image[None])


def _curve(history: list[dict[str, Any]]) -> list[str]:
    """About twenty rows of the log as a Markdown table."""
    if not history:
        return ["(no step was logged)"]
    every = max(1, len(history) // 20)
    rows = history[::-1][::every][::-1]
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        table.append("| " + " | ".join(f"{row[n]:.4g}" if n in row else "" for n in names) + " |")
    return table


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"
