"""Training of index models on a finished tokenizer: codeword counts, and the hyperprior."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hvqbench.training.card import hyperprior_on_kodak, write_card
from hvqbench.training.loop import Run, autocast, cosine, mean_of, read_config
from hvqbench.training.photos import Photos
from hvqbench.vq.hyperprior import Hyperprior, HyperpriorConfig, static_bits
from hvqbench.vq.pee import index_bits
from hvqbench.vq.tokenizer import Tokenizer, nearest
from hvqbench.vq.weights import save_weights


@dataclass(frozen=True)
class IndexModelTraining:
    """Keys of an index model's ``train.toml``.

    ``tokenizer`` is a folder, relative to the configuration; ``crops`` random crops of side ``crop`` pixels are turned
    into latents once, and the last 5 % of them are held out. ``start`` is a ``hyperprior.safetensors`` to continue
    from, relative to the configuration, as joint training of the tokenizer leaves one behind. Over the fraction
    ``z_free`` of the steps the price of z's bits rises from nothing to full.
    """

    tokenizer: str
    steps: int = 2000
    batch: int = 16
    crop: int = 256
    crops: int = 4000
    learning_rate: float = 1.5e-3
    width: int = 128
    z_channels: int = 6
    z_free: float = 0.3
    seed: int = 0
    start: str = ""


def train_index_model(config: Path, data: Path, out: Path, device: str = "cpu", **overrides: Any) -> Path:
    """Train, or continue to train, the index models of *config* on the photos of *data*.

    *out* receives ``frequencies.safetensors`` (for huffman-vq and static-vq), ``hyperprior.safetensors`` (for hypervq)
    and a model card; the latter's path is returned.
    """
    settings = read_config(IndexModelTraining, config, overrides)
    folder = (config.parent / settings.tokenizer).resolve()
    file = folder / "tokenizer.safetensors"
    tokenizer = Tokenizer.load(file).to(device)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    run = Run(out, settings.steps)
    latents = _latents(tokenizer, settings, data, device, out / f"latents-{digest[:12]}.pt")
    codebook = tokenizer.codebook
    indices = torch.stack([_indices(latent, codebook) for latent in latents])
    counts = torch.bincount(indices.flatten(), minlength=len(codebook))
    save_weights(out / "frequencies.safetensors", {"counts": counts}, {"tokenizer": digest})

    start = (config.parent / settings.start).resolve() if settings.start else None
    model = _train(settings, run, latents, indices, counts, codebook, device, start)
    path = out / "hyperprior.safetensors"
    model.save(path, digest)
    (out / f"latents-{digest[:12]}.pt").unlink()
    facts = {"tokenizer": digest[:12], **hyperprior_on_kodak(tokenizer.cpu(), model, counts)}
    write_card(run, "Hyperprior and codeword frequencies", settings, data, device, facts)
    return path


def _train(
    settings: IndexModelTraining,
    run: Run,
    latents: Tensor,
    indices: Tensor,
    counts: Tensor,
    codebook: Tensor,
    device: str,
    start: Path | None,
) -> Hyperprior:
    torch.manual_seed(settings.seed)
    model = Hyperprior(HyperpriorConfig(codebook.shape[1], len(codebook), settings.width, settings.z_channels))
    model.to(device)
    model.start_static(counts.to(device), codebook)
    if start:
        model.load_state_dict(Hyperprior.load(start)[0].state_dict())
    # The prior's scale and the bias start at good values but move slowly on the networks' learning rate.
    quick = [model.z_mean, model.z_log_scale, model.bias]
    networks = [*model.analysis.parameters(), *model.synthesis.parameters()]
    groups = [{"params": networks, "factor": 1.0}, {"params": quick, "factor": 5.0, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, settings.learning_rate, (0.9, 0.95), weight_decay=0.01)
    state = run.restore()
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    held_out = max(1, len(latents) // 20)
    rng = np.random.default_rng((settings.seed, run.started_at))
    recent: list[Tensor] = []
    fixed, static = math.log2(len(codebook)), float(static_bits(counts, indices[-held_out:]).mean())

    for step in run.each_step(lambda: {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "hyperprior"):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * group["factor"] * cosine(step, settings.steps, warmup=50)
        chosen = torch.from_numpy(rng.integers(0, len(latents) - held_out, settings.batch))
        with autocast(device):
            logits, _, _, z_bits = model(latents[chosen].to(device).float(), codebook)
        targets = indices[chosen].flatten().to(device)
        # z is nearly free at first: at full price it would die before the synthesis has learned to read it.
        price = min(1.0, (step + 1) / max(1.0, settings.z_free * settings.steps))
        loss = index_bits(logits, targets).mean() + price * z_bits / len(targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent.append(loss)
        if (step + 1) % 100 == 0:
            bits, z_bits = _held_out_bits(model, latents[-held_out:], indices[-held_out:], codebook, device)
            run.log(
                step=step + 1,
                seconds=run.seconds,
                bits_per_index=mean_of(recent),
                held_out_indices=bits,
                held_out_z=z_bits,
                held_out_static=static,
                held_out_saving_percent=100 * (1 - (bits + z_bits) / fixed),
            )
            recent.clear()
    return model.cpu()


@torch.inference_mode()
def _held_out_bits(
    model: Hyperprior, latents: Tensor, indices: Tensor, codebook: Tensor, device: str
) -> tuple[float, float]:
    """Ideal bits per index for the indices, and for z with rounding instead of noise."""
    from hvqbench.vq.pee import anchor_logits

    total, z_total = 0.0, 0.0
    for latent, target in zip(latents.split(32), indices.split(32), strict=True):
        z = model.analyse(latent.to(device).float()).round()
        mean, log_precision = model.synthesise(z, (latent.shape[-2], latent.shape[-1]))
        total += float(
            index_bits(anchor_logits(mean, log_precision, codebook, model.bias), target.flatten().to(device)).sum()
        )
        z_total += float(model.z_bits(z).sum())
    return total / indices.numel(), z_total / indices.numel()


@torch.inference_mode()
def _latents(tokenizer: Tokenizer, settings: IndexModelTraining, data: Path, device: str, cache: Path) -> Tensor:
    """Latents (N×D×h×w, float16) of random crops; kept beside the checkpoint, so that a resumed run sees the same."""
    if cache.exists():
        return torch.load(cache, weights_only=True)
    from rich.console import Console
    from rich.progress import track

    photos = Photos(data, settings.crop)
    rng = np.random.default_rng(settings.seed)
    parts = []
    batches = range(0, settings.crops, settings.batch)
    for start in track(batches, "latents", console=Console(stderr=True)):
        with autocast(device):
            latent = tokenizer.encode(photos.batch(min(settings.batch, settings.crops - start), rng).to(device))
        parts.append(latent.half().cpu())
    latents = torch.cat(parts)
    torch.save(latents, cache)
    return latents


def _indices(latent: Tensor, codebook: Tensor) -> Tensor:
    """Nearest codewords of one latent D×h×w: h×w."""
    flat = latent.float().flatten(1).T
    return nearest(flat, codebook.cpu()).view(latent.shape[1:])
