"""Model cards: what a set of weights was trained on, how, for how long, and what it gives on Kodak."""

from __future__ import annotations

import dataclasses
import math
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

    from hvqbench.training.loop import Run
    from hvqbench.vq.hyperprior import Hyperprior
    from hvqbench.vq.tokenizer import Tokenizer


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
def tokenizer_on_kodak(tokenizer: Tokenizer) -> dict[str, str]:
    """Mean PSNR, LPIPS-Alex and DISTS of Kodak's reconstructions, and how the codebook is used; empty without Kodak."""
    from hvqbench.metrics import load_metric

    names = ("psnr", "lpips-alex", "dists")
    metrics = [load_metric(name) for name in names]
    scores, counts = [], torch.zeros(tokenizer.config.codewords)
    for image, indices in _kodak_indices(tokenizer):
        counts += torch.bincount(indices.flatten(), minlength=len(counts))
        output = ((tokenizer.decode(indices[None])[0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        scores.append([metric(image, output.permute(1, 2, 0).contiguous().numpy()) for metric in metrics])
    if not scores:
        return {}
    shares = counts[counts > 0] / counts.sum()
    perplexity = float(torch.exp(-(shares * shares.log()).sum()))
    facts = {f"Kodak {name}": f"{value:.4f}" for name, value in zip(names, np.mean(scores, 0), strict=True)}
    return facts | {"Kodak codewords used": f"{len(shares)} of {len(counts)}, perplexity {perplexity:.0f}"}


@torch.inference_mode()
def hyperprior_on_kodak(tokenizer: Tokenizer, model: Hyperprior, counts: Tensor) -> dict[str, str]:
    """Ideal bits per Kodak image for fixed length, static frequencies and the hyperprior; empty without Kodak."""
    from hvqbench.vq.hyperprior import static_bits
    from hvqbench.vq.pee import anchor_logits, index_bits

    rows = []
    for image, indices in _kodak_indices(tokenizer):
        latent = tokenizer.encode(_as_input(image))
        z = model.analyse(latent).round()
        mean, log_precision = model.synthesise(z, (latent.shape[-2], latent.shape[-1]))
        bits = index_bits(anchor_logits(mean, log_precision, tokenizer.codebook, model.bias), indices.flatten())
        fixed = indices.numel() * math.log2(len(counts))
        rows.append([fixed, float(static_bits(counts, indices).sum()), float(bits.sum()), float(model.z_bits(z).sum())])
    if not rows:
        return {}
    fixed, static, index, side = np.mean(rows, 0)
    saved_static, saved_hyperprior = 100 * (1 - static / fixed), 100 * (1 - (index + side) / fixed)
    return {
        "Kodak ideal bits per image": f"fixed {fixed:.0f}, static {static:.0f}, hyperprior {index:.0f} + z {side:.0f}",
        "Kodak ideal saving over fixed": f"static {saved_static:.1f} %, hyperprior {saved_hyperprior:.1f} %",
    }


def _kodak_indices(tokenizer: Tokenizer) -> Any:
    """Kodak's images with their index maps; nothing where Kodak is not on this machine."""
    from hvqbench.data import dataset_unavailable, load_dataset
    from hvqbench.vq.tokenizer import nearest

    if dataset_unavailable("kodak"):
        return
    for file in load_dataset("kodak").images:
        image = file.read()
        latent = tokenizer.encode(_as_input(image))[0]
        yield image, nearest(latent.flatten(1).T, tokenizer.codebook).view(latent.shape[1:])


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
