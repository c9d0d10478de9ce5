"""Joint training of tokenizer and transformer: the rate shapes the latent (stage 3 of RDVQ, arXiv 2604.10546).

What is sent is still the nearest codeword, but its bits are relaxed: each codeword k of a position counts as far as its
distance d_k to the target allows, ``p = softmax(-d / temperature)``, and costs ``sum_k p_k * bits_k``. The gradient
reaches the encoder twice: by p, and by the entries that the transformer sees, straight through the quantizer. The
codebooks stay as they are. A ladder of weights of the rate goes from high rate to low, each rung from the one before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hvqbench.errors import HvqbenchError
from hvqbench.metrics.perceptual import PerceptualLoss
from hvqbench.training import processes
from hvqbench.training.card import write_card
from hvqbench.training.loop import Run, autocast, mean_of, read_config
from hvqbench.training.photos import Photos, to_tensor
from hvqbench.vq.base import entries
from hvqbench.vq.distance import nearest, squared_distances
from hvqbench.vq.inspect import grid_counts
from hvqbench.vq.loading import load_tokenizer
from hvqbench.vq.models.base import check_tokenizer
from hvqbench.vq.models.static import save_counts
from hvqbench.vq.models.transformer import Transformer
from hvqbench.vq.painted import Descent, PainterTokenizer
from hvqbench.vq.weights import sha256

HELD_OUT = 64
HELD_CROPS = 8


@dataclass(frozen=True)
class JointTraining:
    """Keys of a ``train.toml`` of ``hvqbench train joint``.

    ``tokenizer`` (a folder) and ``transformer`` (a file, trained on its indices) are where it begins, relative to the
    configuration. Each of ``lambdas``, ascending, weighs bits per pixel for ``steps`` steps of ``batch`` crops of
    ``crop`` pixels, of a random share ``positions`` of their indices. ``temperature`` is that of the relaxation: an
    ``absolute`` one of squared distances (published), or a multiple of the codebook's mean variance (``spread``).
    ``l1``, ``perceptual`` and ``commitment`` are as in the tokenizer's own training.
    """

    tokenizer: str
    transformer: str
    lambdas: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
    steps: int = 2000
    batch: int = 4
    crop: int = 256
    positions: float = 1.0
    relaxation: Literal["absolute", "spread"] = "spread"
    temperature: float = 0.1
    learning_rate: float = 2e-5
    transformer_learning_rate: float = 1e-4
    warmup: int = 50
    l1: float = 1.0
    perceptual: tuple[dict[str, Any], ...] = ({"net": "vgg", "weight": 1.0, "crops": 2}, {"net": "alex", "weight": 0.5})
    commitment: float = 0.25
    seed: int = 0
    log_every: int = 50

    def __post_init__(self) -> None:
        if not self.lambdas or list(self.lambdas) != sorted(self.lambdas) or self.lambdas[0] < 0:
            raise HvqbenchError(f"lambdas = {list(self.lambdas)} do not go from high rate to low: give rising weights")
        if self.temperature <= 0:
            raise HvqbenchError(f"temperature = {self.temperature:g} is not above 0; correct it")


def train_joint(config: Path, data: list[Path], out: Path, device: str = "cpu", **overrides: Any) -> list[Path]:
    """Train, or continue to train, what *config* names on the photos of *data*; returns a folder for each lambda.

    Each receives ``tokenizer.safetensors``, ``transformer.safetensors`` and ``frequencies.safetensors``: with
    ``tokenizer = "."`` and those two a ``codec.toml`` makes a codec of it. *out* has log and model card.
    """
    settings = read_config(JointTraining, config, overrides)
    device = processes.join(device)
    run = Run(out, settings.steps * len(settings.lambdas))
    trainer = _Trainer(settings, run, Photos(data, settings.crop, HELD_OUT), device, config.parent)
    trainer.train()
    if processes.is_main():
        facts = {"tokenizer": trainer.tokenizer.digest[:12]}
        write_card(run, "Tokenizer and transformer, trained jointly", settings, data, device, facts)
    return [trainer.folder(weight) for weight in settings.lambdas]


@dataclass(frozen=True)
class Sent:
    """A latent on its way through the bottleneck, of each grid: indices B×h×w, the entries straight through
    (B×D×h×w), and how much each codeword counts (B×h·w×K); then the painter's latent and the commitment."""

    maps: list[Tensor]
    context: list[Tensor]
    shares: list[Tensor]
    latent: Tensor
    commitment: Tensor


def relaxed(tokenizer: PainterTokenizer, latent: Tensor, temperature: float, relaxation: str) -> Sent:
    """Quantise the painter's latent B×32×h×w, with gradients to it but none to the codebooks."""
    walk = Descent(tokenizer.bottleneck, latent)
    maps, context, shares, errors = [], [], [], []
    for codebook in tokenizer.codebooks.detach():
        target = walk.target().float()
        rows = target.permute(0, 2, 3, 1).flatten(0, 2)
        size = (len(target), *target.shape[2:])
        maps.append(nearest(rows.detach(), codebook).view(size))
        unit = temperature * (float(codebook.var(0).mean()) if relaxation == "spread" else 1.0)
        shares.append((-squared_distances(rows, codebook) / unit).softmax(1).unflatten(0, (size[0], -1)))
        chosen = entries(maps[-1], codebook)
        errors.append((target - chosen).square().mean())
        context.append(target + (chosen - target).detach())
        walk.send(context[-1])
    return Sent(maps, context, shares, walk.finish(), torch.stack(errors).mean())


