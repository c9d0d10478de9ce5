"""Training of tokenizers around the painter, in two stages.

First the bottleneck alone, on cached latents of the painter's frozen encoder: a sane start in minutes. Then pictures:
what the decoder paints is compared with the crop. Weights are averaged over the steps, and photos kept from training
judge them from time to time.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hvqbench.errors import HvqbenchError
from hvqbench.metrics.perceptual import PerceptualLoss
from hvqbench.training import processes
from hvqbench.training.descent import Grids, draw_present, smooth_l1
from hvqbench.training.held_out import judge_prefixes
from hvqbench.training.loop import Average, Run, autocast, mean_of, read_config
from hvqbench.training.losses import PatchDiscriminator, train_judge
from hvqbench.training.photos import Photos
from hvqbench.training.rate import Rate
from hvqbench.training.start import start_painter
from hvqbench.vq.bottleneck import BottleneckConfig
from hvqbench.vq.painted import PainterTokenizer
from hvqbench.vq.pee import RateMode
from hvqbench.vq.weights import sha256

HELD_OUT = 64


@dataclass(frozen=True)
class PainterTraining:
    """Keys of a ``train.toml`` of a tokenizer.

    ``bottleneck`` has the keys of :class:`~hvqbench.vq.bottleneck.BottleneckConfig`. ``painter`` is a folder with
    TAEF2's weights to begin with, ``start`` an earlier tokenizer's file to go on from (tensors whose shapes differ
    begin afresh); both are relative to the configuration. Without either, everything begins at random.

    The first ``latent_steps`` train the bottleneck on ``latent_batch`` of ``cached`` latents of ``latent_crop`` pixels
    a step; codebooks begin at step ``codebook_from``, each 30 steps after the one before. The steps after that, up to
    ``steps``, see ``batch`` crops of ``crop`` pixels. Learning rates warm up over 100 steps, and fall to a tenth over
    the steps from ``cool_from`` on. The painter's encoder learns from step ``learn_encoder_from`` on. With ``learn =
    "decoder"`` only that learns on which no index depends, so that index models stay good (``hvqbench train bind``).

    ``l1`` weighs the mean absolute error on [-1, 1]; ``perceptual`` lists LPIPS and DISTS terms; ``commitment`` and
    ``latent`` are weights of the errors of the targets and of the painter's latent, ``adversarial`` the PatchGAN's from
    step ``adversarial_from`` on. ``rate`` multiplies bits per pixel under hyperpriors that learn beside the tokenizer
    from step ``rate_from`` on, and go on from the file ``hyperprior`` where one is named: untaught, they only shrink
    the latents. The gradient reaches the encoder as ``rate_mode`` says; over ``rate_ramp`` steps it and z's price rise
    from nothing to full. ``whole`` is how often all grids are sent. ``average`` is the decay of the averaged weights.
    Every ``check_every`` steps held-out photos are judged. ``minutes`` ends a run before its last step; the same
    command goes on.
    """

    bottleneck: dict[str, Any] = field(default_factory=dict)
    painter: str = ""
    start: str = ""
    latent_steps: int = 300
    latent_batch: int = 16
    latent_crop: int = 256
    cached: int = 1000
    codebook_from: int = 80
    steps: int = 20000
    batch: int = 4
    crop: int = 128
    learning_rate: float = 3e-4
    latent_learning_rate: float = 8e-4
    painter_learning_rate: float = 1e-4
    learn_encoder_from: int = 1_000_000
    learn: Literal["all", "decoder"] = "all"
    cool_from: int = 15000
    seed: int = 0
    l1: float = 1.0
    perceptual: tuple[dict[str, Any], ...] = (
        {"net": "vgg", "weight": 1.0, "crops": 2},
        {"net": "alex", "weight": 0.5},
    )
    commitment: float = 0.25
    latent: float = 0.02
    adversarial: float = 0.0
    adversarial_from: int = 1_000_000
    rate: float = 0.0
    rate_from: int = 0
    hyperprior: str = ""
    rate_ramp: int = 500
    rate_mode: RateMode = "ste"
    memory: float = 25.0
    average: float = 0.999
    whole: float = 0.5
    revive_every: int = 25
    revive_until: int = 1_000_000
    check_every: int = 500
    minutes: float = 0.0


def train_painter(config: Path, data: list[Path], out: Path, device: str = "cpu", **overrides: Any) -> Path:
    """Train, or continue to train, the tokenizer of *config* on the photos of *data*; returns the weights' path."""
    settings = read_config(PainterTraining, config, overrides)
    if settings.learn == "decoder" and (not settings.start or settings.latent_steps or settings.rate):
        raise HvqbenchError(
            f'{config}: learn = "decoder" needs start, the tokenizer to go on from, latent_steps = 0 and rate = 0'
        )
    device = processes.join(device)
    photos = Photos(data, max(settings.crop, settings.latent_crop), HELD_OUT)
    if device.startswith("cuda"):
        photos.decode_all()
    trainer = _Trainer(settings, Run(out, settings.steps), photos, device, config.parent)
    trainer.train()
    return trainer.export()


