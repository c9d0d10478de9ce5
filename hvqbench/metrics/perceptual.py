"""LPIPS on a chosen backbone as a loss: what tokenizers are trained on, and what a search at encode time descends.

Choose backbones with the judges in mind, and more than one: a model learns the pattern that its only one does not see.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hvqbench.errors import HvqbenchError
from hvqbench.metrics.networks import import_torchvision, lpips_network


class PerceptualLoss(nn.Module):
    """LPIPS v0.1 (arXiv 1801.03924) through the package ``lpips``, differentiable in its first argument.

    Parameters
    ----------
    net
        ``vgg``, ``alex`` or ``squeeze``.
    crops
        How many crops of a batch are compared; 0 for all of them.
    window
        Side in pixels of a random window of each crop that is compared, at most the crop's own; 0 for the whole crop. A
        window keeps full resolution at a fraction of the price.
    """

    def __init__(self, net: str, crops: int = 0, window: int = 0) -> None:
        super().__init__()
        self.crops, self.window = crops, window
        self.lpips = _squeeze_network() if net == "squeeze" else lpips_network(net)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)

    def forward(self, output: Tensor, target: Tensor, rng: np.random.Generator) -> Tensor:
        """Mean LPIPS of B×3×H×W in [-1, 1] against *target*."""
        if self.crops:
            output, target = output[: self.crops], target[: self.crops]
        if self.window:
            top, left = (rng.integers(0, max(1, side - self.window + 1)) for side in output.shape[-2:])
            rows, columns = slice(top, top + self.window), slice(left, left + self.window)
            output, target = output[..., rows, columns], target[..., rows, columns]
        return self.lpips(output, target).mean()


def _squeeze_network() -> nn.Module:
    """LPIPS on SqueezeNet, which no metric of this benchmark judges with."""
    import_torchvision()
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips calls torchvision in a way that it has since renamed
        network = lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False).eval().requires_grad_(False)
    features = _squeeze_features()
    # lpips cuts torchvision's `features` into slices: sliceN.<index in features>.<…>
    names = {name: "features." + name.split(".", 1)[1] for name in network.net.state_dict()}
    network.net.load_state_dict({name: features[theirs] for name, theirs in names.items()})
    return network


def _squeeze_features() -> dict[str, Tensor]:
    """SqueezeNet 1.1: the official weights, else the copy under ``HVQBENCH_DATA/weights``."""
    copy = Path(os.environ.get("HVQBENCH_DATA", ".")) / "weights" / "squeezenet1_1_features.npz"
    if copy.is_file():
        with np.load(copy, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    from torchvision.models import SqueezeNet1_1_Weights

    try:
        return SqueezeNet1_1_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise HvqbenchError(
            f"SqueezeNet 1.1 cannot be downloaded ({error}): put {copy.name} into "
            "HVQBENCH_DATA/weights, or train on vgg"
        ) from None
