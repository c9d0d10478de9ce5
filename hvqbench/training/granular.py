"""Training of the index model of granularities, on a finished tokenizer and quadtrees of all densities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hvqbench.errors import HvqbenchError
from hvqbench.training import processes
from hvqbench.training.card import write_card
from hvqbench.training.crops import held_out
from hvqbench.training.loop import Run, autocast, cosine, mean_of, read_config
from hvqbench.training.quadtrees import Crops, cached, draw_trees, flat_costs, pruned, weight_limits
from hvqbench.vq.granular import GranularTokenizer
from hvqbench.vq.inspect import grid_counts
from hvqbench.vq.loading import load_tokenizer
from hvqbench.vq.models.granular import GranularPrior
from hvqbench.vq.models.pyramid import Hyperpriors
from hvqbench.vq.models.static import static_bits
from hvqbench.vq.router import cheapest_tree
from hvqbench.vq.weights import load_weights

FILE = "granular.safetensors"


@dataclass(frozen=True)
class GranularTraining:
    """Keys of a ``train.toml`` for ``index_model = "granular"``.

    ``tokenizer`` is a pyramid (:mod:`hvqbench.vq.loading`), relative to the configuration; ``crops`` random crops of
    side ``crop`` pixels are encoded once, and the last 5 % of them, at most 100, are held out. Their splits are judged
    by ``distortion`` (:mod:`hvqbench.vq.judging`). Each step takes the rate of a random share ``positions`` of a
    batch's positions. ``width`` and ``z_channels`` are those of
    :class:`~hvqbench.vq.models.hyperprior.HyperpriorConfig`, ``split_width`` is a mask's network's; ``conditional``
    says whether hyperpriors see the coarser grids. Over the fraction ``z_free`` of the steps the price of z's bits
    rises from nothing to full; an image goes without z with probability ``without_z``. ``start`` is a
    ``hyperprior.safetensors`` of the same pyramid, or a ``granular.safetensors``, to go on from: what has the same
    place and size is taken over.
    """

    tokenizer: str
    model: Literal["granular"] = "granular"
    steps: int = 2000
    batch: int = 8
    crop: int = 256
    crops: int = 2000
    positions: float = 0.25
    learning_rate: float = 1.5e-3
    width: int = 64
    z_channels: int = 6
    split_width: int = 32
    conditional: bool = True
    distortion: Literal["latent", "jacobian", "painted", "perceptual"] = "latent"
    z_free: float = 0.4
    without_z: float = 0.15
    log_every: int = 100
    seed: int = 0
    start: str = ""


def train_granular(
    config: Path, data: Path, out: Path, device: str = "cpu", cache: Path | None = None, **overrides: Any
) -> Path:
    """Train, or continue to train, the index model of *config* on the photos of *data*.

    *out* receives ``granular.safetensors`` and a model card. The crops stay in the folder *cache*, or without one in
    *out* until the training is done.
    """
    settings = read_config(GranularTraining, config, overrides)
    device = processes.join(device)
    inner = load_tokenizer(settings.tokenizer, config.parent)
    tokenizer = GranularTokenizer(inner).to(device)
    run = Run(out, settings.steps)
    crops, file = cached(
        tokenizer,
        data,
        cache or out,
        device,
        crops=settings.crops,
        crop=settings.crop,
        seed=settings.seed,
        measure=settings.distortion,
    )
    books = [codebook.cpu() for codebook in inner.codebooks]
    counts = grid_counts([part.long() for part in crops.maps], [len(book) for book in books])
    torch.manual_seed(settings.seed)
    shape = {"width": settings.width, "z_channels": settings.z_channels}
    prior = GranularPrior.of(tokenizer, settings.conditional, settings.split_width, **shape)
    prior.start(counts, books)
    if settings.start:
        _go_on(prior, (config.parent / settings.start).resolve())
    prior.sensitivity.copy_(crops.sensitivity)
    _fit(settings, run, prior.to(device), crops, counts, tokenizer, device)
    path = out / FILE
    processes.wait()
    if processes.is_main():
        prior.cpu().eval().save(path, tokenizer.digest)
        if not cache:
            file.unlink()
        low, high = weight_limits(crops)
        facts = {"tokenizer": inner.digest[:12], "L from nearly all split to hardly any": f"{low:.3g} to {high:.3g}"}
        write_card(run, "Hyperpriors and masks of granularities", settings, data, device, facts)
    return path


@torch.no_grad()
def _go_on(prior: GranularPrior, path: Path) -> None:
    """Take over the tensors of *path*; an input that they know nothing of begins without effect."""
    _, metadata = load_weights(path, "tokenizer")
    if "granular" in metadata:
        theirs = GranularPrior.load(path)[0].state_dict()
    else:
        parts = Hyperpriors.load(path)[0]
        theirs = {f"priors.{i}.{name}": t for i, part in enumerate(parts) for name, t in part.state_dict().items()}
    for name, own in prior.state_dict().items():
        if (tensor := theirs.get(name)) is None:
            continue
        if name.endswith("known.weight") and tensor.shape[1] <= own.shape[1]:
            own.zero_()[:, : tensor.shape[1]].copy_(tensor)
        elif tensor.shape == own.shape:
            own.copy_(tensor)
        else:
            raise HvqbenchError(f"{path} is no start: {name} differs; give width and z_channels as they are there")


def _fit(
    settings: GranularTraining,
    run: Run,
    prior: GranularPrior,
    crops: Crops,
    counts: list[Tensor],
    tokenizer: GranularTokenizer,
    device: str,
) -> None:
    groups = prior.parameter_groups()
    optimizer = torch.optim.AdamW(groups, settings.learning_rate, (0.9, 0.95), weight_decay=0.01)
    if state := run.restore():
        prior.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    torch.manual_seed(settings.seed + run.started_at + processes.rank())
    rng = np.random.default_rng((settings.seed, run.started_at, processes.rank()))
    count, kept = len(crops.maps[0]), held_out(len(crops.maps[0]))
    held, limits = crops.part(torch.arange(count - kept, count)), weight_limits(crops)
    recent: list[Tensor] = []

    def state_now() -> dict[str, Any]:
        return {"model": prior.state_dict(), "optimizer": optimizer.state_dict()}

    prior.train()
    for step in run.each_step(state_now, "hyperpriors of granularities"):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * group["factor"] * cosine(step, settings.steps, warmup=50)
        batch = crops.part(torch.from_numpy(rng.integers(0, count - kept, settings.batch)))
        trees, routed = draw_trees(batch, limits, rng)
        maps = [part.to(device) for part in pruned(batch, trees)]
        keep_z = [torch.rand(settings.batch, device=device) >= settings.without_z for _ in prior.priors]
        with autocast(device):
            bits = prior.bits(maps, tokenizer.codebooks, settings.positions, keep_z)
        price = 1.0 if settings.start else min(1.0, (step + 1) / max(1.0, settings.z_free * settings.steps))
        loss = _per_symbol(bits, maps, routed.to(device), price)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        processes.average_gradients(prior.parameters())
        torch.nn.utils.clip_grad_norm_(groups[0]["params"], 1.0)
        optimizer.step()
        recent.append(loss)
        if (step + 1) % settings.log_every == 0 and processes.is_main():
            found = _held_out(prior, held, counts, limits, tokenizer, device)
            run.log(step=step + 1, seconds=run.seconds, loss=mean_of(recent), **found)
            recent.clear()


def _per_symbol(bits: dict[str, Any], maps: list[Tensor], routed: Tensor, price: float) -> Tensor:
    """Bits of a symbol of each grid and mask, added up, so that grids of few positions learn as much as others.

    Masks count where a router made them; a z counts with its own grid.
    """
    loss = torch.zeros((), device=maps[0].device)
    for level, (costs, symbols) in enumerate(zip(bits["indices"], maps, strict=True)):
        exists = symbols >= 0
        if level % 2:
            there = exists & routed[:, None, None]
            loss = loss + (costs * there).sum() / there.sum().clamp_min(1)
        elif len(costs):
            loss = loss + costs.mean() + price * bits["z of grids"][level // 2] / exists.sum()
    return loss


@torch.inference_mode()
def _held_out(
    prior: GranularPrior,
    held: Crops,
    counts: list[Tensor],
    limits: tuple[float, float],
    tokenizer: GranularTokenizer,
    device: str,
) -> dict[str, float]:
    """Bits of what is held out, at three L between the limits together: by grid, of z, and of masks by raw bit."""
    prior.eval()
    names = [spec.name for spec in tokenizer.grids]
    total = dict.fromkeys([*names, "z", "static"], 0.0)
    numbers = dict.fromkeys(names, 0)
    for share in (0.2, 0.5, 0.8):
        weight = float(np.exp((1 - share) * np.log(limits[0]) + share * np.log(limits[1])))
        trees = [cheapest_tree(flat_costs([e[n] for e in held.errors]), weight) for n in range(len(held.maps[0]))]
        maps = [part.to(device) for part in pruned(held, trees)]
        bits = prior.bits(maps, tokenizer.codebooks)
        for name, costs, symbols in zip(names, bits["indices"], maps, strict=True):
            total[name] += float(costs.sum())
            numbers[name] += int((symbols >= 0).sum())
        total["z"] += float(bits["z"])
        static = static_bits(counts, [part.clamp_min(0).cpu() for part in maps[::2]])
        total["static"] += sum(float(c[m.cpu() >= 0].sum()) for c, m in zip(static, maps[::2], strict=True))
    prior.train()
    grids = sum(total[name] for name in names[::2])
    each = {name.replace(" ", "_"): total[name] / max(1, numbers[name]) for name in names}
    saved = 100 * (1 - (grids + total["z"]) / total["static"])
    return {**each, "z": total["z"] / sum(numbers[name] for name in names[::2]), "saved_of_static_percent": saved}
