"""Training of index models on a finished tokenizer: codeword counts, and the hyperprior."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from hvqbench.vq.loading import load_tokenizer
from hvqbench.vq.models.pyramid import Hyperpriors
from hvqbench.vq.models.static import save_counts, static_bits


@dataclass(frozen=True)
class IndexModelTraining:
    """Keys of an index model's ``train.toml``.

    ``tokenizer`` is what a ``codec.toml`` names (:mod:`hvqbench.vq.loading`), relative to the configuration; ``crops``
    random crops of side ``crop`` pixels are turned into indices once, and the last 5 % of them, at most 100, are held
    out. Each step takes the rate of a random share ``positions`` of a batch's positions. ``start``
    is a ``hyperprior.safetensors`` to continue from, relative to the configuration, as joint training of the tokenizer
    leaves one behind; networks that it lacks (the context's) start without effect. ``width``, ``z_channels``,
    ``context``, ``head`` and ``bias`` are those of :class:`~hvqbench.vq.models.hyperprior.HyperpriorConfig`;
    ``conditional`` says whether the hyperpriors of a pyramid's finer grids see the coarser ones. Over the fraction
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
    conditional: bool = True
    z_free: float = 0.3
    seed: int = 0
    start: str = ""


def train_index_model(
    config: Path, data: Path, out: Path, device: str = "cpu", cache: Path | None = None, **overrides: Any
) -> Path:
    """Train, or continue to train, the index models of *config* on the photos of *data*.

    *out* receives ``frequencies.safetensors`` (for huffman-vq and static-vq), ``hyperprior.safetensors`` (for hypervq)
    and a model card; the weights' path is returned. The crops' indices stay in the folder *cache*, for other runs on
    the same tokenizer, photos and crops; without one they lie in *out* until the training is done.
    """
    settings = read_config(IndexModelTraining, config, overrides)
    device = processes.join(device)
    tokenizer = load_tokenizer(settings.tokenizer, config.parent).to(device)
    run = Run(out, settings.steps)
    maps, file = cached_crops(
        tokenizer,
        data,
        cache or out,
        device,
        crops=settings.crops,
        crop=settings.crop,
        batch=settings.batch,
        seed=settings.seed,
    )
    counts = grid_counts([part.long() for part in maps], [len(codebook) for codebook in tokenizer.codebooks])
    if processes.is_main():
        save_counts(out / "frequencies.safetensors", counts, tokenizer.digest)

    model = _model(settings, tokenizer, counts, config.parent)
    _train(settings, run, model.to(device), maps, counts, list(tokenizer.codebooks), device)
    path = out / "hyperprior.safetensors"
    processes.wait()
    if not processes.is_main():
        return path
    model.cpu().eval().save(path, tokenizer.digest)
    if not cache:
        file.unlink()
    facts = {"tokenizer": tokenizer.digest[:12], **index_model_on_kodak(tokenizer.cpu(), model, counts, "hyperprior")}
    write_card(run, "Hyperprior and codeword frequencies", settings, data, device, facts)
    return path


def _model(settings: IndexModelTraining, tokenizer: BaseTokenizer, counts: Sequence[Tensor], base: Path) -> Hyperpriors:
    torch.manual_seed(settings.seed)
    shape = {key: getattr(settings, key) for key in ("width", "z_channels", "context", "head", "bias")}
    model = Hyperpriors.of(tokenizer, settings.conditional, **shape)
    model.start(counts, [codebook.cpu() for codebook in tokenizer.codebooks])
    if settings.start:
        path = (base / settings.start).resolve()
        state = Hyperpriors.load(path)[0].state_dict()
        own = model.state_dict()
        wrong = [name for name, tensor in state.items() if name not in own or own[name].shape != tensor.shape]
        if wrong:
            raise HvqbenchError(f"{path} is no start for this hyperprior: {wrong[0]} differs; give both the same shape")
        model.load_state_dict(own | state)
    return model


def _train(
    settings: IndexModelTraining,
    run: Run,
    model: Hyperpriors,
    maps: Sequence[Tensor],
    counts: Sequence[Tensor],
    codebooks: Sequence[Tensor],
    device: str,
) -> None:
    groups = model.parameter_groups()
    optimizer = torch.optim.AdamW(groups, settings.learning_rate, (0.9, 0.95), weight_decay=0.01)
    state = run.restore()
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    crops = len(maps[0])
    kept = held_out(crops)
    torch.manual_seed(settings.seed + processes.rank())
    rng = np.random.default_rng((settings.seed, run.started_at, processes.rank()))
    recent: list[Tensor] = []
    held = [part[-kept:].long() for part in maps]
    indices = sum(part.numel() for part in held)
    fixed = sum(part.numel() * math.log2(len(book)) for part, book in zip(held, codebooks, strict=True)) / indices
    # What was reached stays, even if a resumed run has more steps: a grid is started once, and z's price never falls.
    price, levels = (state or {}).get("reached") or _curriculum(settings, run.started_at - 1, model)
    static = sum(float(costs.sum()) for costs in static_bits(counts, held)) / indices

    def state_now() -> dict[str, Any]:
        return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "reached": (price, levels)}

    for step in run.each_step(state_now, "hyperprior"):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * group["factor"] * cosine(step, settings.steps, warmup=50)
        chosen = torch.from_numpy(rng.integers(0, crops - kept, settings.batch))
        before, now = levels, _curriculum(settings, step, model)
        price, levels = max(price, now[0]), max(levels, now[1])
        for level in range(before, levels):
            model.start_level(level)
        targets = [part[chosen].long().to(device) for part in maps[:levels]]
        with autocast(device):
            bits = model.bits(targets, codebooks, settings.positions)
        loss = _per_index(bits, price, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        processes.average_gradients(model.parameters())
        torch.nn.utils.clip_grad_norm_(groups[0]["params"], 1.0)
        optimizer.step()
        recent.append(loss)
        if (step + 1) % 100 == 0 and processes.is_main():
            index_bits, side_bits = _held_out_bits(model, held, codebooks, device)
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


def _per_index(bits: Mapping[str, Any], price: float, maps: Sequence[Tensor]) -> Tensor:
    """Bits per index, z's at their *price*; of each grid the positions that were looked at stand for all."""
    count = sum(part.numel() for part in maps)
    parts = zip(bits["indices"], maps, strict=True)
    of_indices = torch.stack([costs.mean() * (part.numel() / count) for costs, part in parts]).sum()
    return of_indices + price * bits["z"] / count


def _curriculum(settings: IndexModelTraining, step: int, model: Hyperpriors) -> tuple[float, int]:
    """The price of z's bits at *step*, and how many grids count.

    z is nearly free at first: at full price it would die before the synthesis has learned to read it. A continued
    hyperprior knows it all.
    """
    done = 1.0 if settings.start else min(1.0, (step + 1) / max(1.0, settings.z_free * settings.steps))
    return done, model.levels(done)


@torch.inference_mode()
def _held_out_bits(
    model: Hyperpriors, maps: Sequence[Tensor], codebooks: Sequence[Tensor], device: str
) -> tuple[float, float]:
    """Ideal bits per index for the indices and for z."""
    total = z_total = 0.0
    model.eval()
    for batch in zip(*(part.split(8) for part in maps), strict=True):
        bits = model.bits([part.to(device) for part in batch], codebooks)
        total += sum(float(costs.sum()) for costs in bits["indices"])
        z_total += float(bits["z"])
    model.train()
    count = sum(part.numel() for part in maps)
    return total / count, z_total / count
