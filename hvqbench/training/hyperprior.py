"""Training of the hyperprior (HyperVQ, arXiv 2512.07192): its keys, and its curriculum."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from hvqbench.training.index_model import IndexModelTraining
from hvqbench.vq.base import BaseTokenizer
from hvqbench.vq.models.pyramid import Hyperpriors


@dataclass(frozen=True)
class HyperpriorTraining(IndexModelTraining):
    """Keys of a hyperprior's ``train.toml``, besides those of every index model.

    ``start`` is a ``hyperprior.safetensors``, as joint training of the tokenizer leaves one behind, too; networks that
    it lacks (the context's) start without effect. ``width``, ``z_channels``, ``context``, ``head`` and ``bias`` are
    those of :class:`~hvqbench.vq.models.hyperprior.HyperpriorConfig`; ``conditional`` says whether the hyperpriors of a
    pyramid's finer grids see the coarser ones. Over the fraction ``z_free`` of the steps the price of z's bits rises
    from nothing to full.
    """

    width: int = 96
    z_channels: int = 6
    context: bool = False
    head: Literal["anchor", "free"] = "anchor"
    bias: bool = True
    conditional: bool = True
    z_free: float = 0.3

    kind: ClassVar[str] = "hyperprior"
    file: ClassVar[str] = "hyperprior.safetensors"

    def network(self, tokenizer: BaseTokenizer) -> Hyperpriors:
        shape = {key: getattr(self, key) for key in ("width", "z_channels", "context", "head", "bias")}
        return Hyperpriors.of(tokenizer, self.conditional, **shape)

    def load(self, path: Path) -> Hyperpriors:
        return Hyperpriors.load(path)[0]

    def curriculum(self, step: int, network: Hyperpriors, grids: int) -> tuple[float, int]:
        """z is nearly free at first: at full price it would die before the synthesis has learned to read it.

        A continued hyperprior knows it all.
        """
        done = 1.0 if self.start else min(1.0, (step + 1) / max(1.0, self.z_free * self.steps))
        return done, network.levels(done)

    def parameters(self, network: Hyperpriors) -> int:
        """A free head replaces the anchors' parameters and their bias."""
        idle: Any = ("head.", "bias", "context.") if self.head == "free" else ()
        named = [pair for part in network for pair in part.named_parameters()]
        return sum(p.numel() for name, p in named if p.requires_grad and not name.startswith(idle))
