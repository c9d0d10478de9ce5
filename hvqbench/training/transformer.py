"""Training of the transformer on the cached indices of a finished tokenizer (stage 2 of RDVQ, arXiv 2604.10546)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hvqbench.errors import HvqbenchError
from hvqbench.training import processes
from hvqbench.training.card import index_model_on_kodak, write_card
from hvqbench.training.crops import cached_crops, held_out
from hvqbench.training.loop import Run, autocast, cosine, mean_of, read_config
from hvqbench.vq.base import BaseTokenizer
from hvqbench.vq.inspect import grid_counts
from hvqbench.vq.layout import Layout
from hvqbench.vq.loading import load_tokenizer
from hvqbench.vq.models.slices import Mask
from hvqbench.vq.models.static import save_counts, static_bits
from hvqbench.vq.models.transformer import Transformer, TransformerConfig
from hvqbench.vq.models.transformer_coding import TransformerModel
from hvqbench.vq.models.transformer_exact import ExactTransformer


@dataclass(frozen=True)
class TransformerTraining:
    """Keys of a transformer's ``train.toml``.

    ``tokenizer`` is what a ``codec.toml`` names (:mod:`hvqbench.vq.loading`), relative to the configuration; ``crops``
    random crops of side ``crop`` pixels are turned into indices once, and the last 5 % of them, at most 100, are held
    out. Each step takes the rate of a random share ``positions`` of a batch's positions: with a large codebook the
    head's logits are most of the work. ``start`` is a ``transformer.safetensors`` of the same shape to continue from,
    relative to the configuration. The learning rate warms up over ``warmup`` steps, then follows a cosine. All other
    keys are those of :class:`~hvqbench.vq.models.transformer.TransformerConfig`.
    """

    tokenizer: str
    steps: int = 20000
    batch: int = 16
    crop: int = 256
    crops: int = 24000
    positions: float = 1.0
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
    seed: int = 0
    start: str = ""
    log_every: int = 100


def train_transformer(
    config: Path, data: Path, out: Path, device: str = "cpu", cache: Path | None = None, **overrides: Any
) -> Path:
    """Train, or continue to train, the transformer of *config* on the photos of *data*; returns the weights' path.

    *out* receives ``transformer.safetensors``, ``frequencies.safetensors``, ``log.jsonl``, the held-out bits of each
    slice (``slices.jsonl``) and a model card. The crops' indices stay in the folder *cache*, for other runs on the same
    tokenizer, photos and crops; without one they lie in *out* until the training is done.
    """
    settings = read_config(TransformerTraining, config, overrides)
    device = processes.join(device)
    tokenizer = load_tokenizer(settings.tokenizer, config.parent).to(device)
    run = Run(out, settings.steps)
    drawn = {"crops": settings.crops, "crop": settings.crop, "batch": settings.batch, "seed": settings.seed}
    maps, file = cached_crops(tokenizer, data, cache or out, device, **drawn)
    counts = grid_counts([part.long() for part in maps], [len(codebook) for codebook in tokenizer.codebooks])
    if processes.is_main():
        save_counts(out / "frequencies.safetensors", counts, tokenizer.digest)
    model = _model(settings, tokenizer, counts, config.parent)
    fit(settings, run, model.to(device), maps, counts, list(tokenizer.codebooks), device)
    path = out / "transformer.safetensors"
    processes.wait()
    if not processes.is_main():
        return path
    model.cpu().eval().save(path, tokenizer.digest)
    if not cache:
        file.unlink()
    tokenizer = tokenizer.cpu()
    kept = [part[-min(8, held_out(len(part))) :].long() for part in maps]
    facts = {
        "tokenizer": tokenizer.digest[:12],
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "integers against float": f"{100 * integer_cost(Transformer.load(path)[0], tokenizer, kept):+.3f} % of bits",
        **index_model_on_kodak(tokenizer, model, counts, "transformer"),
    }
    write_card(run, f"Transformer ({settings.mask}) and codeword frequencies", settings, data, device, facts)
    return path


def _model(
    settings: TransformerTraining, tokenizer: BaseTokenizer, counts: Sequence[Tensor], base: Path
) -> Transformer:
    torch.manual_seed(settings.seed)
    keys = ("slices", "window", "width", "layers", "heads", "hidden", "mask", "coarse")
    config = TransformerConfig.of(tokenizer, **{key: getattr(settings, key) for key in keys})
    if not settings.start:
        model = Transformer(config)
        model.start(counts, [codebook.cpu() for codebook in tokenizer.codebooks])
        return model
    path = (base / settings.start).resolve()
    model, _ = Transformer.load(path)
    if model.config != config:
        raise HvqbenchError(f"{path} is no start for this transformer: {model.config} is not {config}; make them agree")
    return model.train()


def fit(
    settings: TransformerTraining,
    run: Run,
    model: Transformer,
    maps: Sequence[Tensor],
    counts: Sequence[Tensor],
    codebooks: Sequence[Tensor],
    device: str,
) -> None:
    """Train *model* on all *maps* (N×h×w for each grid) but those that are held out, from the run's last checkpoint."""
    groups = model.parameter_groups()
    options = {"betas": (0.9, 0.95), "weight_decay": settings.weight_decay}
    optimizer = torch.optim.AdamW(groups, settings.learning_rate, **options)  # type: ignore[arg-type]
    if state := run.restore():
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    crops = len(maps[0])
    kept = held_out(crops)
    held = [part[-kept:].long() for part in maps]
    static = sum(float(costs.sum()) for costs in static_bits(counts, held)) / sum(part.numel() for part in held)
    torch.manual_seed(settings.seed + run.started_at + processes.rank())
    rng = np.random.default_rng((settings.seed, run.started_at, processes.rank()))
    recent: list[Tensor] = []

    def state_now() -> dict[str, Any]:
        return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}

    model.train()
    for step in run.each_step(state_now, "transformer"):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * group["factor"] * cosine(step, settings.steps, settings.warmup)
        chosen = torch.from_numpy(rng.integers(0, crops - kept, settings.batch))
        batch = [part[chosen].long().to(device) for part in maps]
        with autocast(device):
            loss = _bits_per_index(model.bits(batch, codebooks, settings.positions)["indices"], batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        processes.average_gradients(model.parameters())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent.append(loss)
        if (step + 1) % settings.log_every == 0 and processes.is_main():
            bits, slices = _held_out_bits(model, held, codebooks, device)
            values = {"bits_per_index": mean_of(recent), "held_out": bits, "held_out_static": static}
            fixed = sum(part.numel() * math.log2(len(book)) for part, book in zip(held, codebooks, strict=True))
            saved = 100 * (1 - bits * sum(part.numel() for part in held) / fixed)
            run.log(step=step + 1, seconds=run.seconds, **values, held_out_saving_percent=saved)
            with (run.out / "slices.jsonl").open("a") as file:
                file.write(json.dumps({"step": step + 1, "bits": slices}) + "\n")
            recent.clear()


def _bits_per_index(bits: Sequence[Tensor], maps: Sequence[Tensor]) -> Tensor:
    """Mean bits of an index; of each grid the positions that were looked at stand for all."""
    count = sum(part.numel() for part in maps)
    parts = zip(bits, maps, strict=True)
    return torch.stack([costs.mean() * (part.numel() / count) for costs, part in parts]).sum()


@torch.inference_mode()
def _held_out_bits(
    model: Transformer, maps: Sequence[Tensor], codebooks: Sequence[Tensor], device: str
) -> tuple[float, list[float]]:
    """Ideal bits per index, and per index of each slice."""
    model.eval()
    total, slices, batches = 0.0, torch.zeros(sum(model.config.slices)), 0
    for batch in zip(*(part.split(8) for part in maps), strict=True):
        bits = model.bits([part.to(device) for part in batch], codebooks)
        total += sum(float(costs.sum()) for costs in bits["indices"])
        for number, mean in bits["slices"].items():
            slices[number] += len(batch[0]) * float(mean)
        batches += len(batch[0])
    model.train()
    return total / sum(part.numel() for part in maps), [round(x, 4) for x in (slices / batches).tolist()]


@torch.inference_mode()
def integer_cost(model: Transformer, tokenizer: BaseTokenizer, maps: Sequence[Tensor]) -> float:
    """The share by which the integers of *model* need more bits than its floats for *maps* (B×h×w of each grid)."""
    exact = TransformerModel(ExactTransformer(model, list(tokenizer.codebooks)))
    height, width = (side * tokenizer.grids[0].factor for side in maps[0].shape[1:])
    layout = Layout.of(tokenizer, height, width)
    integer = sum(sum(exact.code(layout, crop, {}).ideal_bits.values()) for crop in zip(*maps, strict=True))
    return integer / sum(float(costs.sum()) for costs in model.bits(maps, list(tokenizer.codebooks))["indices"]) - 1
