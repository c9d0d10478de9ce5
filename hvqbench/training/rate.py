"""The rate in a tokenizer's loss: hyperpriors that learn beside it, and whose code length reaches its encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hvqbench.training import processes
from hvqbench.training.descent import Grids, Quantized
from hvqbench.vq.models.pyramid import Hyperpriors
from hvqbench.vq.pee import RateMode

LEARNING_RATE = 1.5e-3


class Rate:
    """The hyperpriors of *grids* in training."""

    def __init__(self, grids: Grids, device: str, start: Path | None = None) -> None:
        """They go on from the file *start*, or begin near the static code when they are first asked."""
        self.grids = grids
        self.hyperpriors = Hyperpriors.of(grids.tokenizer) if start is None else Hyperpriors.load(start)[0].train()
        self.hyperpriors.to(device)
        groups = self.hyperpriors.parameter_groups()
        self.optimizer = torch.optim.AdamW(groups, LEARNING_RATE, (0.9, 0.95), weight_decay=0.01)
        self.started = start is not None

    def state(self) -> dict[str, Any]:
        parts = {"hyperpriors": self.hyperpriors.state_dict(), "optimizer": self.optimizer.state_dict()}
        return {"started": self.started, **parts}

    def restore(self, state: dict[str, Any]) -> None:
        self.started = state["started"]
        self.hyperpriors.load_state_dict(state["hyperpriors"])
        self.optimizer.load_state_dict(state["optimizer"])

    def bpp(self, part: Quantized, present: Sequence[Tensor], pixels: int, mode: RateMode, ramp: float) -> Tensor:
        """Bits per pixel of those images of a batch (*pixels* each) that keep all grids; 0 where none does.

        *ramp*, from 0 to 1, scales the gradient that reaches the encoder and the price of z: a hyperprior that has yet
        to learn would pull the latents anywhere, and z would die before the synthesis has learned to read it.
        """
        codebooks = list(self.grids.tokenizer.codebooks)
        if not self.started:
            counts = [trainer.counts.cpu() for trainer in self.grids.codebooks]
            self.hyperpriors.start(counts, [codebook.cpu() for codebook in codebooks])
            self.started = True
        whole = torch.stack([mask.flatten(1).all(1) for mask in present]).all(0)
        if not bool(whole.any()):
            return torch.zeros((), device=whole.device)
        maps = [indices[whole] for indices in part.indices]
        targets = [target[whole] for target in part.targets]
        targets = [target.detach() + ramp * (target - target.detach()) for target in targets]
        bits = self.hyperpriors.bits(maps, codebooks, targets=targets, mode=mode)
        of_indices = torch.stack([costs.sum() for costs in bits["indices"]]).sum()
        return (of_indices + ramp * bits["z"]) / (int(whole.sum()) * pixels)

    def step(self) -> None:
        """Learn from the gradients that are there, and forget them."""
        processes.average_gradients(self.hyperpriors.parameters())
        torch.nn.utils.clip_grad_norm_(self.hyperpriors.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def save(self, path: Path, tokenizer: str) -> None:
        """Write the hyperpriors for the tokenizer with that digest."""
        self.hyperpriors.save(path, tokenizer)
