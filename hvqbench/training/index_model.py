"""Training of index models on a finished tokenizer: codeword counts, and the hyperprior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hvqbench.analysis.indices import stage_counts
from hvqbench.errors import HvqbenchError
from hvqbench.files import atomic_path
from hvqbench.training import processes
from hvqbench.training.card import hyperprior_on_kodak, write_card
from hvqbench.training.loop import Run, autocast, cosine, mean_of, read_config
from hvqbench.training.photos import Photos
from hvqbench.vq.base import BaseTokenizer
from hvqbench.vq.hyperprior import Hyperprior, HyperpriorConfig, static_bits
from hvqbench.vq.loading import load_tokenizer
from hvqbench.vq.weights import save_weights


@dataclass(frozen=True)
class IndexModelTraining:
    """Keys of an index model's ``train.toml``.

    ``tokenizer`` is a folder, relative to the configuration, or a third-party tokenizer (``diffusers:...``); ``crops``
    random crops of side ``crop`` pixels are turned into latents once, and the last 5 % of them, at most 100, are held
    out. Each step takes the rate of a random share ``positions`` of a batch's positions. ``start``
    is a ``hyperprior.safetensors`` to continue from, relative to the configuration, as joint training of the tokenizer
    leaves one behind; networks that it lacks (the context's) start without effect. ``width``, ``z_channels``,
    ``context``, ``head`` and ``bias`` are those of :class:`~hvqbench.vq.hyperprior.HyperpriorConfig`. Over the fraction
    ``z_free`` of the steps the price of z's bits rises from nothing to full.
    """

    tokenizer: str
    steps: int = 2000
    batch: int = 16
    crop: int = 256
    crops: int = 4000
    positions: float = 1.0
    learning_rate: float = 1.5e-3
    width: int = 96
    z_channels: int = 6
    context: bool = False
    head: str = "anchor"
    bias: bool = True
    z_free: float = 0.3
    seed: int = 0
    start: str = ""


def train_index_model(
    config: Path, data: Path, out: Path, device: str = "cpu", cache: Path | None = None, **overrides: Any
) -> Path:
    """Train, or continue to train, the index models of *config* on the photos of *data*.

    *out* receives ``frequencies.safetensors`` (for huffman-vq and static-vq), ``hyperprior.safetensors`` (for hypervq)
    and a model card; the latter's path is returned. The crops' latents stay in the folder *cache*, for other runs on
    the same tokenizer, photos and crops; without one they lie in *out* until the training is done.
    """
    settings = read_config(IndexModelTraining, config, overrides)
    device = processes.join(device)
    tokenizer = load_tokenizer(settings.tokenizer, config.parent).to(device)
    run = Run(out, settings.steps)
    crops = f"{settings.crops}x{settings.crop}-{settings.batch}-{settings.seed}"
    file = (cache or out) / f"latents-{tokenizer.digest[:12]}-{crops}.pt"
    if processes.is_main() and not file.exists():
        _encode_crops(tokenizer, settings, data, device, file)
    processes.wait()
    latents = torch.load(file, weights_only=True)
    indices = torch.cat([tokenizer.quantize(part.to(device).float()).cpu() for part in latents.split(settings.batch)])
    counts = stage_counts(indices, tokenizer.config.codewords)
    if processes.is_main():
        save_weights(out / "frequencies.safetensors", {"counts": counts}, {"tokenizer": tokenizer.digest})

    model = _model(settings, tokenizer, counts, config.parent)
    _train(settings, run, model.to(device), latents, indices, counts, tokenizer.codebooks, device)
    path = out / "hyperprior.safetensors"
    processes.wait()
    if not processes.is_main():
        return path
    model.cpu().eval().save(path, tokenizer.digest)
    if not cache:
        file.unlink()
    facts = {"tokenizer": tokenizer.digest[:12], **hyperprior_on_kodak(tokenizer.cpu(), model, counts)}
    write_card(run, "Hyperprior and codeword frequencies", settings, data, device, facts)
    return path


def _model(settings: IndexModelTraining, tokenizer: BaseTokenizer, counts: Tensor, base: Path) -> Hyperprior:
    torch.manual_seed(settings.seed)
    shape = tokenizer.config
    sizes = (shape.dim, shape.codewords, shape.stages, settings.width, settings.z_channels)
    model = Hyperprior(HyperpriorConfig(*sizes, settings.context, settings.head, settings.bias))
    model.start_static(counts, tokenizer.codebooks.cpu())
    if settings.start:
        path = (base / settings.start).resolve()
        state = Hyperprior.load(path)[0].state_dict()
        own = model.state_dict()
        wrong = [name for name, tensor in state.items() if name not in own or own[name].shape != tensor.shape]
        if wrong:
            raise HvqbenchError(f"{path} is no start for this hyperprior: {wrong[0]} differs; give both the same shape")
        model.load_state_dict(own | state)
    return model


def _train(
    settings: IndexModelTraining,
    run: Run,
    model: Hyperprior,
    latents: Tensor,
    indices: Tensor,
    counts: Tensor,
    codebooks: Tensor,
    device: str,
) -> None:
    # The prior's scale and the bias start at good values but move slowly on the networks' learning rate.
    quick = {"z_mean", "z_log_scale", "bias"} if settings.bias else {"z_mean", "z_log_scale"}
    parameters = dict(model.named_parameters())
    networks = [p for name, p in parameters.items() if name not in quick and p.requires_grad]
    groups = [
        {"params": networks, "factor": 1.0},
        {"params": [parameters[name] for name in sorted(quick)], "factor": 5.0, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, settings.learning_rate, (0.9, 0.95), weight_decay=0.01)
    state = run.restore()
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    held_out = min(100, max(1, len(latents) // 20))
    torch.manual_seed(settings.seed + processes.rank())
    rng = np.random.default_rng((settings.seed, run.started_at, processes.rank()))
    recent: list[Tensor] = []
    fixed = math.log2(codebooks.shape[1])
    # What was reached stays, even if a resumed run has more steps: a stage is started once, and z's price never falls.
    price, stages = (state or {}).get("reached") or _curriculum(settings, run.started_at - 1, len(codebooks))
    static = float(static_bits(counts, indices[-held_out:]).mean())

    def state_now() -> dict[str, Any]:
        return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "reached": (price, stages)}

    for step in run.each_step(state_now, "hyperprior"):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * group["factor"] * cosine(step, settings.steps, warmup=50)
        chosen = torch.from_numpy(rng.integers(0, len(latents) - held_out, settings.batch))
        before, now = stages, _curriculum(settings, step, len(codebooks))
        price, stages = max(price, now[0]), max(stages, now[1])
        for stage in range(before, stages):
            model.start_stage(stage)
        targets = indices[chosen, :stages].to(device)
        with autocast(device):
            kept = _some(targets[:, 0].numel(), settings.positions, device)
            bits, z_bits = model(latents[chosen].to(device).float(), targets, codebooks, kept=kept)
        loss = bits.mean() + price * z_bits / targets.numel()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        processes.average_gradients(model.parameters())
        torch.nn.utils.clip_grad_norm_(networks, 1.0)
        optimizer.step()
        recent.append(loss)
        if (step + 1) % 100 == 0 and processes.is_main():
            index_bits, side_bits = _held_out_bits(model, latents[-held_out:], indices[-held_out:], codebooks, device)
            run.log(
                step=step + 1,
                seconds=run.seconds,
                bits_per_index=mean_of(recent),
                held_out_indices=index_bits,
                held_out_z=side_bits,
                held_out_static=static,
                held_out_saving_percent=100 * (1 - (index_bits + side_bits) / fixed),
            )
            recent.clear()


def _curriculum(settings: IndexModelTraining, step: int, stages: int) -> tuple[float, int]:
    """The price of z's bits at *step*, and how many of the *stages* count.

    z is nearly free at first: at full price it would die before the synthesis has learned to read it. And stages join
    one after the other: what all of them have to say about z at first is noise. A continued hyperprior knows it all.
    """
    if settings.start:
        return 1.0, stages
    price = min(1.0, (step + 1) / max(1.0, settings.z_free * settings.steps))
    return price, min(stages, 1 + int(price * stages))


def _some(count: int, share: float, device: str) -> Tensor | None:
    """A random *share* of *count* positions, or None for all."""
    return None if share >= 1 else torch.randperm(count, device=device)[: max(1, round(share * count))]


@torch.inference_mode()
def _held_out_bits(
    model: Hyperprior, latents: Tensor, indices: Tensor, codebooks: Tensor, device: str
) -> tuple[float, float]:
    """Ideal bits per index for the indices and for z."""
    total = z_total = 0.0
    model.eval()
    for latent, target in zip(latents.split(8), indices.split(8), strict=True):
        bits, z_bits = model(latent.to(device).float(), target.to(device), codebooks)
        total, z_total = total + float(bits.sum()), z_total + float(z_bits)
    model.train()
    return total / indices.numel(), z_total / indices.numel()


@torch.inference_mode()
def _encode_crops(tokenizer: BaseTokenizer, settings: IndexModelTraining, data: Path, device: str, file: Path) -> None:
    """Write latents (N×D×h×w, float16) of random crops to *file*, so that a resumed run sees the same."""
    from rich.progress import track

    photos = Photos(data, settings.crop)
    rng = np.random.default_rng(settings.seed)
    parts = []
    batches = range(0, settings.crops, settings.batch)
    for start in track(batches, "latents", console=processes.console()):
        with autocast(device):
            latent = tokenizer.encode(photos.batch(min(settings.batch, settings.crops - start), rng).to(device))
        parts.append(latent.half().cpu())
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as temporary:
        torch.save(torch.cat(parts), temporary)
