"""Training of a tokenizer: reconstruction, commitment, (late) adversarial and (later) rate loss.

With ``rate`` > 0 a hyperprior is trained beside the tokenizer from step ``rate_from`` on, and the gradient of its code
length reaches the encoder (joint rate-distortion training). ``hvqbench train index-model`` then continues with that
hyperprior on the finished tokenizer.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hvqbench.training.card import tokenizer_on_kodak, write_card
from hvqbench.training.loop import Average, Run, autocast, cosine, mean_of, read_config
from hvqbench.training.losses import PatchDiscriminator, PerceptualLoss, hinge_loss
from hvqbench.training.photos import Photos
from hvqbench.training.quantizer import CodebookTrainer
from hvqbench.vq.hyperprior import Hyperprior, HyperpriorConfig
from hvqbench.vq.pee import straight_through_bits
from hvqbench.vq.tokenizer import Tokenizer, TokenizerConfig, nearest


@dataclass(frozen=True)
class TokenizerTraining:
    """Keys of a tokenizer's ``train.toml``.

    ``l1`` weighs the mean absolute error on [-1, 1]; ``perceptual`` lists LPIPS terms (``net``, ``weight`` and
    optionally ``crops``, ``window``); ``adversarial`` is the PatchGAN's weight, on after the fraction
    ``adversarial_from`` of the steps; ``rate`` multiplies bits per pixel from step ``rate_from`` on, and over the
    fraction ``z_free`` of the steps that are left the price of z's bits rises from nothing to full.
    """

    model: dict[str, Any] = field(default_factory=dict)
    steps: int = 5000
    batch: int = 8
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
    z_free: float = 0.3
    codebook_from: int = 300
    revive_every: int = 50


def train_tokenizer(config: Path, data: Path, out: Path, device: str = "cpu", **overrides: Any) -> Path:
    """Train, or continue to train, the tokenizer of *config* on the photos of *data*; returns the weights' path.

    *out* receives ``checkpoint.pt`` and ``log.jsonl`` while it runs, ``tokenizer.safetensors`` (with joint training
    ``hyperprior.safetensors`` too) at every checkpoint, and a model card at the end.
    """
    settings = read_config(TokenizerTraining, config, overrides)
    trainer = _Trainer(settings, Run(out, settings.steps), Photos(data, settings.crop), device)
    trainer.train()
    path = trainer.export()
    write_card(trainer.run, f"Tokenizer {out.name}", settings, data, device, tokenizer_on_kodak(Tokenizer.load(path)))
    return path


class _Trainer:
    def __init__(self, settings: TokenizerTraining, run: Run, photos: Photos, device: str) -> None:
        self.settings, self.run, self.photos, self.device = settings, run, photos, device
        torch.manual_seed(settings.seed)
        self.model = Tokenizer(TokenizerConfig.parse(settings.model)).to(device)
        self.model.to(memory_format=torch.channels_last)
        self.codebook = CodebookTrainer(self.model.codebook)
        self.average = Average(self.model)
        terms = [dict(term) for term in settings.perceptual]
        self.perceptual = [(term.pop("weight"), PerceptualLoss(**term).to(device)) for term in terms]
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), settings.learning_rate, (0.9, 0.95), weight_decay=0.01
        )
        self.judge = PatchDiscriminator().to(device)
        self.judge_optimizer = torch.optim.AdamW(self.judge.parameters(), settings.learning_rate / 4, (0.5, 0.9))
        self.hyperprior = Hyperprior(HyperpriorConfig(self.model.config.dim, self.model.config.codewords)).to(device)
        self.rate_optimizer = torch.optim.AdamW(self.hyperprior.parameters(), 1.5e-3, (0.9, 0.95), weight_decay=0.01)
        state = run.restore()
        if state:
            self.hyperprior.load_state_dict(state["hyperprior"])
            self.rate_optimizer.load_state_dict(state["rate_optimizer"])
            self.model.load_state_dict(state["model"])
            self.average.state = {name: tensor.to(device) for name, tensor in state["average"].items()}
            self.optimizer.load_state_dict(state["optimizer"])
            self.judge.load_state_dict(state["judge"])
            self.judge_optimizer.load_state_dict(state["judge_optimizer"])
            self.codebook.restore(state["codebook"])

    def state(self) -> dict[str, Any]:
        self.export()
        return {
            "model": self.model.state_dict(),
            "average": self.average.state,
            "optimizer": self.optimizer.state_dict(),
            "judge": self.judge.state_dict(),
            "judge_optimizer": self.judge_optimizer.state_dict(),
            "codebook": self.codebook.state(),
            "hyperprior": self.hyperprior.state_dict(),
            "rate_optimizer": self.rate_optimizer.state_dict(),
        }

    def export(self) -> Path:
        averaged = Tokenizer(self.model.config)
        averaged.load_state_dict(self.average.state)
        path = self.run.out / "tokenizer.safetensors"
        averaged.save(path)
        if self.settings.rate > 0:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            copy.deepcopy(self.hyperprior).cpu().save(self.run.out / "hyperprior.safetensors", digest)
        return path

    def train(self) -> None:
        settings = self.settings
        # A generator per start: after a resume the crops differ from those before, which is all that is asked of them.
        rng = np.random.default_rng((settings.seed, self.run.started_at))
        recent: dict[str, list[Tensor]] = {}
        for step in self.run.each_step(self.state, "tokenizer"):
            for group in self.optimizer.param_groups:
                group["lr"] = settings.learning_rate * cosine(step, settings.steps)
            for group in self.rate_optimizer.param_groups:
                group["lr"] = 1.5e-3 * cosine(step, settings.steps, floor=0.2)
            for name, value in self._step(step, rng).items():
                recent.setdefault(name, []).append(value)
            if (step + 1) % 100 == 0:
                used = float((self.codebook.counts > 0.05 * self.codebook.counts.mean()).float().mean())
                means = {name: mean_of(values) for name, values in recent.items()}
                self.run.log(step=step + 1, seconds=self.run.seconds, codes_used=used, **means)
                recent.clear()

    def _step(self, step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        settings = self.settings
        image = self.photos.batch(settings.batch, rng).to(self.device)
        adversarial = settings.adversarial > 0 and step >= settings.adversarial_from * settings.steps
        with autocast(self.device):
            latent = self.model.encode(image).float()
            quantized, indices, commitment = self._quantize(latent, step)
            output = self.model.decoder(quantized).float()
            losses = {"l1": settings.l1 * (output - image).abs().mean(), "commitment": settings.commitment * commitment}
            for weight, term in self.perceptual:
                losses[f"lpips-{term.lpips.pnet_type}"] = weight * term(output, image, rng)
            if settings.rate > 0 and step >= settings.rate_from:
                # As in the index model's trainer: z is nearly free until the synthesis has learned to read it.
                ramp = settings.z_free * (settings.steps - settings.rate_from)
                bits = self._bits(latent, indices, z_price=min(1.0, (step + 1 - settings.rate_from) / max(1.0, ramp)))
                losses["rate"] = settings.rate * bits / (image.shape[0] * settings.crop**2)
            if adversarial:
                self.judge.requires_grad_(False)
                losses["adversarial"] = -settings.adversarial * self.judge(output).mean()
        self.optimizer.zero_grad(set_to_none=True)
        self.rate_optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        if "rate" in losses:
            torch.nn.utils.clip_grad_norm_(self.hyperprior.parameters(), 1.0)
            self.rate_optimizer.step()
        self.average.update(self.model, step)
        if adversarial:
            losses["judge"] = self._train_judge(image, output.detach())
        return losses

    def _bits(self, latent: Tensor, indices: Tensor, z_price: float) -> Tensor:
        """Code length in bits of a batch's indices and z, differentiable in the latent."""
        if not self.hyperprior.bias.any():
            self.hyperprior.start_static(self.codebook.counts, self.model.codebook)
        _, mean, log_precision, z_bits = self.hyperprior(latent, self.model.codebook)
        flat = latent.permute(0, 2, 3, 1).reshape(len(indices), -1)
        bias = self.hyperprior.bias
        return (
            straight_through_bits(flat, indices, mean, log_precision, self.model.codebook, bias).sum()
            + z_price * z_bits
        )

    def _quantize(self, latent: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Straight-through entries, indices and commitment loss; before the codebook exists, the latent itself."""
        batch, dim, height, width = latent.shape
        flat = latent.permute(0, 2, 3, 1).reshape(-1, dim)
        if not self.codebook.ready:
            self.codebook.collect(flat.detach())
            if step + 1 >= self.settings.codebook_from:
                self.codebook.start()
            return latent, torch.zeros(len(flat), dtype=torch.long, device=flat.device), latent.new_zeros(())
        indices = nearest(flat.detach(), self.model.codebook)
        entries = self.model.codebook[indices].clone()
        self.codebook.update(flat.detach(), indices)
        if (step + 1) % self.settings.revive_every == 0 and step < 0.6 * self.settings.steps:
            self.codebook.revive(flat.detach())
        commitment = functional.mse_loss(flat, entries)
        straight_through = flat + (entries - flat).detach()
        return straight_through.view(batch, height, width, dim).permute(0, 3, 1, 2), indices, commitment

    def _train_judge(self, image: Tensor, output: Tensor) -> Tensor:
        self.judge.requires_grad_(True)
        with autocast(self.device):
            loss = hinge_loss(self.judge(image).float(), self.judge(output).float())
        self.judge_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.judge_optimizer.step()
        return loss
