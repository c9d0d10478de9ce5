"""The adversarial term that a tokenizer is trained on: a PatchGAN."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hvqbench.training import processes
from hvqbench.training.loop import autocast


class PatchDiscriminator(nn.Sequential):
    """PatchGAN (arXiv 1611.07004): a realness score per overlapping patch, B×3×H×W to B×1×H/8×W/8."""

    def __init__(self, width: int = 48) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for scale in (1, 2):
            layers += [nn.Conv2d(width * scale, 2 * width * scale, 4, 2, 1), nn.GroupNorm(8, 2 * width * scale)]
            layers += [nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(4 * width, 1, 3, 1, 1))


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's hinge loss (arXiv 1705.02894)."""
    return 0.5 * (functional.relu(1 - real).mean() + functional.relu(1 + fake).mean())


def train_judge(judge: PatchDiscriminator, optimizer: torch.optim.Optimizer, image: Tensor, output: Tensor) -> Tensor:
    """One step of the discriminator on photos and what was painted of them, both B×3×H×W; its loss."""
    judge.requires_grad_(True)
    with autocast(str(image.device)):
        loss = hinge_loss(judge(image).float(), judge(output).float())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    processes.average_gradients(judge.parameters())
    optimizer.step()
    return loss
