"""Training of tokenizers: reconstruction, commitment, (late) adversarial and (later) rate loss.

One configuration trains one tokenizer, or several over one autoencoder. With ``rate`` > 0 a hyperprior is trained
beside each of them from step ``rate_from`` on, and the gradient of its code length reaches the encoder (joint
rate-distortion training). ``hvqbench train index-model`` then continues with that hyperprior on the finished tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hvqbench.catalog import read_toml
from hvqbench.errors import HvqbenchError
from hvqbench.metrics.perceptual import PerceptualLoss
from hvqbench.training import processes
from hvqbench.training.card import tokenizer_on_kodak, write_card
from hvqbench.training.family import Family, Quantized
from hvqbench.training.loop import Average, Run, autocast, cosine, mean_of, read_config
from hvqbench.training.losses import PatchDiscriminator, train_judge
from hvqbench.training.photos import Photos
from hvqbench.vq.pee import RateMode
from hvqbench.vq.tokenizer import Tokenizer
from hvqbench.vq.weights import sha256


@dataclass(frozen=True)
class TokenizerTraining:
    """Keys of a ``train.toml`` of tokenizers.

    ``tokenizer`` lists them: ``name``, ``share`` (images of every batch), ``decay`` of the codebook's moving average,
    ``whole`` (how often all stages of a residual quantizer are kept), and the keys of
    :class:`~hvqbench.vq.tokenizer.TokenizerConfig`; ``autoencoder`` has those of
    :class:`~hvqbench.vq.tokenizer.AutoencoderConfig`. ``start`` is a folder, relative to the configuration, with an
    earlier export to go on from; tokenizers that it lacks start afresh, their codebooks at step ``codebook_from``.

    ``l1`` weighs the mean absolute error on [-1, 1]; ``perceptual`` lists LPIPS terms (``net``, ``weight`` and
    optionally ``crops``, ``window``); ``adversarial`` is the PatchGAN's weight, on after the fraction
    ``adversarial_from`` of the steps; ``rate`` multiplies bits per pixel from step ``rate_from`` on, its gradient as
    ``rate_mode`` says, and over the fraction ``z_free`` of the steps that are left that gradient and the price of z's
    bits rise from nothing to full.

    ``learn = "decoder"`` keeps encoders and codebooks as ``start`` gave them and trains what paints the picture, so
    that indices, and with them index models and frequencies, stay as they are.
    """

    tokenizer: tuple[dict[str, Any], ...]
    autoencoder: dict[str, Any] = field(default_factory=dict)
    start: str = ""
    learn: Literal["all", "decoder"] = "all"
    steps: int = 5000
    crop: int = 128
    learning_rate: float = 8e-4
    seed: int = 0
    l1: float = 1.0
    perceptual: tuple[dict[str, Any], ...] = ({"net": "vgg", "weight": 1.0},)
    commitment: float = 0.25
    adversarial: float = 0.0
    adversarial_from: float = 0.67
    rate: float = 0.0
    rate_from: int = 1000
    rate_mode: RateMode = "ste"
    z_free: float = 0.3
    codebook_from: int = 300
    revive_every: int = 50


def train_tokenizer(
    config: Path, data: Path | list[Path], out: Path, device: str = "cpu", **overrides: Any
) -> list[Path]:
    """Train, or continue to train, the tokenizers of *config* on the photos of *data*; returns the weights' paths.

    A configuration with a table ``bottleneck`` is one of :class:`~hvqbench.training.painter.PainterTraining`.

    *out* receives ``checkpoint.pt`` and ``log.jsonl`` while it runs, at every checkpoint ``autoencoder.safetensors``
    and for each tokenizer a folder with ``tokenizer.safetensors`` (with joint training ``hyperprior.safetensors`` too),
    and a model card at the end.
    """
    sources = [data] if isinstance(data, Path) else data
    if "bottleneck" in read_toml(config):
        from hvqbench.training.painter import train_painter

        return [train_painter(config, sources, out, device, **overrides)]
    settings = read_config(TokenizerTraining, config, overrides)
    if settings.learn == "decoder" and (not settings.start or settings.rate > 0):
        raise HvqbenchError(f'{config}: learn = "decoder" needs start, the tokenizers to go on from, and rate = 0')
    device = processes.join(device)
    start = (config.parent / settings.start).resolve() if settings.start else None
    trainer = _Trainer(settings, Run(out, settings.steps), Photos(sources, settings.crop), device, start)
    trainer.train()
    paths = trainer.family.paths(out)
    if not processes.is_main():
        return paths
    trainer.export()
    facts: dict[str, str] = {}
    for path in paths:
        name = path.parent.name
        facts |= {f"{name}: {key}": value for key, value in tokenizer_on_kodak(Tokenizer.load(path)).items()}
    write_card(trainer.run, "Tokenizers", settings, sources, device, facts)
    return paths


class _Trainer:
    def __init__(self, settings: TokenizerTraining, run: Run, photos: Photos, device: str, start: Path | None) -> None:
        self.settings, self.run, self.photos, self.device = settings, run, photos, device
        torch.manual_seed(settings.seed)
        state = run.restore()
        self.family = Family(settings.autoencoder, settings.tokenizer, None if state else start, device)
        self.family.to(memory_format=torch.channels_last)
        if settings.learn == "decoder":
            self.family.freeze_encoders()
        self.batch = sum(member.share for member in self.family.members)
        self.average = Average(self.family)
        terms = [dict(term) for term in settings.perceptual]
        self.perceptual = [(term.pop("weight"), PerceptualLoss(**term).to(device)) for term in terms]
        rates = (0.9, 0.95)
        learned = [parameter for parameter in self.family.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(learned, settings.learning_rate, rates, weight_decay=0.01)
        self.judge = PatchDiscriminator().to(device)
        self.judge_optimizer = torch.optim.AdamW(self.judge.parameters(), settings.learning_rate / 4, (0.5, 0.9))
        self.rate_optimizer = torch.optim.AdamW(self.family.hyperpriors, 1.5e-3, rates, weight_decay=0.01)
        if state:
            self._restore(state)

    def _restore(self, state: dict[str, Any]) -> None:
        self.family.load_state_dict(state["family"])
        self.average.state = {name: tensor.to(self.device) for name, tensor in state["average"].items()}
        for member, values in zip(self.family.members, state["members"], strict=True):
            member.restore(values)
        for name in ("optimizer", "judge", "judge_optimizer", "rate_optimizer"):
            getattr(self, name).load_state_dict(state[name])

    def state(self) -> dict[str, Any]:
        self.export()
        parts = ("family", "optimizer", "judge", "judge_optimizer", "rate_optimizer")
        members = [member.state() for member in self.family.members]
        return {"average": self.average.state, "members": members, **{n: getattr(self, n).state_dict() for n in parts}}

    def export(self) -> list[Path]:
        """Write the averaged weights, and the hyperpriors where there are any."""
        paths = self.family.export(self.run.out, self.average.state)
        if self.settings.rate > 0:
            for member, path in zip(self.family.members, paths, strict=True):
                member.hyperprior.save(path.with_name("hyperprior.safetensors"), sha256(path))
        return paths

    def train(self) -> None:
        settings = self.settings
        # A generator per start: after a resume the crops differ from those before, which is all that is asked of them.
        torch.manual_seed(settings.seed + processes.rank())
        rng = np.random.default_rng((settings.seed, self.run.started_at, processes.rank()))
        recent: dict[str, list[Tensor]] = {}
        for step in self.run.each_step(self.state, "tokenizers"):
            for group in self.optimizer.param_groups:
                group["lr"] = settings.learning_rate * cosine(step, settings.steps)
            for group in self.rate_optimizer.param_groups:
                group["lr"] = 1.5e-3 * cosine(step, settings.steps, floor=0.2)
            if step == settings.codebook_from:
                for member in self.family.members:
                    if not member.ready:
                        member.start()
            for name, value in self._step(step, rng).items():
                recent.setdefault(name, []).append(value)
            if (step + 1) % 100 == 0:
                used = {f"used-{member.name}": member.used() for member in self.family.members}
                means = {name: mean_of(values) for name, values in recent.items()}
                self.run.log(step=step + 1, seconds=self.run.seconds, **means, **used)
                recent.clear()

    def _step(self, step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        settings = self.settings
        image = self.photos.batch(self.batch, rng).to(self.device)
        adversarial = settings.adversarial > 0 and step >= settings.adversarial_from * settings.steps
        revive = (step + 1) % settings.revive_every == 0 and step < 0.6 * settings.steps
        with autocast(self.device):
            output, parts = self.family(image, revive)
            shares = [member.share / self.batch for member in self.family.members]
            commitment = torch.stack([w * part.commitment for w, part in zip(shares, parts, strict=True)]).sum()
            losses = {"l1": settings.l1 * (output - image).abs().mean(), "commitment": settings.commitment * commitment}
            for weight, term in self.perceptual:
                losses[term.name] = weight * term(output, image, rng)
            if settings.rate > 0 and step >= settings.rate_from and any(member.ready for member in self.family.members):
                losses["rate"] = settings.rate * self._bpp(parts, step)
            if adversarial:
                self.judge.requires_grad_(False)
                losses["adversarial"] = -settings.adversarial * self.judge(output).mean()
        self.optimizer.zero_grad(set_to_none=True)
        self.rate_optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        processes.average_gradients([*self.family.parameters(), *self.family.hyperpriors])
        torch.nn.utils.clip_grad_norm_(self.family.parameters(), 1.0)
        self.optimizer.step()
        if "rate" in losses:
            torch.nn.utils.clip_grad_norm_(self.family.hyperpriors, 1.0)
            self.rate_optimizer.step()
        self.average.update(self.family, step)
        if adversarial:
            losses["judge"] = train_judge(self.judge, self.judge_optimizer, image, output.detach())
        return losses

    def _bpp(self, parts: list[Quantized], step: int) -> Tensor:
        """Bits per pixel of the batch."""
        settings = self.settings
        ramp = min(
            1.0, (step + 1 - settings.rate_from) / max(1.0, settings.z_free * (settings.steps - settings.rate_from))
        )
        members = zip(self.family.members, parts, strict=True)
        bits = torch.stack([m.bits(part, settings.rate_mode, ramp) for m, part in members if m.ready])
        return bits.sum() / (self.batch * settings.crop**2)
