"""LPIPS on a chosen backbone, or DISTS, as a loss: what tokenizers are trained on, and what a search descends.

Choose backbones with the judges in mind, and more than one: a model learns the pattern that its only one does not see.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hvqbench.errors import HvqbenchError, closest
from hvqbench.metrics.dists import STABILITY
from hvqbench.metrics.networks import dists_network, import_torchvision, lpips_network


class PerceptualLoss(nn.Module):
    """LPIPS v0.1 (arXiv 1801.03924) or DISTS (arXiv 2004.07728), differentiable in its first argument.

    Parameters
    ----------
    net
        LPIPS' ``vgg``, ``alex`` or ``squeeze``, or ``dists``.
    crops
        How many crops of a batch are compared; 0 for all of them.
    window
        Side in pixels of a random window of each crop that is compared, at most the crop's own; 0 for the whole crop. A
        window keeps full resolution at a fraction of the price.
    """

    def __init__(self, net: str, crops: int = 0, window: int = 0) -> None:
        super().__init__()
        self.name = net if net == "dists" else f"lpips-{net}"
        self.crops, self.window = crops, window
        if net not in _NETWORKS:
            raise HvqbenchError(f"net = {net!r}: {closest(net, _NETWORKS)}known are {', '.join(_NETWORKS)}; correct it")
        self.network = _NETWORKS[net]()
        self.to(memory_format=torch.channels_last)

    def forward(self, output: Tensor, target: Tensor, rng: np.random.Generator) -> Tensor:
        """Mean distance of B×3×H×W in [-1, 1] to *target*."""
        if self.crops:
            output, target = output[: self.crops], target[: self.crops]
        if self.window:
            top, left = (rng.integers(0, max(1, side - self.window + 1)) for side in output.shape[-2:])
            rows, columns = slice(top, top + self.window), slice(left, left + self.window)
            output, target = output[..., rows, columns], target[..., rows, columns]
        return self.network(output, target).mean()


class _DISTS(nn.Module):
    """DISTS of a batch, with sums in single precision whatever its convolutions run in.

    The package's own ``forward`` takes covariances as differences of means, which cancel in bfloat16.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = dists_network()

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """B×3×H×W in [-1, 1] twice to B distances (equations 5 to 7)."""
        network = self.network
        alpha, beta = network.alpha, network.beta
        total = alpha.sum() + beta.sum()
        weights = ((weight / total).split(network.chns, dim=1) for weight in (alpha, beta))
        with torch.no_grad():
            theirs = network.forward_once((target.float() + 1) / 2)
        distances = []
        for x, y, a, b in zip(network.forward_once((output.float() + 1) / 2), theirs, *weights, strict=True):
            x, y = x.float(), y.float()
            x_mean, y_mean = x.mean((2, 3), keepdim=True), y.mean((2, 3), keepdim=True)
            x, y = x - x_mean, y - y_mean
            x_var, y_var = x.square().mean((2, 3), keepdim=True), y.square().mean((2, 3), keepdim=True)
            texture = (x_mean - y_mean) ** 2 / (x_mean**2 + y_mean**2 + STABILITY)
            structure = (x - y).square().mean((2, 3), keepdim=True) / (x_var + y_var + STABILITY)
            distances.append((a * texture + b * structure).sum((1, 2, 3)))
        return torch.stack(distances).sum(0)


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


_NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "vgg": lambda: lpips_network("vgg"),
    "alex": lambda: lpips_network("alex"),
    "squeeze": _squeeze_network,
    "dists": _DISTS,
}
