"""Tokenizers in training over one shared autoencoder.

Each member quantizes its share of every batch, so that the compute spent on the autoencoder serves them all.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hvqbench.errors import HvqbenchError
from hvqbench.training import processes
from hvqbench.training.quantizer import CodebookTrainer
from hvqbench.vq.distance import nearest
from hvqbench.vq.models.hyperprior import Hyperprior, HyperpriorConfig
from hvqbench.vq.pee import RateMode
from hvqbench.vq.tokenizer import (
    TOKENIZER_FILE,
    Autoencoder,
    AutoencoderConfig,
    Tokenizer,
    TokenizerConfig,
    load_autoencoder,
    save_autoencoder,
)

AUTOENCODER_FILE = "autoencoder.safetensors"
COLLECTED_PER_CODEWORD = 4


@dataclass(frozen=True)
class Quantized:
    """One member's part of a batch: straight-through entries and latent B×D×h×w, indices B×S×h×w, commitment."""

    entries: Tensor
    latent: Tensor
    indices: Tensor | None
    commitment: Tensor


class Member:
    """A tokenizer in training: its codebooks' statistics, its hyperprior, and ``share`` images of every batch."""

    def __init__(self, name: str, tokenizer: Tokenizer, share: int, decay: float, whole: float) -> None:
        self.name, self.tokenizer, self.share, self.whole = name, tokenizer, share, whole
        config = tokenizer.config
        self.codebooks = [CodebookTrainer(codebook, decay) for codebook in tokenizer.codebooks]
        shape = HyperpriorConfig(config.dim, config.codewords, config.stages)
        self.hyperprior = Hyperprior(shape).to(tokenizer.codebooks.device)
        self.ready = self.frozen = False
        self.collected: list[Tensor] = []

    def quantize(self, latent: Tensor, revive: bool) -> Quantized:
        """Quantize a latent B×D×h×w and move the codebooks, unless frozen; before :meth:`start`, it passes unchanged.

        Of a residual quantizer's stages, each image keeps all with probability ``whole``, else a random number of the
        first ones, so that any prefix can be decoded.
        """
        batch, dim, height, width = latent.shape
        flat = latent.permute(0, 2, 3, 1).reshape(-1, dim)
        if not self.ready:
            self._collect(flat.detach())
            return Quantized(latent, latent, None, latent.new_zeros(()))
        left, total, indices, commitment = flat.detach(), torch.zeros_like(flat), [], latent.new_zeros(())
        stages = len(self.codebooks)
        kept = torch.where(torch.rand(batch) < self.whole, stages, torch.randint(1, stages + 1, (batch,)))
        kept = kept.to(latent.device).repeat_interleave(height * width)[:, None]
        for stage, trainer in enumerate(self.codebooks):
            chosen = nearest(left, trainer.codebook)
            entry = trainer.codebook[chosen].clone()
            if not self.frozen:
                trainer.update(left, chosen)
                if revive:
                    trainer.revive(left)
            total = total + entry * (stage < kept)
            left = left - entry
            indices.append(chosen.view(batch, height, width))
        commitment = functional.mse_loss(flat, total)
        entries = (flat + (total - flat).detach()).view(batch, height, width, dim).permute(0, 3, 1, 2)
        return Quantized(entries, latent, torch.stack(indices, 1), commitment)

    def _collect(self, latents: Tensor) -> None:
        self.collected.append(latents.float().clone())
        if len(self.collected) * len(latents) > COLLECTED_PER_CODEWORD * self.tokenizer.config.codewords:
            del self.collected[0]

    @torch.no_grad()
    def start(self) -> None:
        """Codebooks by k-means over the collected latents, each stage over what those before it left."""
        data, per_batch = torch.cat(self.collected), len(self.collected[-1]) * processes.count()
        for trainer in self.codebooks:
            trainer.start(data, per_batch)
            data = data - trainer.codebook[nearest(data, trainer.codebook)]
        self.collected, self.ready = [], True

    def bits(self, part: Quantized, mode: RateMode, ramp: float) -> Tensor:
        """Code length in bits of a batch's indices and z, differentiable in the latent.

        *ramp*, from 0 to 1, scales the gradient that reaches the latent and the price of z: a hyperprior that has yet
        to learn would pull the latents anywhere, and z would die before the synthesis has learned to read it.
        """
        assert part.indices is not None
        codebooks = self.tokenizer.codebooks
        if not self.hyperprior.bias.any():
            self.hyperprior.start_static(torch.stack([trainer.counts for trainer in self.codebooks]), codebooks)
        still = part.latent.detach()
        bits, z_bits = self.hyperprior(still + ramp * (part.latent - still), part.indices, codebooks, mode)
        return bits.sum() + ramp * z_bits

    def used(self) -> float:
        """Share of the codewords that are used at least a twentieth as often as the mean."""
        counts = torch.cat([trainer.counts / trainer.counts.mean() for trainer in self.codebooks])
        return float((counts > 0.05).float().mean())

    def state(self) -> dict[str, Any]:
        return {
            "ready": self.ready,
            "collected": self.collected,
            "codebooks": [trainer.state() for trainer in self.codebooks],
            "hyperprior": self.hyperprior.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.ready = state["ready"]
        self.collected = [latents.to(self.tokenizer.codebooks.device) for latents in state.get("collected", [])]
        self.hyperprior.load_state_dict(state["hyperprior"])
        for trainer, values in zip(self.codebooks, state["codebooks"], strict=True):
            trainer.restore(values)


class Family(nn.Module):
    """The autoencoder and its members, the coarsest first, as one set of tensors without repetition."""

    def __init__(
        self, autoencoder: Mapping[str, Any], members: tuple[Mapping[str, Any], ...], start: Path | None, device: str
    ) -> None:
        super().__init__()
        self.autoencoder = Autoencoder(AutoencoderConfig.parse(autoencoder))
        if start:
            self.autoencoder.load_state_dict(load_autoencoder(start / AUTOENCODER_FILE).state_dict())
        self.autoencoder.to(device)
        unsorted = [self._member(dict(values), start, device) for values in members]
        self.members = sorted(unsorted, key=lambda member: -member.tokenizer.config.factor)
        self.tokenizers = nn.ModuleDict({member.name: member.tokenizer for member in self.members})
        self.hyperpriors = [parameter for member in self.members for parameter in member.hyperprior.parameters()]

    def _member(self, values: dict[str, Any], start: Path | None, device: str) -> Member:
        name, share = values.pop("name"), values.pop("share", 1)
        decay, whole = values.pop("decay", 0.99), values.pop("whole", 0.5)
        try:
            tokenizer = Tokenizer(TokenizerConfig(**values), self.autoencoder).to(device)
        except TypeError as error:
            raise HvqbenchError(f"tokenizer {name!r} of the configuration: {error}; correct its keys") from None
        member = Member(name, tokenizer, share, decay, whole)
        file = start / name / TOKENIZER_FILE if start else None
        if file and file.is_file():
            own = {n: t for n, t in Tokenizer.load(file).state_dict().items() if not n.startswith("autoencoder.")}
            try:
                tokenizer.load_state_dict(own, strict=False)
            except RuntimeError:
                raise HvqbenchError(
                    f"{file}: {name!r} has another shape than the configuration gives it; correct either"
                ) from None
            for trainer in member.codebooks:
                trainer.adopt(per_batch=512)
            member.ready = True
        return member

    def freeze_encoders(self) -> None:
        """Keep encoders and codebooks, hence every index, as they are: only what paints the picture learns."""
        self.autoencoder.down.requires_grad_(False)
        for member in self.members:
            member.tokenizer.enter.requires_grad_(False)
            member.frozen = True

    def forward(self, image: Tensor, revive: bool) -> tuple[Tensor, list[Quantized]]:
        """A batch B×3×H×W, split among the members in order, to its reconstructions and each member's part."""
        shares: dict[int, int] = {}
        for member in self.members:
            factor = member.tokenizer.config.factor
            shares[factor] = shares.get(factor, 0) + member.share
        features = {
            f: list(part.split([m.share for m in self._at(f)]))
            for f, part in self.autoencoder.encode(image, shares).items()
        }
        parts: list[Quantized] = []
        leaving: dict[int, list[Tensor]] = {}
        for member in self.members:
            factor = member.tokenizer.config.factor
            latent = member.tokenizer.enter(features[factor].pop(0)).float()
            parts.append(member.quantize(latent, revive))
            leaving.setdefault(factor, []).append(member.tokenizer.leave(parts[-1].entries))
        return self.autoencoder.decode({f: torch.cat(values) for f, values in leaving.items()}).float(), parts

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """As usual, but the autoencoder that the tokenizers share appears once."""
        return {n: t for n, t in super().state_dict(*args, **kwargs).items() if not _repeated(n)}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """What :meth:`state_dict` gave."""
        missing, unexpected = super().load_state_dict(state_dict, strict=False, assign=assign)
        wrong = [*unexpected, *(name for name in missing if not _repeated(name))]
        if wrong:
            raise HvqbenchError(f"the checkpoint is of other tokenizers (tensor {wrong[0]}): delete it to start afresh")

    def _at(self, factor: int) -> Iterator[Member]:
        return (member for member in self.members if member.tokenizer.config.factor == factor)

    def export(self, out: Path, weights: Mapping[str, Tensor]) -> list[Path]:
        """Write the autoencoder and every member's tokenizer from *weights*, a state of this module."""
        whole = copy.deepcopy(self).cpu()
        whole.load_state_dict(weights)
        save_autoencoder(whole.autoencoder, out / AUTOENCODER_FILE)
        paths = self.paths(out)
        for member, path in zip(whole.members, paths, strict=True):
            member.tokenizer.save(path, out / AUTOENCODER_FILE)
        return paths

    def paths(self, out: Path) -> list[Path]:
        """Where :meth:`export` writes the tokenizers."""
        return [out / member.name / TOKENIZER_FILE for member in self.members]


def _repeated(name: str) -> bool:
    return name.startswith("tokenizers.") and ".autoencoder." in name