class _Trainer:
    def __init__(self, settings: PainterTraining, run: Run, photos: Photos, device: str, base: Path) -> None:
        self.settings, self.run, self.photos, self.device = settings, run, photos, device
        torch.manual_seed(settings.seed)
        shape: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.bottleneck.items()}
        self.tokenizer = PainterTokenizer(BottleneckConfig(**shape))
        self.grids = Grids(self.tokenizer, settings.memory)
        state = run.restore()
        if not state:
            self._begin(base)
        self.tokenizer.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = Average(self.tokenizer, settings.average)
        terms = [dict(term) for term in settings.perceptual]
        self.perceptual = [(term.pop("weight"), PerceptualLoss(**term).to(device)) for term in terms]
        if settings.learn == "decoder":
            for name, parameter in self.tokenizer.named_parameters():
                parameter.requires_grad_(name.startswith(self.tokenizer.painting))
        learning = [(name, p) for name, p in self.tokenizer.named_parameters() if p.requires_grad]
        bottleneck = [p for name, p in learning if name.startswith("bottleneck.")]
        groups = [{"params": bottleneck}, {"params": [p for name, p in learning if not name.startswith("bottleneck.")]}]
        self.optimizer = torch.optim.AdamW(groups, settings.learning_rate, (0.9, 0.95), weight_decay=0.01)
        self.judge = PatchDiscriminator().to(device)
        self.judge_optimizer = torch.optim.AdamW(self.judge.parameters(), 1e-4, (0.5, 0.9))
        taught = base / settings.hyperprior if settings.hyperprior else None
        self.rate = Rate(self.grids, device, taught) if settings.rate > 0 else None
        self.cache: Tensor | None = None
        if state:
            self._restore(state)

    def _begin(self, base: Path) -> None:
        settings, tokenizer = self.settings, self.tokenizer
        if settings.painter:
            images = self.photos.batch(24, np.random.default_rng(settings.seed), settings.latent_crop)
            start_painter(tokenizer.encoder, tokenizer.decoder, base / settings.painter, images)
        if settings.start:
            theirs = PainterTokenizer.load(base / settings.start).state_dict()
            ours = tokenizer.state_dict()
            same = {n: t for n, t in theirs.items() if n in ours and t.shape == ours[n].shape}
            tokenizer.load_state_dict(ours | same)
            if "codebooks" in same:
                for number, trainer in enumerate(self.grids.codebooks):
                    trainer.adopt(per_batch=512)
                    self.grids.ready[number] = True

    def _restore(self, state: dict[str, Any]) -> None:
        self.tokenizer.load_state_dict(state["tokenizer"])
        self.average.state = {name: tensor.to(self.device) for name, tensor in state["average"].items()}
        self.grids.restore(state["grids"])
        for name in ("optimizer", "judge", "judge_optimizer"):
            getattr(self, name).load_state_dict(state[name])
        if self.rate and "rate" in state:
            self.rate.restore(state["rate"])

    def state(self) -> dict[str, Any]:
        self.export()
        parts = ("tokenizer", "optimizer", "judge", "judge_optimizer")
        named = {n: getattr(self, n).state_dict() for n in parts} | ({"rate": self.rate.state()} if self.rate else {})
        return {"average": self.average.state, "grids": self.grids.state(), **named}

    def averaged(self) -> PainterTokenizer:
        """A copy of the tokenizer with averaged weights."""
        copied = copy.deepcopy(self.tokenizer)
        copied.load_state_dict(self.average.state)
        return copied.eval()

    def export(self) -> Path:
        path = self.run.out / "tokenizer.safetensors"
        if processes.is_main():
            self.averaged().cpu().save(path)
            if self.rate:
                self.rate.save(path.with_name("hyperprior.safetensors"), sha256(path))
        return path

    def train(self) -> None:
        settings = self.settings
        torch.manual_seed(settings.seed + 1000 * self.run.started_at + processes.rank())
        rng = np.random.default_rng((settings.seed, self.run.started_at, processes.rank()))
        recent: dict[str, list[Tensor]] = {}
        seconds = self.run.seconds
        if self.run.started_at < settings.latent_steps:
            self.cache = self._encode_crops(rng)
        for step in self.run.each_step(self.state, "tokenizer"):
            for number in range(len(self.grids.codebooks)):
                if step == settings.codebook_from + 30 * number:
                    self.grids.start(number)
            for name, value in self._step(step, rng).items():
                recent.setdefault(name, []).append(value.detach())
            if (step + 1) % 50 == 0:
                means = {name: mean_of(values) for name, values in recent.items()}
                self.run.log(step=step + 1, seconds=self.run.seconds, **means, used=min(self.grids.used()))
                recent.clear()
            if (step + 1) % settings.check_every == 0 and processes.is_main():
                self._check(step + 1)
            if settings.minutes and self.run.seconds - seconds > 60 * settings.minutes:
                break

    def _check(self, step: int) -> None:
        crops = self.photos.held_crops(self.settings.latent_crop, 12)
        if len(crops) and all(self.grids.ready):
            self.run.log(step=step, seconds=self.run.seconds, **judge_prefixes(self.averaged(), crops, self.device))

    def _step(self, step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        settings = self.settings
        latents_only = step < settings.latent_steps
        warm = min(1.0, (step % settings.latent_steps + 1 if latents_only else step - settings.latent_steps + 1) / 100)
        cool = 1.0 - 0.9 * max(0.0, (step - settings.cool_from) / max(1, settings.steps - settings.cool_from))
        rates = (
            settings.latent_learning_rate if latents_only else settings.learning_rate,
            settings.painter_learning_rate,
        )
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * warm * cool
        revive = (step + 1) % settings.revive_every == 0 and step < settings.revive_until
        adversarial = settings.adversarial > 0 and step >= settings.adversarial_from
        with autocast(self.device):
            losses, image, output = (
                self._latent_losses(rng, revive) if latents_only else self._picture_losses(step, rng, revive)
            )
            if adversarial and output is not None:
                self.judge.requires_grad_(False)
                losses["adversarial"] = -settings.adversarial * self.judge(output).mean()
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack([loss.float() for loss in losses.values()]).sum().backward()
        processes.average_gradients(self.tokenizer.parameters())
        losses["norm"] = torch.nn.utils.clip_grad_norm_(self.tokenizer.parameters(), 1.0)
        self.optimizer.step()
        if "rate" in losses and self.rate:
            self.rate.step()
        self.average.update(self.tokenizer, step if latents_only else step - settings.latent_steps)
        if adversarial and output is not None and image is not None:
            losses["judge"] = train_judge(self.judge, self.judge_optimizer, image, output.detach())
        return losses

    def _latent_losses(self, rng: np.random.Generator, revive: bool) -> tuple[dict[str, Tensor], None, None]:
        settings = self.settings
        assert self.cache is not None
        chosen = torch.from_numpy(rng.choice(len(self.cache), settings.latent_batch))
        latent = self.cache[chosen].to(self.device).float()
        present = [mask.to(self.device) for mask in self._present(settings.latent_batch, settings.latent_crop)]
        part = self.grids.quantize(latent, present, revive)
        losses = {"latent": smooth_l1(part.latent, latent), "commitment": settings.commitment * part.commitment}
        return losses, None, None

    @torch.no_grad()
    def _encode_crops(self, rng: np.random.Generator) -> Tensor:
        """The painter's latents of random crops, fp16 on the CPU."""
        from rich.progress import track

        settings = self.settings
        parts = []
        for _ in track(range(0, settings.cached, 8), "encoding crops", console=processes.console()):
            crops = self.photos.batch(8, rng, settings.latent_crop).to(self.device)
            with autocast(self.device):
                parts.append(self.tokenizer.encode(crops).half().cpu())
        return torch.cat(parts)

    def _picture_losses(
        self, step: int, rng: np.random.Generator, revive: bool
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        settings = self.settings
        image = self.photos.batch(settings.batch, rng, settings.crop).to(self.device)
        with torch.set_grad_enabled(step >= settings.learn_encoder_from):
            latent = self.tokenizer.encode(image)
        present = [mask.to(self.device) for mask in self._present(settings.batch, settings.crop)]
        part = self.grids.quantize(latent, present, revive, learn=settings.learn == "all")
        output = self.tokenizer.decoder(part.latent).float()
        losses = {
            "l1": settings.l1 * (output - image).abs().mean(),
            "commitment": settings.commitment * part.commitment,
            "latent": settings.latent * smooth_l1(part.latent, latent.detach()),
        }
        if self.rate and step >= settings.rate_from and all(self.grids.ready):
            ramp = min(1.0, (step + 1 - settings.rate_from) / settings.rate_ramp)
            losses["rate"] = settings.rate * self.rate.bpp(part, present, settings.crop**2, settings.rate_mode, ramp)
        for weight, term in self.perceptual:
            losses[term.name] = weight * term(output, image, rng)
        return losses, image, output

    def _present(self, batch: int, side: int) -> list[Tensor]:
        return draw_present(self.tokenizer.config.grids, batch, side, self.settings.whole)