def bits_per_pixel(model: Transformer, tokenizer: PainterTokenizer, sent: Sent, share: float = 1.0) -> Tensor:
    """The relaxed rate; of each grid the positions that were looked at, a random *share*, stand for all."""
    found = model.bits(sent.maps, list(tokenizer.codebooks), share, sent.context, sent.shares)["indices"]
    totals = [costs.mean() * part.numel() for costs, part in zip(found, sent.maps, strict=True)]
    return torch.stack(totals).sum() / (sent.maps[0].numel() * tokenizer.factor**2)


class _Trainer:
    def __init__(self, settings: JointTraining, run: Run, photos: Photos, device: str, base: Path) -> None:
        self.settings, self.run, self.photos, self.device = settings, run, photos, device
        tokenizer = load_tokenizer(settings.tokenizer, base)
        if not isinstance(tokenizer, PainterTokenizer):
            raise HvqbenchError(f"{settings.tokenizer} is not a tokenizer around the painter; name one")
        path = (base / settings.transformer).resolve()
        self.model, trained_for = Transformer.load(path)
        check_tokenizer(path, trained_for, tokenizer)
        self.tokenizer = tokenizer
        state = run.restore()
        if state:
            tokenizer.load_state_dict(state["tokenizer"])
            self.model.load_state_dict(state["model"])
        tokenizer.to(device)
        self.model.to(device).train()
        terms = [dict(term) for term in settings.perceptual]
        self.perceptual = [(term.pop("weight"), PerceptualLoss(**term).to(device)) for term in terms]
        # A constant rate each, as published; plain Adam would do, and these matrices are small.
        groups = [{"params": list(tokenizer.parameters()), "rate": settings.learning_rate}]
        for group in self.model.parameter_groups():
            groups.append(group | {"rate": settings.transformer_learning_rate * group.pop("factor")})
        self.optimizer = torch.optim.AdamW(groups, 1.0, (0.9, 0.95), weight_decay=0.0)
        self.counts = [torch.zeros(len(book), dtype=torch.int64) for book in tokenizer.codebooks]
        if state:
            self.optimizer.load_state_dict(state["optimizer"])
            self.counts = state["counts"]

    def state(self) -> dict[str, Any]:
        named = {name: getattr(self, name).state_dict() for name in ("tokenizer", "model", "optimizer")}
        return {**named, "counts": self.counts}

    def folder(self, weight: float) -> Path:
        return self.run.out / f"lambda-{weight:g}"

    def train(self) -> None:
        settings, run = self.settings, self.run
        torch.manual_seed(settings.seed + run.started_at + processes.rank())
        rng = np.random.default_rng((settings.seed, run.started_at, processes.rank()))
        recent: dict[str, list[Tensor]] = {}
        for step in run.each_step(self.state, "joint"):
            rung, inside = divmod(step, settings.steps)
            for group in self.optimizer.param_groups:
                group["lr"] = group["rate"] * min(1.0, (inside + 1) / settings.warmup)
            for name, value in self._step(settings.lambdas[rung], rng).items():
                recent.setdefault(name, []).append(value.detach())
            if (step + 1) % settings.log_every == 0:
                means = {name: mean_of(values) for name, values in recent.items()}
                run.log(step=step + 1, seconds=run.seconds, weight=settings.lambdas[rung], **means)
                recent.clear()
            if inside + 1 == settings.steps and processes.is_main():
                self._export(self.folder(settings.lambdas[rung]))
                run.log(step=step + 1, seconds=run.seconds, weight=settings.lambdas[rung], **self._check())

    def _step(self, weight: float, rng: np.random.Generator) -> dict[str, Tensor]:
        settings, tokenizer = self.settings, self.tokenizer
        image = self.photos.batch(settings.batch, rng, settings.crop).to(self.device)
        with autocast(self.device):
            sent = relaxed(tokenizer, tokenizer.encode(image), settings.temperature, settings.relaxation)
            output = tokenizer.decoder(sent.latent).float()
            rate = bits_per_pixel(self.model, tokenizer, sent, settings.positions)
            terms = {term.name: w * term(output, image, rng) for w, term in self.perceptual}
            terms |= {"l1": settings.l1 * (output - image).abs().mean()}
            terms |= {"commitment": settings.commitment * sent.commitment, "rate": weight * rate}
        for total, part in zip(self.counts, grid_counts(sent.maps, [len(row) for row in self.counts]), strict=True):
            total += part.cpu()
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack([loss.float() for loss in terms.values()]).sum().backward()
        for module in (tokenizer, self.model):
            processes.average_gradients(module.parameters())
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        self.optimizer.step()
        return terms | {"bpp": rate}

    def _export(self, folder: Path) -> None:
        """What it takes to make a codec; counts begin anew."""
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(folder / "tokenizer.safetensors")
        digest = sha256(folder / "tokenizer.safetensors")
        self.model.save(folder / "transformer.safetensors", digest)
        save_counts(folder / "frequencies.safetensors", self.counts, digest)
        for row in self.counts:
            row.zero_()

    @torch.inference_mode()
    def _check(self) -> dict[str, float]:
        """Bits per pixel, not relaxed, and mean absolute error on held-out photos."""
        crops = self.photos.held_crops(self.settings.crop, HELD_CROPS)
        if not len(crops):
            return {}
        tokenizer, image = self.tokenizer, to_tensor(crops).to(self.device)
        maps = tokenizer.quantize(tokenizer.encode(image))
        bits = self.model.bits(maps, list(tokenizer.codebooks))["indices"]
        error = (tokenizer.decode(maps) - image).abs().mean()
        return {"held_bpp": float(sum(part.sum() for part in bits)) / image[:, 0].numel(), "held_l1": float(error)}
